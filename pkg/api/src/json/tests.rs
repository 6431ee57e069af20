//! What the decoder accepts, normalises, reports and refuses, in upstream's words.

use serde_json::json;

use super::*;

fn type_of(kind: &str) -> TypeId {
    ["", "apps", "apiextensions.k8s.io", "coordination.k8s.io"]
        .iter()
        .find_map(|group| Schema::builtin().by_kind(group, "v1", kind))
        .unwrap()
}

fn decoded(kind: &str, body: &str) -> Value {
    decode(body.as_bytes(), Schema::builtin(), type_of(kind), Unknown::Strict).expect(body).value
}

#[test]
fn canonical_form_is_what_go_would_keep_without_nulls() {
    fn check(kind: &str, body: &str, expected: &Value) {
        assert_eq!(decoded(kind, body), *expected, "{body}");
    }
    let cm = |data: &Value| json!({"metadata": {"name": "a"}, "data": data});
    check("ConfigMap", r#"{"metadata":{"name":"a"},"data":{"k":"v"}}"#, &cm(&json!({"k": "v"})));
    check(
        "ConfigMap",
        r#" { "data" : { "k" : null } , "metadata" : {"name":"a"} } "#,
        &cm(&json!({"k": ""})),
    );
    check("ConfigMap", r#"{"data":{},"immutable":null}"#, &json!({"metadata": {}}));
    check("ConfigMap", r#"{"immutable":false,"kind":""}"#, &json!({"metadata": {}, "immutable": false}));
    check("ConfigMap", "null", &json!({"metadata": {}}));
    check(
        "ConfigMap",
        r#"{"data":{"a":"\u00e9\n\"\\\/ \ud83d\ude00 \ud800"}}"#,
        &json!({"metadata": {}, "data": {"a": "é\n\"\\/ 😀 \u{fffd}"}}),
    );
    check(
        "Secret",
        "{\"data\":{\"a\":\"AP\\n+A\",\"b\":\"\"}}",
        &json!({"metadata": {}, "data": {"a": "AP+A", "b": ""}}),
    );
    check(
        "Pod",
        r#"{"spec":{"containers":[{"name":"c"},null],"hostNetwork":false,"tolerations":[]},"status":{"startTime":"2026-11-21T09:00:01.5+02:00"}}"#,
        &json!({
            "metadata": {},
            "spec": {"containers": [{"name": "c", "resources": {}}, {"name": "", "resources": {}}]},
            "status": {"startTime": "2026-11-21T07:00:01Z"},
        }),
    );
    check(
        "PersistentVolume",
        r#"{"spec":{"capacity":{"a":"0.5","b":1024,"c":"1024Mi","d":"1e3","e":" 100m"}}}"#,
        &json!({
            "metadata": {},
            "spec": {"capacity": {"a": "500m", "b": "1024", "c": "1Gi", "d": "1e3", "e": "100m"}},
            "status": {},
        }),
    );
    check(
        "Lease",
        r#"{"spec":{"renewTime":"2026-02-28T23:59:59.000001-00:30","leaseTransitions":0}}"#,
        &json!({"metadata": {}, "spec": {"renewTime": "2026-03-01T00:29:59.000001Z", "leaseTransitions": 0}}),
    );
    check(
        "Service",
        r#"{"spec":{"ports":[{"port":80},{"port":81,"targetPort":"web"}]}}"#,
        &json!({
            "metadata": {},
            "spec": {"ports": [{"port": 80, "targetPort": 0}, {"port": 81, "targetPort": "web"}]},
            "status": {"loadBalancer": {}},
        }),
    );
}

#[test]
fn strict_reports_unknown_and_duplicate_fields() {
    fn check(body: &str, expected: &str) {
        let pod = type_of("Pod");
        let error = decode(body.as_bytes(), Schema::builtin(), pod, Unknown::Strict).unwrap_err();
        assert_eq!(error.to_string(), format!("strict decoding error: {expected}"));
        let warned = decode(body.as_bytes(), Schema::builtin(), pod, Unknown::Warn).unwrap();
        let texts: Vec<String> = warned.problems.iter().map(Problem::to_string).collect();
        assert_eq!(texts.join(", "), expected);
        let ignored = decode(body.as_bytes(), Schema::builtin(), pod, Unknown::Ignore).unwrap();
        assert_eq!((ignored.value, ignored.problems), (warned.value, vec![]));
    }
    check(r#"{"foo":{"a":[1]}}"#, r#"unknown field "foo""#);
    check(
        r#"{"spec":{"hostnetwork":true,"Containers":[]}}"#,
        r#"unknown field "spec.hostnetwork", unknown field "spec.Containers""#,
    );
    check(
        r#"{"spec":{"containers":[{"name":"a"},{"x":1,"x":2}]}}"#,
        r#"unknown field "spec.containers[1].x""#,
    );
    check(
        r#"{"kind":"Pod","metadata":{"name":"a","name":"b","labels":{"k":"1","k":"2"}},"kind":"Pod"}"#,
        r#"duplicate field "metadata.name", duplicate field "metadata.labels.k", duplicate field "kind""#,
    );
    let last =
        decode(br#"{"metadata":{"name":"a","name":""}}"#, Schema::builtin(), type_of("Pod"), Unknown::Ignore);
    assert_eq!(last.unwrap().value["metadata"], json!({}));
}

#[test]
fn schemas_inside_schemas_are_not_reported_on() {
    let body = r#"{"spec":{"versions":[{"schema":{"openAPIV3Schema":{"x":1,"items":{"y":1},"additionalProperties":false}}}]}}"#;
    let error =
        decode(body.as_bytes(), Schema::builtin(), type_of("CustomResourceDefinition"), Unknown::Strict);
    let expected = r#"strict decoding error: unknown field "spec.versions[0].schema.openAPIV3Schema.x""#;
    assert_eq!(error.unwrap_err().to_string(), expected);
}

#[test]
fn wrong_types_are_refused_in_gos_words() {
    fn check(kind: &str, body: &str, expected: &str) {
        let error = decode(body.as_bytes(), Schema::builtin(), type_of(kind), Unknown::Ignore).unwrap_err();
        assert_eq!(error.to_string(), expected, "{body}");
    }
    let field = |given: &str, field: &str, wanted: &str| {
        format!("json: cannot unmarshal {given} into Go struct field {field} of type {wanted}")
    };
    let check_field = |kind: &str, body: &str, (given, path, wanted): (&str, &str, &str)| {
        check(kind, body, &field(given, path, wanted));
    };
    check_field(
        "Deployment",
        r#"{"spec":{"replicas":"1"}}"#,
        ("string", "DeploymentSpec.spec.replicas", "int32"),
    );
    check_field(
        "Deployment",
        r#"{"spec":{"replicas":1.0}}"#,
        ("number 1.0", "DeploymentSpec.spec.replicas", "int32"),
    );
    check_field(
        "Deployment",
        r#"{"spec":{"replicas":2147483648}}"#,
        ("number 2147483648", "DeploymentSpec.spec.replicas", "int32"),
    );
    check_field(
        "Pod",
        r#"{"spec":{"containers":[{"image":1}]}}"#,
        ("number", "Container.spec.containers.image", "string"),
    );
    check_field(
        "Pod",
        r#"{"spec":{"containers":{}}}"#,
        ("object", "PodSpec.spec.containers", "[]v1.Container"),
    );
    check_field(
        "Pod",
        r#"{"spec":{"containers":["a"]}}"#,
        ("string", "PodSpec.spec.containers", "v1.Container"),
    );
    check_field("Pod", r#"{"spec":[]}"#, ("array", "Pod.spec", "v1.PodSpec"));
    check_field(
        "Pod",
        r#"{"metadata":{"labels":{"a":1}}}"#,
        ("number", "ObjectMeta.metadata.labels", "string"),
    );
    check_field("Pod", r#"{"spec":{"hostNetwork":"true"}}"#, ("string", "PodSpec.spec.hostNetwork", "bool"));
    check("Pod", "[]", "json: cannot unmarshal array into Go value of type v1.Pod");
    check(
        "Pod",
        r#"{"metadata":{"creationTimestamp":1}}"#,
        &field("number", "ObjectMeta.metadata.creationTimestamp", "string"),
    );
    check(
        "Service",
        r#"{"spec":{"ports":[{"targetPort":true}]}}"#,
        &field("bool", "ServicePort.spec.ports.targetPort", "int32"),
    );
    check("Secret", r#"{"data":{"a":"a*=="}}"#, "illegal base64 data at input byte 1");
}

#[test]
fn wrong_times_are_refused_in_gos_words() {
    fn check(text: &str, expected: &str) {
        let body = format!(r#"{{"metadata":{{"creationTimestamp":"{text}"}}}}"#);
        let error = decode(body.as_bytes(), Schema::builtin(), type_of("Pod"), Unknown::Ignore).unwrap_err();
        assert_eq!(error.to_string(), format!("parsing time \"{text}\"{expected}"));
    }
    let layout = "as \"2006-01-02T15:04:05Z07:00\": cannot parse";
    check("yesterday", &format!(" {layout} \"yesterday\" as \"2006\""));
    check("2026-11", &format!(" {layout} \"\" as \"-\""));
    check("2026-11-21 07:00:00Z", &format!(" {layout} \" 07:00:00Z\" as \"T\""));
    check("2026-11-21T07:00:00", &format!(" {layout} \"\" as \"Z07:00\""));
    check("2026-11-21T07:00:00ZZ", ": extra text: \"Z\"");
    check("2026-13-21T07:00:00Z", ": month out of range");
    check("2026-02-29T07:00:00Z", ": day out of range");
    check("2026-02-28T24:00:00Z", ": hour out of range");
}

#[test]
fn syntax_errors_have_gos_words_and_come_first() {
    fn check(body: &str, expected: &str) {
        let error = decode(body.as_bytes(), Schema::builtin(), type_of("Pod"), Unknown::Ignore).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("couldn't get version/kind; json parse error: {expected}"),
            "{body}"
        );
    }
    check("", "unexpected end of JSON input");
    check("{", "unexpected end of JSON input");
    check(r#"{"a":"b"#, "unexpected end of JSON input");
    check("x", "invalid character 'x' looking for beginning of value");
    check("{a}", "invalid character 'a' looking for beginning of object key string");
    check(r#"{"a" 1}"#, "invalid character '1' after object key");
    check(r#"{"a":1 "b":2}"#, "invalid character '\"' after object key:value pair");
    check(r#"{"a":1,}"#, "invalid character '}' looking for beginning of object key string");
    check(r#"{"a":[1 2]}"#, "invalid character '2' after array element");
    check(r#"{"a":[1,]}"#, "invalid character ']' looking for beginning of value");
    check(r#"{"a":tru}"#, "invalid character '}' in literal true (expecting 'e')");
    check(r#"{"a":-}"#, "invalid character '}' in numeric literal");
    check(r#"{"a":1.}"#, "invalid character '}' after decimal point in numeric literal");
    check(r#"{"a":1e}"#, "invalid character '}' in exponent of numeric literal");
    check(r#"{"a":01}"#, "invalid character '1' after object key:value pair");
    check("{\"a\":\"\n\"}", "invalid character '\\n' in string literal");
    check(r#"{"a":"\x"}"#, "invalid character 'x' in string escape code");
    check(r#"{"a":"\u12g4"}"#, "invalid character 'g' in \\u hexadecimal character escape");
    check("{} {}", "invalid character '{' after top-level value");
    check(r#"{"spec":1,"a""#, "unexpected end of JSON input");
    check(&"[".repeat(100_000), "invalid character '[' exceeded max depth");
    check(&format!(r#"{{"spec":{}"#, r#"{"x":"#.repeat(5000)), "invalid character '{' exceeded max depth");
    let many = |item: &str| format!("[{}]", vec![item; 100_000].join(","));
    let too_many = "exceeded max number of objects, 65536";
    check(&format!(r#"{{"spec":{{"containers":{}}}}}"#, many("{}")), too_many);
    check(&format!(r#"{{"x":{}}}"#, many(r#"{"":0}"#)), too_many);
}
