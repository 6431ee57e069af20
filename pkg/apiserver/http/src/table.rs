//! `Table`: objects as the rows that `kubectl get` prints.

use edgek_api::resource::Resource;
use edgek_apiserver_admission::fields::Fields;
use serde_json::{Value, json};

/// Whether a table names its columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Header {
    Columns,
    Omitted,
}

/// The table of these objects of a resource.
pub(crate) fn of(_resource: &Resource, objects: &[Value], header: Header) -> Value {
    let columns = match header {
        Header::Columns => json!([
            {"name": "Name", "type": "string", "format": "name", "description": "", "priority": 0},
            {"name": "Created At", "type": "date", "format": "", "description": "", "priority": 0},
        ]),
        Header::Omitted => Value::Null,
    };
    let rows: Vec<Value> = objects
        .iter()
        .map(|object| {
            let partial = json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": object.at("metadata")});
            json!({"cells": [object.text("metadata.name"), object.text("metadata.creationTimestamp")], "object": partial})
        })
        .collect();
    json!({"apiVersion": "meta.k8s.io/v1", "columnDefinitions": columns, "kind": "Table", "metadata": {}, "rows": rows})
}
