//! A type as an OpenAPI definition, in the dialect of v2 or v3.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::description::Descriptions;
use crate::schema::{Alternative, Field, FieldKind, FreeForm, Schema, Type, TypeId};

/// What v2 and v3 say differently.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    V2,
    V3,
}

const EXTENSIONS: &str = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1";
const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";

/// A reference to a definition.
pub(super) fn reference(dialect: Dialect, name: &str) -> Value {
    let place = match dialect {
        Dialect::V2 => "#/definitions",
        Dialect::V3 => "#/components/schemas",
    };
    json!({ "$ref": format!("{place}/{name}") })
}

/// The names of the given definitions and of all that they refer to.
pub(super) fn closure(schema: &Schema, roots: impl IntoIterator<Item = String>) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut open: Vec<String> = roots.into_iter().collect();
    while let Some(name) = open.pop() {
        if let Some(id) = schema.by_name(&name) {
            let fields = &schema.get(id).fields;
            open.extend(
                fields.iter().filter_map(|f| refers_to(schema, &f.kind)).filter(|n| !names.contains(n)),
            );
        }
        if name.contains(".JSONSchemaPropsOr") {
            open.extend([format!("{EXTENSIONS}.JSONSchemaProps")].into_iter().filter(|n| !names.contains(n)));
        }
        names.insert(name);
    }
    names
}

/// Makes definitions.
pub(super) struct Definitions<'a> {
    pub(super) schema: &'a Schema,
    pub(super) dialect: Dialect,
    pub(super) descriptions: Descriptions<'a>,
    /// The groups and versions under which a type that is registered everywhere is listed.
    pub(super) group_versions: Vec<(&'a str, &'a str)>,
}

impl Definitions<'_> {
    /// The definition with that name; every name from `closure` has one.
    pub(super) fn get(&self, name: &str) -> Value {
        let mut definition = match self.schema.by_name(name) {
            Some(id) => self.message(self.schema.get(id)),
            None => special(self.dialect, name),
        };
        if let (Some(prose), Some(entries)) = (self.descriptions.get(name, ""), definition.as_object_mut()) {
            entries.insert("description".to_owned(), prose);
        }
        definition
    }

    fn message(&self, message_type: &Type) -> Value {
        let mut out = Map::new();
        out.insert("type".to_owned(), json!("object"));
        let property = |field: &Field| {
            let prose = self.descriptions.get(&message_type.name, &field.name);
            (field.name.clone().into_owned(), property(self.schema, self.dialect, field, prose))
        };
        let properties: Map<String, Value> = message_type.fields.iter().map(property).collect();
        if !properties.is_empty() {
            out.insert("properties".to_owned(), Value::Object(properties));
        }
        let required: Vec<&str> =
            message_type.fields.iter().filter(|f| f.required).map(|f| &*f.name).collect();
        if !required.is_empty() {
            out.insert("required".to_owned(), json!(required));
        }
        let kinds = self.kinds(message_type);
        if !kinds.is_empty() {
            out.insert("x-kubernetes-group-version-kind".to_owned(), Value::Array(kinds));
        }
        if message_type.atomic {
            out.insert("x-kubernetes-map-type".to_owned(), json!("atomic"));
        }
        if let Some(unions) = message_type.unions.as_deref().and_then(|text| serde_json::from_str(text).ok())
        {
            out.insert("x-kubernetes-unions".to_owned(), unions);
        }
        Value::Object(out)
    }

    fn kinds(&self, message_type: &Type) -> Vec<Value> {
        let entry = |group: &str, version: &str, kind: &str| json!({"group": group, "kind": kind, "version": version});
        match &*message_type.kinds {
            [kind] if message_type.every_group => {
                self.group_versions.iter().map(|(group, version)| entry(group, version, &kind.kind)).collect()
            }
            kinds => kinds.iter().map(|k| entry(&k.group, &k.version, &k.kind)).collect(),
        }
    }
}

