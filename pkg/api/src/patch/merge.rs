//! JSON merge patch, RFC 7386: fields of the patch replace those of the object, null removes them. As upstream's
//! library, nulls also vanish from objects inside lists of the patch.

use serde_json::{Map, Value};

use super::{Error, decode, kind_of};

/// Applies a merge patch to an object.
///
/// # Errors
/// When the patch is not a JSON object.
pub fn apply(object: Value, patch: &[u8]) -> Result<Value, Error> {
    let mut object = object;
    match decode(patch)? {
        Value::Object(patch) => merge(&mut object, patch),
        Value::Null => return Err(Error::Malformed("Invalid JSON Patch".to_owned())),
        other => {
            return Err(Error::Malformed(format!(
                "error decoding patch: json: cannot unmarshal {} into Go value of type map[string]interface {{}}",
                kind_of(&other)
            )));
        }
    }
    Ok(object)
}

fn merge(target: &mut Value, patch: Map<String, Value>) {
    let Value::Object(fields) = target else {
        let mut patch = Value::Object(patch);
        prune(&mut patch);
        *target = patch;
        return;
    };
    for (key, change) in patch {
        match (fields.get_mut(&key), change) {
            (_, Value::Null) => drop(fields.remove(&key)),
            (Some(field @ Value::Object(_)), Value::Object(change)) => merge(field, change),
            (_, mut change) => {
                prune(&mut change);
                fields.insert(key, change);
            }
        }
    }
}

/// Takes away fields that are null.
fn prune(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, field| !field.is_null());
            fields.values_mut().for_each(prune);
        }
        Value::Array(items) => items.iter_mut().for_each(prune),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::needless_pass_by_value, reason = "JSON literals read best as values")]

    use serde_json::json;

    use super::*;

    fn check(object: Value, patch: Value, expected: Value) {
        let patch = patch.to_string();
        let once = apply(object, patch.as_bytes()).unwrap();
        assert_eq!(once, expected, "{patch}");
        assert_eq!(apply(once, patch.as_bytes()).unwrap(), expected, "{patch} again");
    }

    #[test]
    fn a_merge_patch_replaces_adds_and_removes_and_does_so_once() {
        check(json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"}));
        check(json!({"a": "b"}), json!({"b": "c"}), json!({"a": "b", "b": "c"}));
        check(json!({"a": "b", "b": "c"}), json!({"a": null}), json!({"b": "c"}));
        check(json!({"a": ["b"]}), json!({"a": "c"}), json!({"a": "c"}));
        check(json!({"a": {"b": "c"}}), json!({"a": {"b": "d", "c": null}}), json!({"a": {"b": "d"}}));
        check(json!({"a": "b"}), json!({"a": {"bb": {"ccc": null}}}), json!({"a": {"bb": {}}}));
        check(json!({"a": [{"b": 1}]}), json!({"a": [1, null, {"c": null}]}), json!({"a": [1, null, {}]}));
        check(json!({"a": {}}), json!({"a": [{"c": null}]}), json!({"a": [{}]}));
        check(json!({"e": null}), json!({"a": 1}), json!({"e": null, "a": 1}));
        check(json!([1]), json!({"a": null, "b": 1}), json!({"b": 1}));
    }

    #[test]
    fn what_is_no_object_is_refused() {
        let error = |patch: &str| apply(json!({}), patch.as_bytes()).unwrap_err();
        assert_eq!(error("{"), Error::NotJson);
        assert_eq!(error("null").to_string(), "Invalid JSON Patch");
        let list = "error decoding patch: json: cannot unmarshal array into Go value of type map[string]interface {}";
        assert_eq!(error("[]").to_string(), list);
        assert_eq!(error("[]").status().code, 400);
    }
}
