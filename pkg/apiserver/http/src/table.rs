//! `Table`: objects as the rows that `kubectl get` prints.

use std::time::SystemTime;

use edgek_api::resource::Resource;
use edgek_api::table::Printer;
use edgek_apiserver_admission::fields::Fields;
use edgek_apiserver_registry::Registry;
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

/// The table of these stored objects of a resource. Cells are of the stored version, as printers know no other; the
/// objects beside them are of the served one.
pub(crate) fn of<'a>(
    resource: &Resource,
    objects: impl IntoIterator<Item = &'a [u8]>,
    header: Header,
    include: Include,
) -> Value {
    let printer = Printer::of(&resource.group, &resource.kind);
    let now = SystemTime::now();
    let columns = match header {
        Header::Columns => json!(printer.columns()),
        Header::Omitted => Value::Null,
    };
    let rows: Vec<Value> = objects
        .into_iter()
        .map(|bytes| {
            let stored = Registry::stored(bytes);
            let mut row = json!(printer.row(&stored, now));
            row.set("object", included(Registry::serve(resource, stored), include));
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
