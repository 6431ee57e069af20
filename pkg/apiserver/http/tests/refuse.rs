//! What is refused, and in which words.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::sync::Arc;

use edgek_apiserver_authn::User;
use edgek_apiserver_authz::{Attributes, Authorizer, Decision, PolicyRule, Target};
use edgek_apiserver_http::full;
use http::Request;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use support::Test;
use tower::ServiceExt;

const MAPS: &str = "/api/v1/namespaces/a/configmaps";
const PODS: &str = "/api/v1/namespaces/a/pods";
const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/a/deployments";

async fn check(test: &Test, request: (&str, &str, &str, Vec<u8>), expected: (u16, &str, &str)) {
    let (method, path, content_type, body) = request;
    let answer = test.send(method, path, &[("content-type", content_type)], body).await;
    let status = answer.json();
    let shown = (
        answer.code.as_u16(),
        status["reason"].as_str().unwrap_or_default(),
        status["message"].as_str().unwrap_or_default(),
    );
    assert_eq!(shown, expected, "{method} {path}");
}

async fn check_create(test: &Test, path: &str, body: Value, expected: (u16, &str, &str)) {
    check(test, ("POST", path, "application/json", body.to_string().into_bytes()), expected).await;
}

#[tokio::test]
async fn bodies_that_cannot_be_read() {
    let test = Test::start().await;
    let bad = |message| (400, "BadRequest", message);
    let post = |body: &str| ("POST", MAPS, "application/json", body.as_bytes().to_vec());
    check(&test, post(r#"{"data": {"k": 1}}"#), bad("ConfigMap in version \"v1\" cannot be handled as a ConfigMap: json: cannot unmarshal number into Go struct field ConfigMap.data of type string")).await;
    check(&test, post(r#"{"kind": "Secret", "apiVersion": "v1"}"#), bad("Secret in version \"v1\" cannot be handled as a ConfigMap: converting (v1.Secret) to (core.ConfigMap): unknown conversion")).await;
    check(&test, post(r#"{"kind": "ConfigMap", "apiVersion": "v2"}"#), bad("ConfigMap in version \"v2\" cannot be handled as a ConfigMap: no kind \"ConfigMap\" is registered for version \"v2\" in scheme \"pkg/runtime/scheme.go:111\"")).await;
    check(&test, ("POST", MAPS, "application/vnd.kubernetes.protobuf", b"nonsense".to_vec()), bad("the object provided is unrecognized (must be of type ConfigMap): provided data does not appear to be a protobuf message, expected prefix [107 56 115 0] (6e6f6e73656e7365)")).await;
    check(&test, ("POST", MAPS, "text/plain", b"{}".to_vec()), (415, "UnsupportedMediaType", "the body of the request was in an unknown format - accepted media types include: application/json, application/yaml, application/vnd.kubernetes.protobuf")).await;
    check(
        &test,
        ("POST", MAPS, "application/json", vec![b' '; 4 << 20]),
        (413, "RequestEntityTooLarge", "Request entity too large: limit is 3145728"),
    )
    .await;
    for broken in ["{", "[]", "", "\u{0}", r#"{"data": {"#] {
        let answer = test.send("POST", MAPS, &[("content-type", "application/json")], broken).await;
        assert_eq!(
            (answer.code.as_u16(), &answer.json()["reason"]),
            (400, &json!("BadRequest")),
            "{broken:?}"
        );
    }
    let deep = format!(r#"{{"metadata": {}1{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
    assert_eq!(test.send("POST", MAPS, &[("content-type", "application/json")], deep).await.code, 400);
}

#[tokio::test]
async fn unknown_and_duplicate_fields_warn_or_fail_as_asked() {
    let test = Test::start().await;
    let body = r#"{"metadata": {"name": "m"}, "nope": 1, "data": {"k": "a", "k": "b"}}"#;
    let send = |query: &'static str| test.send("POST", query, &[("content-type", "application/json")], body);
    let warned = send("/api/v1/namespaces/a/configmaps?dryRun=All").await;
    assert_eq!(warned.code, 201, "{}", warned.json());
    assert!(warned.warnings().contains(&r#"299 - "unknown field \"nope\"""#), "{:?}", warned.warnings());
    assert_eq!(
        send("/api/v1/namespaces/a/configmaps?dryRun=All&fieldValidation=Ignore").await.warnings(),
        Vec::<&str>::new()
    );
    let strict = send("/api/v1/namespaces/a/configmaps?fieldValidation=Strict").await;
    assert_eq!(strict.code, 400);
    let message = strict.json()["message"].as_str().unwrap().to_owned();
    assert!(
        message.starts_with(
            "ConfigMap in version \"v1\" cannot be handled as a ConfigMap: strict decoding error: "
        ),
        "{message}"
    );
    assert!(message.contains("unknown field \"nope\""), "{message}");
}

#[tokio::test]
async fn objects_that_break_rules() {
    let test = Test::start().await;
    let pod = |spec: Value| json!({"metadata": {"name": "p"}, "spec": spec});
    let invalid = |message| (422, "Invalid", message);
    check_create(&test, MAPS, json!({"metadata": {"name": "No"}}), invalid("ConfigMap \"No\" is invalid: metadata.name: Invalid value: \"No\": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')")).await;
    check_create(
        &test,
        MAPS,
        json!({"metadata": {}}),
        invalid("ConfigMap \"\" is invalid: metadata.name: Required value: name or generateName is required"),
    )
    .await;
    check_create(
        &test,
        PODS,
        pod(json!({"containers": []})),
        invalid("Pod \"p\" is invalid: spec.containers: Required value"),
    )
    .await;
    check_create(
        &test,
        PODS,
        pod(json!({"containers": [{"name": "c", "image": "x"}, {"name": "c", "image": "x"}]})),
        invalid("Pod \"p\" is invalid: spec.containers[1].name: Duplicate value: \"c\""),
    )
    .await;
    check_create(&test, PODS, pod(json!({"containers": [{"name": "c"}], "restartPolicy": "Sometimes"})), invalid("Pod \"p\" is invalid: [spec.containers[0].image: Required value, spec.restartPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", \"OnFailure\", \"Never\"]")).await;
    check_create(&test, PODS, pod(json!({"containers": [{"name": "c", "image": "x", "volumeMounts": [{"name": "none", "mountPath": "/x"}]}]})), invalid("Pod \"p\" is invalid: spec.containers[0].volumeMounts[0].name: Not found: \"none\"")).await;
    check_create(&test, PODS, pod(json!({"containers": [{"name": "c", "image": "x", "resources": {"requests": {"cpu": "2"}, "limits": {"cpu": "1"}}}]})), invalid("Pod \"p\" is invalid: spec.containers[0].resources.requests: Invalid value: \"2\": must be less than or equal to cpu limit of 1")).await;
    check_create(&test, PODS, pod(json!({"containers": [{"name": "c", "image": "x", "ports": [{"containerPort": 70000}]}]})), invalid("Pod \"p\" is invalid: spec.containers[0].ports[0].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive")).await;
    check_create(&test, DEPLOYMENTS, json!({"metadata": {"name": "d"}, "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": {"metadata": {"labels": {"a": "c"}}, "spec": {"containers": [{"name": "c", "image": "x"}]}}}}), invalid("Deployment.apps \"d\" is invalid: spec.template.metadata.labels: Invalid value: {\"a\":\"c\"}: `selector` does not match template `labels`")).await;
    check_create(
        &test,
        "/api/v1/namespaces/b/configmaps",
        json!({"metadata": {"name": "m"}}),
        (404, "NotFound", "namespaces \"b\" not found"),
    )
    .await;
    check_create(
        &test,
        MAPS,
        json!({"metadata": {"name": "m", "namespace": "other"}}),
        (
            400,
            "BadRequest",
            "the namespace of the provided object does not match the namespace sent on the request",
        ),
    )
    .await;
}

#[tokio::test]
async fn fields_that_never_change() {
    let test = Test::start().await;
    test.create(DEPLOYMENTS, json!({"metadata": {"name": "d"}, "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "x"}]}}}})).await;
    let merge = |path: &'static str, body: Value| {
        test.send("PATCH", path, &[("content-type", "application/merge-patch+json")], body.to_string())
    };
    let selector = merge("/apis/apps/v1/namespaces/a/deployments/d", json!({"spec": {"selector": {"matchLabels": {"a": "b", "c": "d"}}, "template": {"metadata": {"labels": {"c": "d"}}}}})).await;
    assert_eq!(
        selector.json()["message"],
        "Deployment.apps \"d\" is invalid: spec.selector: Invalid value: {\"matchLabels\":{\"a\":\"b\",\"c\":\"d\"}}: field is immutable"
    );
    test.create(
        PODS,
        json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "x"}]}}),
    )
    .await;
    let pod = merge("/api/v1/namespaces/a/pods/p", json!({"spec": {"hostNetwork": true}})).await;
    assert_eq!(pod.code, 422);
    assert!(
        pod.json()["message"].as_str().unwrap().contains(
            "spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`"
        ),
        "{}",
        pod.json()
    );
    let renamed = test
        .json(
            "PUT",
            "/api/v1/namespaces/a/pods/p",
            json!({"metadata": {"name": "q"}, "spec": {"containers": []}}),
        )
        .await;
    assert_eq!(
        renamed.json()["message"],
        "the name of the object (q) does not match the name on the URL (p)"
    );
}

#[tokio::test]
async fn queries_that_make_no_sense() {
    let test = Test::start().await;
    let bad = |message| (400, "BadRequest", message);
    let get = |query: &str| ("GET", format!("{MAPS}?{query}"));
    for (query, expected) in [
        (
            "resourceVersion=x",
            bad(
                "invalid resource version: resourceVersion: Invalid value: \"x\": strconv.ParseUint: parsing \"x\": invalid syntax",
            ),
        ),
        ("limit=x", bad("strconv.ParseInt: parsing \"x\": invalid syntax")),
        (
            "fieldSelector=spec.nope%3D1",
            bad(
                "\"spec.nope\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\"",
            ),
        ),
        (
            "resourceVersionMatch=Exact",
            (
                422,
                "Invalid",
                "ListOptions.meta.k8s.io \"\" is invalid: resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided",
            ),
        ),
    ] {
        let (method, path) = get(query);
        check(&test, (method, &path, "", Vec::new()), expected).await;
    }
    for query in ["labelSelector=a%3D%3D%3Db", "continue=nonsense", "labelSelector=!"] {
        let (method, path) = get(query);
        assert_eq!(test.send(method, &path, &[], "").await.code, 400, "{query}");
    }
    let future = test
        .send("GET", &format!("{MAPS}?resourceVersion=99999999&resourceVersionMatch=NotOlderThan"), &[], "")
        .await;
    assert_eq!(
        (future.code.as_u16(), &future.json()["details"]["causes"][0]["reason"]),
        (504, &json!("ResourceVersionTooLarge"))
    );
    let html = test.send("GET", MAPS, &[("accept", "text/html")], "").await;
    assert_eq!(html.code, 406);
    let watch = test.send("GET", &format!("{MAPS}?watch=1&sendInitialEvents=true"), &[], "").await;
    assert_eq!(watch.code, 422);
}

#[tokio::test]
async fn methods_and_paths_that_are_not_served() {
    let test = Test::start().await;
    assert_eq!(test.send("PUT", MAPS, &[], "{}").await.code, 405);
    assert_eq!(test.send("GET", "/api/v1/namespaces/a/nodes", &[], "").await.code, 404);
    assert_eq!(test.send("GET", "/api/v1/unheard", &[], "").await.code, 404);
    assert_eq!(test.send("POST", "/api/v1/pods", &[], "{}").await.code, 405);
}

/// Forbids everything.
struct Never;

impl Authorizer for Never {
    fn authorize(&self, _: &Attributes<'_>) -> Decision {
        Decision::NoOpinion { reason: String::new() }
    }
}

/// Each request would fail at two layers; the answer tells which comes first.
#[tokio::test]
async fn the_layers_of_the_chain_run_in_order() {
    let test = Test::with(Arc::new(Never)).await;
    let anonymous = Request::builder().uri("/api/v1/pods").body(full(Vec::new())).unwrap();
    let answer = test.server.service().oneshot(anonymous).await.unwrap();
    assert_eq!(answer.status(), 401, "authentication comes before authorization");
    let acting = test.send("GET", "/api/v1/pods", &[("impersonate-user", "eve")], "").await;
    assert_eq!(
        acting.json()["message"],
        "users \"eve\" is forbidden: User \"admin\" cannot impersonate resource \"users\" in API group \"\" at the cluster scope"
    );
    let unknown = test.send("GET", "/apis/no/v1/such", &[], "").await;
    assert_eq!(unknown.code, 403, "authorization comes before routing");
    let create = test.json("POST", MAPS, json!("not an object")).await;
    assert_eq!(
        create.json()["message"],
        "configmaps is forbidden: User \"admin\" cannot create resource \"configmaps\" in API group \"\" in the namespace \"a\""
    );
    let health = Request::builder().uri("/healthz").body(full(Vec::new())).unwrap();
    let answer = test.server.service().oneshot(health).await.unwrap();
    assert_eq!(answer.status(), 403, "health needs no credentials, but a right");
}

/// Lets `eve` write roles, with the right to read pods herself.
struct Eve;

impl Authorizer for Eve {
    fn authorize(&self, attributes: &Attributes<'_>) -> Decision {
        let special = matches!(attributes.target, Target::Resource { verb: "escalate" | "bind", .. });
        let admin = attributes.user.name == "admin";
        if special && !admin {
            Decision::NoOpinion { reason: String::new() }
        } else {
            Decision::Allow { reason: String::new() }
        }
    }

    fn rules(&self, _: &User, _: &str) -> Vec<PolicyRule> {
        let text = |text: &str| vec![text.to_owned()];
        vec![PolicyRule {
            verbs: text("get"),
            api_groups: text(""),
            resources: text("pods"),
            ..PolicyRule::default()
        }]
    }
}

#[tokio::test]
async fn nobody_grants_rights_that_they_do_not_have() {
    let test = Test::with(Arc::new(Eve)).await;
    test.create("/api/v1/namespaces", json!({"metadata": {"name": "a"}})).await;
    let eve = test.server.service_as(Arc::new(User::new("eve", ["people"])));
    let create = async |path: &str, body: Value| {
        let request = Request::builder().method("POST").uri(path).header("content-type", "application/json");
        let answer = eve.clone().oneshot(request.body(full(body.to_string())).unwrap()).await.unwrap();
        let code = answer.status().as_u16();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        (
            code,
            serde_json::from_slice::<Value>(&body).unwrap()["message"]
                .as_str()
                .unwrap_or_default()
                .to_owned(),
        )
    };
    let roles = "/apis/rbac.authorization.k8s.io/v1/namespaces/a/roles";
    let role = |verb: &str| json!({"metadata": {"name": verb}, "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": [verb]}]});
    assert_eq!(create(roles, role("get")).await.0, 201);
    let (code, message) = create(roles, role("delete")).await;
    assert_eq!(code, 403);
    assert_eq!(
        message,
        "roles.rbac.authorization.k8s.io \"delete\" is forbidden: user \"eve\" (groups=[\"people\"]) is attempting to grant RBAC permissions not currently held:\n{APIGroups:[\"\"], Resources:[\"pods\"], Verbs:[\"delete\"]}"
    );
    test.create(roles, role("delete")).await;
    let binding = |role: &str| json!({"metadata": {"name": role}, "roleRef": {"kind": "Role", "name": role}, "subjects": [{"kind": "User", "name": "eve"}]});
    let bindings = "/apis/rbac.authorization.k8s.io/v1/namespaces/a/rolebindings";
    assert_eq!(create(bindings, binding("get")).await.0, 201);
    assert_eq!(create(bindings, binding("delete")).await.0, 403);
}

/// Lets everybody read and nobody write.
struct Reader;

impl Authorizer for Reader {
    fn authorize(&self, attributes: &Attributes<'_>) -> Decision {
        let reason = String::new();
        match attributes.target {
            Target::Resource { verb: "get" | "list" | "watch", .. } => Decision::Allow { reason },
            _ => Decision::NoOpinion { reason },
        }
    }
}

#[tokio::test]
async fn the_right_to_read_a_pod_is_not_the_right_to_run_commands_in_it() {
    let test = Test::with(Arc::new(Reader)).await;
    let answer = test.send("GET", "/api/v1/namespaces/a/pods/p/exec?command=ls", &[], "").await;
    assert_eq!(answer.code, 403);
    let message = answer.json()["message"].as_str().unwrap().to_owned();
    assert_eq!(
        message,
        "pods \"p\" is forbidden: User \"admin\" cannot create resource \"pods/exec\" in API group \"\" in the namespace \"a\""
    );
}
