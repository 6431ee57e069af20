//! `Fields`: reading and defaulting the fields of an object as strategies do, where absent, null and the empty value
//! mean the same.

use serde_json::{Map, Value, map::Entry};

static NULL: Value = Value::Null;

/// Accessors on the JSON of an object or a part of it.
pub trait Fields {
    /// The value at a dotted path of field names; null when anything on the way is absent.
    fn at(&self, path: &str) -> &Value;
    /// The string at a path; empty when absent.
    fn text(&self, path: &str) -> &str;
    /// The number at a path.
    fn number(&self, path: &str) -> Option<i64>;
    /// The boolean at a path; false when absent.
    fn flag(&self, path: &str) -> bool;
    /// The items of the list at a path; none when absent.
    fn items(&self, path: &str) -> &[Value];
    /// The entries of the map at a path.
    fn entries(&self, path: &str) -> impl Iterator<Item = (&String, &Value)>;
    /// Whether the field at a path is present and not null.
    fn has(&self, path: &str) -> bool;
    /// The object in a field, made when absent.
    fn object_mut(&mut self, field: &str) -> &mut Value;
    /// The object at a path of existing fields.
    fn at_mut(&mut self, path: &str) -> Option<&mut Value>;
    /// The items of the list in a field, to change them.
    fn items_mut(&mut self, field: &str) -> std::slice::IterMut<'_, Value>;
    /// Sets a field.
    fn set(&mut self, field: &str, value: impl Into<Value>);
    /// Sets a field that is absent or null.
    fn default(&mut self, field: &str, value: impl Into<Value>);
    /// Sets a field that is absent, null, `""`, `0`, `[]` or `{}`.
    fn default_empty(&mut self, field: &str, value: impl Into<Value>);
    /// Takes a field away.
    fn remove(&mut self, field: &str) -> Option<Value>;
}

impl Fields for Value {
    fn at(&self, path: &str) -> &Value {
        path.split('.').try_fold(self, |value, field| value.get(field)).unwrap_or(&NULL)
    }

    fn text(&self, path: &str) -> &str {
        self.at(path).as_str().unwrap_or_default()
    }

    fn number(&self, path: &str) -> Option<i64> {
        self.at(path).as_i64()
    }

    fn flag(&self, path: &str) -> bool {
        self.at(path).as_bool().unwrap_or_default()
    }

    fn items(&self, path: &str) -> &[Value] {
        self.at(path).as_array().map_or(&[], Vec::as_slice)
    }

    fn entries(&self, path: &str) -> impl Iterator<Item = (&String, &Value)> {
        self.at(path).as_object().into_iter().flatten()
    }

    fn has(&self, path: &str) -> bool {
        !self.at(path).is_null()
    }

    fn object_mut(&mut self, field: &str) -> &mut Value {
        let value = map_mut(self).entry(field).or_insert(Value::Null);
        if !value.is_object() {
            *value = Value::Object(Map::new());
        }
        value
    }

    fn at_mut(&mut self, path: &str) -> Option<&mut Value> {
        path.split('.').try_fold(self, |value, field| value.get_mut(field).filter(|value| !value.is_null()))
    }

    fn items_mut(&mut self, field: &str) -> std::slice::IterMut<'_, Value> {
        self.get_mut(field).and_then(Value::as_array_mut).map(|items| items.iter_mut()).unwrap_or_default()
    }

    fn set(&mut self, field: &str, value: impl Into<Value>) {
        map_mut(self).insert(field.to_owned(), value.into());
    }

    fn default(&mut self, field: &str, value: impl Into<Value>) {
        match map_mut(self).entry(field) {
            Entry::Vacant(vacant) => drop(vacant.insert(value.into())),
            Entry::Occupied(mut present) if present.get().is_null() => drop(present.insert(value.into())),
            Entry::Occupied(_) => {}
        }
    }

    fn default_empty(&mut self, field: &str, value: impl Into<Value>) {
        if self.get(field).is_none_or(is_empty) {
            self.set(field, value);
        }
    }

    fn remove(&mut self, field: &str) -> Option<Value> {
        self.as_object_mut()?.remove(field)
    }
}

fn map_mut(value: &mut Value) -> &mut Map<String, Value> {
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    value.as_object_mut().expect("made an object above")
}

/// Whether a value is null, `""`, `0`, `false`, `[]` or `{}`.
pub fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(flag) => !flag,
        Value::Number(number) => number.as_i64() == Some(0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
    }
}

/// Equality as upstream's `apiequality.Semantic.DeepEqual` sees it on typed objects: an absent field equals an empty
/// one, at every depth.
pub fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Object(a), Value::Object(b)) => {
            a.iter().all(|(field, value)| same(value, b.get(field).unwrap_or(&NULL)))
                && b.iter().all(|(field, value)| a.contains_key(field) || vanishes(value))
        }
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        _ => a == b || (vanishes(a) && vanishes(b)),
    }
}

/// Whether a value means nothing at any depth.
fn vanishes(value: &Value) -> bool {
    match value {
        Value::Object(fields) => fields.values().all(vanishes),
        other => is_empty(other),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_absent_field_equals_an_empty_one() {
        assert!(same(&json!({"a": 1, "b": {}}), &json!({"a": 1, "c": null, "d": {"e": []}})));
        assert!(!same(&json!({"a": [1]}), &json!({"a": [2]})));
        assert!(!same(&json!({"a": "x"}), &json!({})));
    }

    #[test]
    fn defaults_fill_what_is_absent() {
        let mut value = json!({"a": null, "b": 0, "c": ""});
        value.default("a", 1);
        value.default("b", 1);
        value.default_empty("c", "d");
        assert_eq!(value, json!({"a": 1, "b": 0, "c": "d"}));
    }
}
