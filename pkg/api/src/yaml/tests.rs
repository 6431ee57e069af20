//! YAML bodies become what the same JSON would.

use serde_json::json;

use super::*;

fn decode_as(kind: &str, body: &str, unknown: Unknown) -> Result<Decoded, DecodeError> {
    let id = Schema::builtin().by_kind("", "v1", kind).unwrap();
    decode(body.as_bytes(), Schema::builtin(), id, unknown)
}

#[test]
fn yaml_is_json_by_other_means() {
    let body = "
apiVersion: v1
kind: Pod
metadata: &meta {name: a, labels: {1: one, true: 'yes'}}
spec:
  volumes:
  - name: v
    secret: {secretName: s, defaultMode: 0644}
  containers:
  - name: c
    image: \"busybox:1\"
    args: [\"1\", 'a b']
    ports: [{containerPort: 80}]
";
    let value = decode_as("Pod", body, Unknown::Strict).unwrap().value;
    assert_eq!(value["metadata"], json!({"name": "a", "labels": {"1": "one", "true": "yes"}}));
    assert_eq!(
        value["spec"]["volumes"],
        json!([{"name": "v", "secret": {"secretName": "s", "defaultMode": 0o644}}])
    );
    assert_eq!(value["spec"]["containers"][0]["ports"], json!([{"containerPort": 80}]));
}

#[test]
fn duplicate_keys_are_reported_with_their_line() {
    let body = "kind: ConfigMap\ndata:\n  a: one\n  a: two\n  b: three\n";
    let error = decode_as("ConfigMap", body, Unknown::Strict).unwrap_err().to_string();
    assert_eq!(
        error,
        "strict decoding error: yaml: unmarshal errors:\n  line 4: key \"a\" already set in map"
    );
    let ignored = decode_as("ConfigMap", body, Unknown::Ignore).unwrap();
    assert_eq!(ignored.value["data"], json!({"a": "two", "b": "three"}));
}

#[test]
fn bombs_and_nonsense_are_refused() {
    let bomb = (1..30).fold("a0: &a0 [x, x, x, x, x, x, x, x]\n".to_owned(), |out, n| {
        let alias = format!("*a{}, ", n - 1).repeat(8);
        format!("{out}a{n}: &a{n} [{}]\n", alias.trim_end_matches(", "))
    });
    let deep = "[".repeat(10_000);
    for body in [&*bomb, &*deep, "a: b: c", "{a: [}", "a: *nowhere"] {
        let error = decode_as("ConfigMap", body, Unknown::Ignore).unwrap_err().to_string();
        assert!(error.starts_with("yaml: "), "{error}");
    }
}
