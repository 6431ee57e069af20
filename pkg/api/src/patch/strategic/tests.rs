//! Tests of `strategic`.

#![expect(clippy::needless_pass_by_value, reason = "JSON literals read best as values")]

use serde_json::json;

use super::*;

/// Patches are tried on pods, whose lists are merged in every way, and on deployments, whose strategy retains keys.
fn patched(kind: (&str, &str), object: &Value, patch: &Value) -> Result<Value, Error> {
    let schema = Schema::builtin();
    let id = schema.by_api_version(kind.0, kind.1).unwrap();
    apply(object.clone(), patch.to_string().as_bytes(), schema, id)
}

fn check(object: Value, patch: Value, expected: Value) {
    assert_eq!(patched(("v1", "Pod"), &object, &patch).unwrap(), expected, "{patch}");
}

fn containers(list: Value) -> Value {
    json!({"spec": {"containers": list}})
}

fn finalizers(list: Value) -> Value {
    json!({"metadata": {"finalizers": list}})
}

#[test]
fn fields_are_replaced_added_and_removed() {
    check(
        json!({"spec": {"nodeName": "a"}}),
        json!({"spec": {"nodeName": "b"}}),
        json!({"spec": {"nodeName": "b"}}),
    );
    check(json!({"spec": {"nodeName": "a"}}), json!({"spec": {"nodeName": null}}), json!({"spec": {}}));
    check(
        json!({}),
        json!({"spec": {"nodeName": null, "hostname": "h"}}),
        json!({"spec": {"hostname": "h"}}),
    );
    check(
        json!({"metadata": {"labels": {"a": "1", "b": "2"}}}),
        json!({"metadata": {"labels": {"a": null, "c": "3"}}}),
        json!({"metadata": {"labels": {"b": "2", "c": "3"}}}),
    );
    check(json!({"spec": {"nodeName": "a"}}), json!({"spec": "x"}), json!({"spec": "x"}));
    check(json!({"spec": null}), json!({"spec": {"nodeName": "a"}}), json!({"spec": {"nodeName": "a"}}));
}

#[test]
fn lists_are_merged_by_key_where_the_schema_says_so() {
    check(
        containers(json!([{"name": "a", "image": "1"}, {"name": "b", "image": "2"}])),
        containers(json!([{"name": "b", "image": "3"}, {"name": "c", "image": "4", "tty": null}])),
        containers(
            json!([{"name": "a", "image": "1"}, {"name": "b", "image": "3"}, {"name": "c", "image": "4"}]),
        ),
    );
    check(
        containers(json!([{"name": "a", "env": [{"name": "x", "value": "1"}], "command": ["a", "b"]}])),
        containers(json!([{"name": "a", "env": [{"name": "y", "value": "2"}], "command": ["c"]}])),
        containers(
            json!([{"name": "a", "env": [{"name": "y", "value": "2"}, {"name": "x", "value": "1"}], "command": ["c"]}]),
        ),
    );
    check(
        json!({"spec": {"tolerations": [{"key": "a"}]}}),
        json!({"spec": {"tolerations": [{"key": "b"}]}}),
        json!({"spec": {"tolerations": [{"key": "b"}]}}),
    );
    check(finalizers(json!(["a", "b"])), finalizers(json!(["b", "c"])), finalizers(json!(["a", "b", "c"])));
    check(containers(json!([])), containers(json!([])), containers(json!([])));
}

