//! Tests of `json`.

use serde_json::json;

use super::*;

fn check(object: Value, patch: &Value, expected: Result<Value, &str>) {
    let applied = apply(object, patch.to_string().as_bytes()).map_err(|error| error.to_string());
    assert_eq!(applied, expected.map_err(str::to_owned), "{patch}");
}

#[test]
fn operations_change_objects_and_lists() {
    for (object, operation, expected) in [
        (json!({"a": 1}), json!({"op": "add", "path": "/b", "value": 2}), json!({"a": 1, "b": 2})),
        (json!({"a": [1, 3]}), json!({"op": "add", "path": "/a/1", "value": 2}), json!({"a": [1, 2, 3]})),
        (json!({"a": [1]}), json!({"op": "add", "path": "/a/-", "value": 2}), json!({"a": [1, 2]})),
        (json!({"a": [1, 2]}), json!({"op": "add", "path": "/a/-1", "value": 3}), json!({"a": [1, 2, 3]})),
        (json!({"a": 1}), json!({"op": "add", "path": "/b"}), json!({"a": 1, "b": null})),
        (json!({"a": 1, "b": 2}), json!({"op": "remove", "path": "/b"}), json!({"a": 1})),
        (json!({"a": [1, 2]}), json!({"op": "remove", "path": "/a/-1"}), json!({"a": [1]})),
        (json!({"a/b~": 1}), json!({"op": "remove", "path": "/a~1b~0"}), json!({})),
        (json!({"a": [1, 2]}), json!({"op": "replace", "path": "/a/0", "value": 3}), json!({"a": [3, 2]})),
        (json!({}), json!({"op": "replace", "path": "/a", "value": 3}), json!({"a": 3})),
        (json!({"a": 1}), json!({"op": "replace", "path": "", "value": {"b": 2}}), json!({"b": 2})),
        (
            json!({"a": {"b": 1}, "c": {}}),
            json!({"op": "move", "from": "/a/b", "path": "/c/d"}),
            json!({"a": {}, "c": {"d": 1}}),
        ),
        (json!({"a": [1, 2]}), json!({"op": "move", "from": "/a/0", "path": "/a/1"}), json!({"a": [2, 1]})),
        (json!({"a": 1}), json!({"op": "copy", "from": "/a", "path": "/b"}), json!({"a": 1, "b": 1})),
        (
            json!({"a": {"b": [1]}}),
            json!({"op": "test", "path": "/a", "value": {"b": [1]}}),
            json!({"a": {"b": [1]}}),
        ),
        (json!({}), json!({"op": "test", "path": "/a", "value": null}), json!({})),
        (json!({"a": 1}), json!({"op": "test", "path": "", "value": {"a": 1}}), json!({"a": 1})),
    ] {
        check(object, &json!([operation]), Ok(expected));
    }
    check(json!({"a": 1}), &Value::Null, Ok(json!({"a": 1})));
}

#[test]
fn what_does_not_apply_is_told_in_upstreams_words() {
    for (operation, expected) in [
        (
            json!({"op": "add", "path": "/x/y", "value": 1}),
            "add operation does not apply: doc is missing path: \"/x/y\": missing value",
        ),
        (
            json!({"op": "add", "path": "/a/5", "value": 1}),
            "error in add for path: '/a/5': Unable to access invalid index: 5: invalid index referenced",
        ),
        (
            json!({"op": "add", "path": "/a/x", "value": 1}),
            "error in add for path: '/a/x': value was not a proper array index: 'x': strconv.Atoi: parsing \"x\": invalid syntax",
        ),
        (json!({"op": "add", "value": 1}), "add operation failed to decode path: missing value"),
        (
            json!({"op": "remove", "path": "/x"}),
            "error in remove for path: '/x': Unable to remove nonexistent key: x: missing value",
        ),
        (
            json!({"op": "remove", "path": "/a/-3"}),
            "error in remove for path: '/a/-3': Unable to access invalid index: -3: invalid index referenced",
        ),
        (
            json!({"op": "remove", "path": ""}),
            "remove operation does not apply: doc is missing path: \"\": missing value",
        ),
        (
            json!({"op": "replace", "path": "/a/2", "value": 1}),
            "replace operation does not apply: doc is missing key: /a/2: missing value",
        ),
        (
            json!({"op": "replace"}),
            "replace operation failed to decode path: operation missing path field: missing value",
        ),
        (json!({"op": "replace", "path": "", "value": 1}), "replace operation value must be object or array"),
        (
            json!({"op": "move", "from": "/x", "path": "/y"}),
            "error in move for path: 'x': Unable to remove nonexistent key: x: missing value",
        ),
        (
            json!({"op": "move", "path": "/y"}),
            "move operation failed to decode from: operation, missing from field: missing value",
        ),
        (json!({"op": "test", "path": "/b", "value": 2}), "testing value /b failed: test failed"),
        (json!({"op": "test", "path": "/b"}), "testing value /b failed: test failed"),
        (
            json!({"op": "copy", "from": "/x/y", "path": "/b"}),
            "copy operation does not apply: doc is missing from path: /x/y: missing value",
        ),
        (json!({"op": "turn", "path": "/b"}), "Unexpected kind: turn"),
        (json!({}), "Unexpected kind: unknown"),
    ] {
        check(json!({"a": [1, 2], "b": 1}), &json!([operation]), Err(expected));
    }
}

#[test]
fn what_is_no_patch_is_refused() {
    let prefix = "error decoding patch: json: cannot unmarshal";
    for (patch, expected) in [
        (json!({}), "object into Go value of type []handlers.jsonPatchOp"),
        (json!(["x"]), "string into Go value of type handlers.jsonPatchOp"),
        (json!([{"op": "add", "path": 1}]), "number into Go struct field jsonPatchOp.path of type string"),
    ] {
        check(json!({}), &patch, Err(&format!("{prefix} {expected}")));
    }
    let many = json!(vec![json!({"op": "test", "path": "/a", "value": null}); MAX_OPERATIONS + 1]);
    let error = apply(json!({}), many.to_string().as_bytes()).unwrap_err();
    assert_eq!(error.to_string(), "The allowed maximum operations in a JSON patch is 10000, got 10001");
    assert_eq!(error.status().code, 413);
}

#[test]
fn copies_cannot_grow_or_nest_without_bound() {
    let double = json!([{"op": "add", "path": "/a", "value": "x".repeat(100)}]);
    let mut operations = double.as_array().unwrap().clone();
    operations.extend((0..100).map(|_| json!({"op": "copy", "from": "/a", "path": "/b/-"})));
    let wide = json!({"op": "copy", "from": "/b", "path": "/b/-"});
    operations.extend((0..40).map(|_| wide.clone()));
    let error =
        apply(json!({"b": []}), Value::from(operations).to_string().as_bytes()).unwrap_err().to_string();
    assert!(error.starts_with("Unable to complete the copy") || error == "exceeded max depth", "{error}");

    let nest = vec![json!({"op": "copy", "from": "/a", "path": "/a/b"}); 1000];
    check(json!({"a": {}}), &json!(nest), Err("exceeded max depth"));

    // A patch of many operations that nest nothing goes through.
    let flat = vec![json!({"op": "copy", "from": "/a", "path": "/b"}); 5000];
    check(json!({"a": 1}), &json!(flat), Ok(json!({"a": 1, "b": 1})));
}
