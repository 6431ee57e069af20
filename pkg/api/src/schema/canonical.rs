//! The one place that says what canonical JSON holds, so that an object is the same however it came (JSON, YAML,
//! protobuf): what a Go struct would keep of it, minus nulls. Every codec builds messages with `insert` and
//! `complete`.
//!
//! - A null, and an empty list, map or byte string, is left out (protobuf can't tell it from none; upstream prints
//!   `null` or `[]` for the few such fields without `omitempty`).
//! - A zero in a `Presence::NonZero` field is left out.
//! - A missing `Presence::Always` field gets its zero: `resources: {}`, `status: {}`, `divisor: "0"`.

use serde_json::{Map, Value};

use super::{Field, FieldKind, Presence, Schema, Type};

/// Puts a decoded field into its message unless canonical JSON leaves it out.
pub fn insert(message: &mut Map<String, Value>, field: &Field, value: Value) {
    if keeps(field, &value) {
        message.insert(field.name.clone().into_owned(), value);
    }
}

/// Adds the fields that canonical JSON always holds. To be called when all given fields are in.
pub fn complete(schema: &Schema, message_type: &Type, message: &mut Map<String, Value>) {
    for field in message_type.always() {
        if message.contains_key(&*field.name) {
            continue;
        }
        if let Some(value) = zero(schema, &field.kind) {
            message.insert(field.name.clone().into_owned(), value);
        }
    }
}

/// The zero of a kind; `None` where canonical JSON leaves it out.
pub fn zero(schema: &Schema, kind: &FieldKind) -> Option<Value> {
    Some(match kind {
        FieldKind::Bool => Value::Bool(false),
        FieldKind::Int32 | FieldKind::Int64 | FieldKind::Double | FieldKind::IntOrString => Value::from(0),
        FieldKind::String => Value::from(""),
        FieldKind::Quantity => Value::from("0"),
        FieldKind::Message(id) => {
            let mut message = Map::new();
            complete(schema, schema.get(*id), &mut message);
            Value::Object(message)
        }
        FieldKind::Bytes
        | FieldKind::Time
        | FieldKind::MicroTime
        | FieldKind::Json(_)
        | FieldKind::Strings
        | FieldKind::SchemaOr(..)
        | FieldKind::List(_)
        | FieldKind::Map(_) => return None,
    })
}

fn keeps(field: &Field, value: &Value) -> bool {
    let collection =
        matches!(field.kind, FieldKind::List(_) | FieldKind::Map(_) | FieldKind::Bytes | FieldKind::Strings);
    if collection || field.presence == Presence::NonZero { !is_zero(value) } else { !value.is_null() }
}

fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(given) => !given,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(entries) => entries.is_empty(),
    }
}