fn property(schema: &Schema, dialect: Dialect, field: &Field, prose: Option<Value>) -> Value {
    let default = field.default().filter(|_| dialect == Dialect::V3);
    let mut out = kind(schema, dialect, &field.kind);
    if field.values().next().is_some()
        && let Some(entries) = innermost(&mut out).as_object_mut()
    {
        entries.insert("enum".to_owned(), field.values().collect());
    }
    let Some(entries) = out.as_object_mut() else { return out };
    // Nothing may stand beside a $ref in v3.
    if dialect == Dialect::V3 && entries.contains_key("$ref") && (default.is_some() || prose.is_some()) {
        let reference = Value::Object(std::mem::take(entries));
        entries.insert("allOf".to_owned(), json!([reference]));
    }
    let mut add = |key: &str, value: Value| entries.insert(key.to_owned(), value);
    if let Some(prose) = prose {
        add("description", prose);
    }
    if let Some(default) = default.and_then(|text| serde_json::from_str(text).ok()) {
        add("default", default);
    }
    if let Some(list_type) = field.list_type() {
        add("x-kubernetes-list-type", json!(list_type.as_str()));
    }
    if !field.map_keys().is_empty() {
        add("x-kubernetes-list-map-keys", json!(field.map_keys()));
    }
    if let Some(map_type) = field.map_type() {
        add("x-kubernetes-map-type", json!(map_type));
    }
    if let Some(key) = field.patch_key() {
        add("x-kubernetes-patch-merge-key", json!(key));
    }
    if let Some(strategy) = field.patch_strategy().as_str() {
        add("x-kubernetes-patch-strategy", json!(strategy));
    }
    out
}

/// What a property is, or holds as a list or map.
fn innermost(property: &mut Value) -> &mut Value {
    for inner in ["items", "additionalProperties"] {
        if property.get(inner).is_some() {
            return innermost(&mut property[inner]);
        }
    }
    property
}

fn kind(schema: &Schema, dialect: Dialect, field_kind: &FieldKind) -> Value {
    match field_kind {
        FieldKind::Bool => json!({"type": "boolean"}),
        FieldKind::Int32 => json!({"type": "integer", "format": "int32"}),
        FieldKind::Int64 => json!({"type": "integer", "format": "int64"}),
        FieldKind::Double => json!({"type": "number", "format": "double"}),
        FieldKind::String => json!({"type": "string"}),
        FieldKind::Bytes => json!({"type": "string", "format": "byte"}),
        FieldKind::Strings => json!({"type": "array", "items": {"type": "string"}}),
        FieldKind::List(item) => json!({"type": "array", "items": kind(schema, dialect, item)}),
        FieldKind::Map(value) => {
            json!({"type": "object", "additionalProperties": kind(schema, dialect, value)})
        }
        other => refers_to(schema, other).map_or(Value::Null, |name| reference(dialect, &name)),
    }
}

/// The definition that a kind, its elements or its values refer to.
fn refers_to(schema: &Schema, kind: &FieldKind) -> Option<String> {
    Some(match kind {
        FieldKind::Message(id) => message_name(schema, *id),
        FieldKind::List(inner) | FieldKind::Map(inner) => return refers_to(schema, inner),
        FieldKind::Time => format!("{META}.Time"),
        FieldKind::MicroTime => format!("{META}.MicroTime"),
        FieldKind::Quantity => "io.k8s.apimachinery.pkg.api.resource.Quantity".to_owned(),
        FieldKind::IntOrString => "io.k8s.apimachinery.pkg.util.intstr.IntOrString".to_owned(),
        FieldKind::Json(FreeForm::RawExtension) => "io.k8s.apimachinery.pkg.runtime.RawExtension".to_owned(),
        FieldKind::Json(FreeForm::FieldsV1) => format!("{META}.FieldsV1"),
        FieldKind::Json(FreeForm::Any) => format!("{EXTENSIONS}.JSON"),
        FieldKind::SchemaOr(Alternative::Bool, _) => format!("{EXTENSIONS}.JSONSchemaPropsOrBool"),
        FieldKind::SchemaOr(Alternative::Schemas, _) => format!("{EXTENSIONS}.JSONSchemaPropsOrArray"),
        FieldKind::SchemaOr(Alternative::Strings, _) => format!("{EXTENSIONS}.JSONSchemaPropsOrStringArray"),
        FieldKind::Bool
        | FieldKind::Int32
        | FieldKind::Int64
        | FieldKind::Double
        | FieldKind::String
        | FieldKind::Bytes
        | FieldKind::Strings => return None,
    })
}

fn message_name(schema: &Schema, id: TypeId) -> String {
    schema.get(id).name.clone().into_owned()
}

/// The definitions of what is no message.
fn special(dialect: Dialect, name: &str) -> Value {
    match (name.rsplit('.').next().unwrap_or_default(), dialect) {
        ("Time" | "MicroTime", _) => json!({"type": "string", "format": "date-time"}),
        ("Quantity", Dialect::V2) => json!({"type": "string"}),
        ("Quantity", Dialect::V3) => json!({"oneOf": [{"type": "string"}, {"type": "number"}]}),
        ("IntOrString", Dialect::V2) => json!({"type": "string", "format": "int-or-string"}),
        ("IntOrString", Dialect::V3) => {
            json!({"format": "int-or-string", "oneOf": [{"type": "integer"}, {"type": "string"}]})
        }
        ("RawExtension" | "FieldsV1", _) => json!({"type": "object"}),
        _ => json!({}),
    }
}
