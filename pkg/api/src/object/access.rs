//! Accessors on decoded objects by dotted paths of field names. Absent, null and wrongly typed read as empty.

use serde_json::{Map, Value};

/// The object's metadata, made when absent or not an object.
pub fn metadata_mut(object: &mut Value) -> &mut Map<String, Value> {
    map_mut(map_mut(object).entry("metadata").or_insert(Value::Null))
}

/// `metadata.name`, or empty.
pub fn name(object: &Value) -> &str {
    text(object, "metadata.name")
}

/// `metadata.namespace`, or empty.
pub fn namespace(object: &Value) -> &str {
    text(object, "metadata.namespace")
}

/// The value at a dotted path, such as `spec.nodeName`; `None` when absent or null.
pub fn get<'a>(object: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(object, |value, field| value.get(field)).filter(|value| !value.is_null())
}

/// The text at a dotted path, or empty.
pub fn text<'a>(object: &'a Value, path: &str) -> &'a str {
    get(object, path).and_then(Value::as_str).unwrap_or_default()
}

/// The integer at a dotted path.
pub fn number(object: &Value, path: &str) -> Option<i64> {
    get(object, path).and_then(Value::as_i64)
}

/// The list at a dotted path, or an empty one.
pub fn items<'a>(object: &'a Value, path: &str) -> &'a [Value] {
    get(object, path).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// Sets the value at a dotted path; objects on the way are made, and whatever else stands there is replaced.
pub fn set(object: &mut Value, path: &str, value: impl Into<Value>) {
    let target =
        path.split('.').fold(object, |value, field| map_mut(value).entry(field).or_insert(Value::Null));
    *target = value.into();
}

fn map_mut(value: &mut Value) -> &mut Map<String, Value> {
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    value.as_object_mut().expect("made an object above")
}