#[test]
fn patch_directives_replace_and_delete() {
    check(
        json!({"metadata": {"labels": {"a": "1"}}}),
        json!({"metadata": {"labels": {"$patch": "delete"}}}),
        json!({"metadata": {"labels": {}}}),
    );
    check(
        json!({"kind": "Pod", "spec": {}}),
        json!({"$patch": "replace", "kind": "X"}),
        json!({"kind": "X"}),
    );
    check(
        containers(json!([{"name": "a"}, {"name": "b"}])),
        containers(json!([{"$patch": "replace"}])),
        containers(json!([])),
    );
    check(
        containers(json!([{"name": "a"}])),
        containers(json!([{"$patch": "replace"}, {"name": "c"}, {"name": "b"}])),
        containers(json!([{"name": "c"}, {"name": "b"}])),
    );
    check(
        containers(json!([{"name": "a"}, {"name": "a"}, {"name": "b", "image": "x"}, {"name": "c"}])),
        containers(
            json!([{"name": "a", "$patch": "delete"}, {"name": "c", "$patch": "delete"}, {"name": "z", "$patch": "delete"}]),
        ),
        containers(json!([{"name": "b", "image": "x"}])),
    );
    // What is new is added without directives, and not at all where it is to be deleted.
    check(
        json!({}),
        json!({"metadata": {"labels": {"$patch": "delete"}}, "spec": {"containers": [{"name": "a", "$patch": "delete"}, {"name": "b"}]}}),
        json!({"metadata": {}, "spec": {"containers": [{"name": "b"}]}}),
    );
}

#[test]
fn values_are_deleted_from_lists_of_scalars() {
    let delete = |list: Value| json!({"metadata": {"$deleteFromPrimitiveList/finalizers": list}});
    check(finalizers(json!(["a", "b", "c"])), delete(json!(["b"])), finalizers(json!(["a", "c"])));
    check(finalizers(json!(["a"])), delete(json!(["x"])), finalizers(json!(["a"])));
    check(finalizers(Value::Null), delete(json!(["x"])), finalizers(Value::Null));
    check(json!({"metadata": {}}), delete(json!(["x"])), json!({"metadata": {}}));
    check(
        containers(json!([{"name": "a", "args": ["1", "2", "3"]}])),
        containers(json!([{"name": "a", "$deleteFromPrimitiveList/args": ["2"]}])),
        containers(json!([{"name": "a", "args": ["1", "3"]}])),
    );
}

#[test]
fn merged_lists_keep_the_order_of_the_patch_and_of_the_server() {
    let names = |list: &str| containers(list.chars().map(|c| json!({"name": c.to_string()})).collect());
    check(names("123"), names("312"), names("312"));
    check(names("123"), names("31"), names("231"));
    check(finalizers(json!([1, 2, 3])), finalizers(json!([3, 1])), finalizers(json!([2, 3, 1])));

    let ordered = |order: &str, list: &str| {
        let mut patch = names(list);
        patch["spec"]["$setElementOrder/containers"] = names(order)["spec"]["containers"].take();
        patch
    };
    check(names("13"), ordered("321", "31"), names("31"));
    check(names("123"), ordered("4321", "4"), names("4321"));
    // What only the server has stays in its order, before what stood after it.
    check(names("1a2b3"), ordered("132", ""), names("1ab32"));
    check(names("x12"), ordered("21", ""), names("x21"));
    check(json!({}), ordered("12", "12"), names("12"));
    let missing = json!({"spec": {"$setElementOrder/containers": [{"name": "1"}]}});
    check(json!({"spec": {}}), missing, json!({"spec": {}}));
    check(
        finalizers(json!([1, 3])),
        json!({"metadata": {"$setElementOrder/finalizers": [3, 2, 1]}}),
        finalizers(json!([3, 1])),
    );
    check(
        finalizers(json!(["a", "b"])),
        json!({"metadata": {"$setElementOrder/finalizers": ["c", "a"], "$deleteFromPrimitiveList/finalizers": ["b"], "finalizers": ["c"]}}),
        finalizers(json!(["c", "a"])),
    );
}

