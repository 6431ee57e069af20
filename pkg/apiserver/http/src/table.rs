//! `Table`: objects as the rows that `kubectl get` prints.

use std::time::SystemTime;

use edgek_api::resource::Resource;
use edgek_api::table::Printer;
use edgek_apiserver_admission::fields::Fields;
use serde_json::{Value, json};

/// Whether a table names its columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Header {
    Columns,
    Omitted,
}

/// What of its object a row carries: the parameter `includeObject`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Include {
    Nothing,
    #[default]
    Metadata,
    Object,
}

impl Include {
    /// Reads the parameter; what is not known counts as not given.
    pub(crate) fn parse(text: &str) -> Self {
        match text {
            "None" => Self::Nothing,
            "Object" => Self::Object,
            _ => Self::Metadata,
        }
    }
}

/// The table of these objects of a resource.
pub(crate) fn of(resource: &Resource, objects: Vec<Value>, header: Header, include: Include) -> Value {
    let printer = Printer::of(&resource.group, &resource.kind);
    let now = SystemTime::now();
    let columns = match header {
        Header::Columns => json!(printer.columns()),
        Header::Omitted => Value::Null,
    };
    let rows: Vec<Value> = objects
        .into_iter()
        .map(|object| {
            let mut row = json!(printer.row(&object, now));
            row.set("object", included(object, include));
            row
        })
        .collect();
    json!({"apiVersion": "meta.k8s.io/v1", "columnDefinitions": columns, "kind": "Table", "metadata": {}, "rows": rows})
}

fn included(mut object: Value, include: Include) -> Value {
    match include {
        Include::Nothing => Value::Null,
        Include::Object => object,
        Include::Metadata => {
            let metadata = object.remove("metadata").unwrap_or_default();
            json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": metadata})
        }
    }
}