#[test]
fn retained_keys_drop_the_others() {
    let check = |strategy: Value, change: Value, expected: Result<Value, &str>| {
        let wrap = |strategy: &Value| json!({"spec": {"strategy": strategy}});
        let outcome = patched(("apps/v1", "Deployment"), &wrap(&strategy), &wrap(&change));
        let outcome = outcome.map_err(|error| error.to_string());
        assert_eq!(outcome, expected.map(|e| wrap(&e)).map_err(str::to_owned), "{change}");
    };
    let rolling = json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}});
    check(
        rolling.clone(),
        json!({"$retainKeys": ["type"], "type": "Recreate"}),
        Ok(json!({"type": "Recreate"})),
    );
    check(
        rolling.clone(),
        json!({"$retainKeys": ["type"], "type": "Recreate", "rollingUpdate": null}),
        Ok(json!({"type": "Recreate"})),
    );
    check(json!(null), json!({"$retainKeys": ["type"], "type": "Recreate"}), Ok(json!({"type": "Recreate"})));
    check(rolling.clone(), json!({"type": "X"}), Ok(json!({"type": "X", "rollingUpdate": {"maxSurge": 1}})));
    check(
        rolling.clone(),
        json!({"$retainKeys": [], "type": "X"}),
        Err("invalid patch format of retainKeys"),
    );
    check(rolling, json!({"$retainKeys": "type"}), Err("invalid patch format of retainKeys"));
}

#[test]
fn mistakes_are_told_in_upstreams_words() {
    let refused = |object: Value, patch: Value, code: u16, expected: &str| {
        let error = patched(("v1", "Pod"), &object, &patch).unwrap_err();
        assert_eq!(error.to_string(), expected, "{patch}");
        assert_eq!(error.status().code, code);
    };
    let one = || containers(json!([{"name": "a"}]));
    refused(
        one(),
        containers(json!([{"image": "b"}])),
        400,
        "map: map[image:b] does not contain declared merge key: name",
    );
    refused(
        one(),
        containers(json!(["x"])),
        400,
        "list element types are not identical: [[map[name:a]] [x]]",
    );
    refused(
        one(),
        containers(json!([{"name": "a", "$patch": "merge"}])),
        400,
        "merging lists cannot yet be specified in the patch",
    );
    refused(
        one(),
        json!({"$patch": "turn", "a": 1}),
        400,
        "unknown patch type: turn in map: map[$patch:turn a:1]",
    );
    refused(
        one(),
        json!({"spec": {"$setElementOrder/containers": "a"}}),
        400,
        "expected a []interface {}, but received a string",
    );
    refused(finalizers(json!([["a"]])), finalizers(json!(["a"])), 422, "lists of lists are not supported");
    let order = json!({"spec": {"$setElementOrder/containers": [{"name": "a"}, {"name": "b"}], "containers": [{"name": "b"}, {"name": "a"}]}});
    refused(
        one(),
        order,
        400,
        "The order in patch list:\n[map[name:b] map[name:a]]\n doesn't match $setElementOrder list:\n[map[name:a] map[name:b]]\n",
    );
    refused(
        one(),
        json!([]),
        400,
        "json: cannot unmarshal array into Go value of type map[string]interface {}",
    );
}

#[test]
fn a_patch_without_directives_changes_nothing_the_second_time() {
    let pod =
        containers(json!([{"name": "a", "ports": [{"containerPort": 1, "protocol": "TCP"}]}, {"name": "b"}]));
    for patch in [
        containers(json!([{"name": "b", "image": "x", "ports": [{"containerPort": 1}]}])),
        containers(
            json!([{"name": "c"}, {"name": "a", "ports": [{"containerPort": 2}, {"containerPort": 1, "name": "p"}]}]),
        ),
        json!({"spec": {"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}]}}),
        finalizers(json!(["b", "a"])),
    ] {
        let once = patched(("v1", "Pod"), &pod, &patch).unwrap();
        assert_eq!(patched(("v1", "Pod"), &once, &patch).unwrap(), once, "{patch}");
    }
}

#[test]
fn long_lists_are_merged_in_reasonable_time() {
    let long: Vec<_> = (0..50_000).map(|n| json!(format!("f{n}"))).collect();
    let reversed: Vec<_> = long.iter().rev().cloned().collect();
    check(
        finalizers(Value::from(long)),
        finalizers(Value::from(reversed.clone())),
        finalizers(Value::from(reversed)),
    );
}
