//! The life of objects through the API.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use edgek_api::protobuf;
use edgek_api::schema::Schema;
use serde_json::{Value, json};
use support::Test;

const MAPS: &str = "/api/v1/namespaces/a/configmaps";
const PODS: &str = "/api/v1/namespaces/a/pods";
const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/a/deployments";

fn pod(name: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {"containers": [{"name": "c", "image": "nginx"}]}})
}

fn deployment(name: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {
        "selector": {"matchLabels": {"app": name}},
        "template": {"metadata": {"labels": {"app": name}}, "spec": {"containers": [{"name": "c", "image": "nginx:1"}]}},
    }})
}

fn version(object: &Value) -> u64 {
    object["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap()
}

#[tokio::test]
async fn an_object_is_created_read_changed_and_deleted() {
    let test = Test::start().await;
    let created =
        test.create(MAPS, json!({"metadata": {"name": "m", "uid": "mine"}, "data": {"k": "v"}})).await;
    assert_eq!((&created["kind"], &created["apiVersion"]), (&json!("ConfigMap"), &json!("v1")));
    assert_eq!(created["metadata"]["namespace"], "a");
    assert_ne!(created["metadata"]["uid"], "mine", "uids are the server's");
    assert!(created["metadata"]["creationTimestamp"].is_string());
    assert_eq!(test.get(&format!("{MAPS}/m")).await, created);

    let mut changed = created.clone();
    changed["data"]["k"] = json!("w");
    let updated = test.json("PUT", &format!("{MAPS}/m"), changed.clone()).await.json();
    assert!(version(&updated) > version(&created));
    let again = test.json("PUT", &format!("{MAPS}/m"), updated.clone()).await.json();
    assert_eq!(again, updated, "a write that changes nothing keeps the revision");

    let stale = test.json("PUT", &format!("{MAPS}/m"), changed).await;
    assert_eq!(stale.code, 409);
    assert_eq!(
        stale.json()["message"],
        "Operation cannot be fulfilled on configmaps \"m\": the object has been modified; please apply your changes to the latest version and try again"
    );

    let deleted = test.json("DELETE", &format!("{MAPS}/m"), json!({})).await.json();
    assert_eq!((&deleted["status"], &deleted["details"]["name"]), (&json!("Success"), &json!("m")));
    let gone = test.send("GET", &format!("{MAPS}/m"), &[], "").await;
    assert_eq!((gone.code.as_u16(), &gone.json()["message"]), (404, &json!("configmaps \"m\" not found")));
}

#[tokio::test]
async fn names_are_generated() {
    let test = Test::start().await;
    let object = test.create(MAPS, json!({"metadata": {"generateName": "m-"}})).await;
    let name = object["metadata"]["name"].as_str().unwrap();
    assert!(name.starts_with("m-") && name.len() == 7, "{name}");
}

#[tokio::test]
async fn a_pod_gets_its_defaults_and_starts_pending() {
    let test = Test::start().await;
    let mut body = pod("p");
    body["status"] = json!({"phase": "Running"});
    let created = test.create(PODS, body).await;
    assert_eq!(created["status"], json!({"phase": "Pending", "qosClass": "BestEffort"}));
    assert_eq!(created["metadata"]["generation"], 1);
    let spec = &created["spec"];
    assert_eq!(
        (&spec["serviceAccountName"], &spec["priority"], &spec["restartPolicy"]),
        (&json!("default"), &json!(0), &json!("Always"))
    );
    assert_eq!(spec["tolerations"].as_array().unwrap().len(), 2);
    assert_eq!(
        spec["containers"][0]["volumeMounts"][0]["mountPath"],
        "/var/run/secrets/kubernetes.io/serviceaccount"
    );
    assert_eq!(spec["containers"][0]["imagePullPolicy"], "Always");
}

#[tokio::test]
async fn protobuf_and_json_tell_the_same() {
    let test = Test::start().await;
    let schema = Schema::builtin();
    let id = schema.by_kind("apps", "v1", "Deployment").unwrap();
    let mut body = deployment("web");
    body["apiVersion"] = json!("apps/v1");
    body["kind"] = json!("Deployment");
    let kind = "application/vnd.kubernetes.protobuf";
    let answer = test
        .send(
            "POST",
            DEPLOYMENTS,
            &[("content-type", kind), ("accept", kind)],
            protobuf::encode(&body, schema, id),
        )
        .await;
    assert_eq!((answer.code.as_u16(), answer.headers["content-type"].to_str().unwrap()), (201, kind));
    let created = protobuf::decode(&answer.bytes, schema, id).unwrap();
    assert_eq!(created["spec"]["strategy"]["rollingUpdate"]["maxSurge"], "25%");
    assert_eq!(created, test.get(&format!("{DEPLOYMENTS}/web")).await);

    let list = test.send("GET", DEPLOYMENTS, &[("accept", kind)], "").await;
    let list_id = schema.by_kind("apps", "v1", "DeploymentList").unwrap();
    let list = protobuf::decode(&list.bytes, schema, list_id).unwrap();
    assert_eq!(list["items"][0]["metadata"]["name"], "web");

    let missing = test.send("GET", &format!("{DEPLOYMENTS}/none"), &[("accept", kind)], "").await;
    let status =
        protobuf::decode(&missing.bytes, schema, schema.by_kind("", "v1", "Status").unwrap()).unwrap();
    assert_eq!(
        (&status["reason"], &status["message"]),
        (&json!("NotFound"), &json!("deployments.apps \"none\" not found"))
    );
}

#[tokio::test]
async fn generation_counts_changes_of_what_is_asked_for_only() {
    let test = Test::start().await;
    test.create(DEPLOYMENTS, deployment("web")).await;
    let path = format!("{DEPLOYMENTS}/web");
    let labelled = test.merge(&path, json!({"metadata": {"labels": {"x": "y"}}})).await;
    assert_eq!(labelled["metadata"]["generation"], 1);
    let scaled = test.merge(&path, json!({"spec": {"replicas": 3}, "status": {"replicas": 9}})).await;
    assert_eq!(scaled["metadata"]["generation"], 2);
    assert_eq!(scaled["status"], json!({}), "a write of the object leaves the status alone");
    let status = test
        .merge(&format!("{path}/status"), json!({"spec": {"replicas": 5}, "status": {"replicas": 2}}))
        .await;
    assert_eq!(
        (&status["metadata"]["generation"], &status["spec"]["replicas"], &status["status"]["replicas"]),
        (&json!(2), &json!(3), &json!(2))
    );
}

#[tokio::test]
async fn a_scale_stands_for_the_replicas() {
    let test = Test::start().await;
    test.create(DEPLOYMENTS, deployment("web")).await;
    let path = format!("{DEPLOYMENTS}/web/scale");
    let mut scale = test.get(&path).await;
    assert_eq!(
        (&scale["kind"], &scale["spec"]["replicas"], &scale["status"]["selector"]),
        (&json!("Scale"), &json!(1), &json!("app=web"))
    );
    scale["spec"]["replicas"] = json!(4);
    assert_eq!(test.json("PUT", &path, scale).await.json()["spec"]["replicas"], 4);
    test.merge(&path, json!({"spec": {"replicas": 0}})).await;
    assert_eq!(test.get(&format!("{DEPLOYMENTS}/web")).await["spec"]["replicas"], 0);
}

#[tokio::test]
async fn patches_of_every_kind_apply() {
    let test = Test::start().await;
    test.create(PODS, json!({"metadata": {"name": "p", "labels": {"a": "1"}}, "spec": {"containers": [{"name": "c", "image": "x:1"}, {"name": "d", "image": "y:1"}]}})).await;
    let path = format!("{PODS}/p");
    let patch = |kind: &'static str, body: Value| {
        let test = &test;
        let path = path.clone();
        async move { test.send("PATCH", &path, &[("content-type", kind)], body.to_string()).await }
    };
    let strategic = patch(
        "application/strategic-merge-patch+json",
        json!({"spec": {"containers": [{"name": "d", "image": "y:2"}]}}),
    )
    .await
    .json();
    assert_eq!(strategic["spec"]["containers"][1]["image"], "y:2");
    assert_eq!(strategic["spec"]["containers"][0]["image"], "x:1");
    let json_patch = patch(
        "application/json-patch+json",
        json!([{"op": "replace", "path": "/metadata/labels/a", "value": "2"}]),
    )
    .await
    .json();
    assert_eq!(json_patch["metadata"]["labels"]["a"], "2");
    let merged =
        patch("application/merge-patch+json", json!({"metadata": {"labels": {"a": null, "b": "3"}}}))
            .await
            .json();
    assert_eq!(merged["metadata"]["labels"], json!({"b": "3"}));
    assert_eq!(patch("application/apply-patch+yaml", json!({})).await.code, 415);
    let forced = format!("{path}?force=true");
    let forced = test.send("PATCH", &forced, &[("content-type", "application/apply-patch+yaml")], "{}").await;
    assert_eq!(forced.code, 415, "a format that is not known comes before the options that go with it");
}

#[tokio::test]
async fn a_running_pod_ends_gracefully() {
    let test = Test::start().await;
    test.create(PODS, pod("p")).await;
    let binding = json!({"metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n"}});
    assert_eq!(test.json("POST", &format!("{PODS}/p/binding"), binding.clone()).await.code, 201);
    let twice = test.json("POST", &format!("{PODS}/p/binding"), binding).await;
    assert_eq!(
        (twice.code.as_u16(), &twice.json()["message"]),
        (
            409,
            &json!(
                "Operation cannot be fulfilled on pods/binding \"p\": pod p is already assigned to node \"n\""
            )
        )
    );

    let ending = test.json("DELETE", &format!("{PODS}/p"), json!({})).await.json();
    assert_eq!(ending["metadata"]["deletionGracePeriodSeconds"], 30);
    assert!(ending["metadata"]["deletionTimestamp"].is_string());
    assert_eq!(test.get(&format!("{PODS}/p")).await["spec"]["nodeName"], "n");
    let shorter = test.json("DELETE", &format!("{PODS}/p"), json!({"gracePeriodSeconds": 5})).await.json();
    assert_eq!(shorter["metadata"]["deletionGracePeriodSeconds"], 5);
    assert_eq!(test.json("DELETE", &format!("{PODS}/p"), json!({"gracePeriodSeconds": 0})).await.code, 200);
    assert_eq!(test.send("GET", &format!("{PODS}/p"), &[], "").await.code, 404);
}

#[tokio::test]
async fn finalizers_keep_an_object_until_they_are_gone() {
    let test = Test::start().await;
    test.create(MAPS, json!({"metadata": {"name": "m", "finalizers": ["example.com/x"]}})).await;
    let ending = test.json("DELETE", &format!("{MAPS}/m"), json!({})).await;
    assert_eq!(ending.code, 200);
    let waiting = test.get(&format!("{MAPS}/m")).await;
    assert!(waiting["metadata"]["deletionTimestamp"].is_string());
    let more = test
        .send(
            "PATCH",
            &format!("{MAPS}/m"),
            &[("content-type", "application/merge-patch+json")],
            json!({"metadata": {"finalizers": ["example.com/x", "example.com/y"]}}).to_string(),
        )
        .await;
    assert_eq!(more.code, 422);
    test.merge(&format!("{MAPS}/m"), json!({"metadata": {"finalizers": null}})).await;
    assert_eq!(test.send("GET", &format!("{MAPS}/m"), &[], "").await.code, 404);
}

#[tokio::test]
async fn dependents_are_orphaned_or_deleted_first_when_asked() {
    let test = Test::start().await;
    for (name, options, finalizer) in [
        ("o", json!({"propagationPolicy": "Orphan"}), "orphan"),
        ("f", json!({"propagationPolicy": "Foreground"}), "foregroundDeletion"),
    ] {
        test.create(DEPLOYMENTS, deployment(name)).await;
        test.json("DELETE", &format!("{DEPLOYMENTS}/{name}"), options).await;
        assert_eq!(
            test.get(&format!("{DEPLOYMENTS}/{name}")).await["metadata"]["finalizers"],
            json!([finalizer])
        );
    }
}

#[tokio::test]
async fn a_namespace_ends_by_its_finalizer_and_takes_nothing_new_meanwhile() {
    let test = Test::start().await;
    let namespace = test.get("/api/v1/namespaces/a").await;
    assert_eq!(namespace["metadata"]["labels"]["kubernetes.io/metadata.name"], "a");
    assert_eq!(namespace["spec"]["finalizers"], json!(["kubernetes"]));
    let ending = test.json("DELETE", "/api/v1/namespaces/a", json!({})).await.json();
    assert_eq!(ending["status"]["phase"], "Terminating");
    let refused = test.json("POST", MAPS, json!({"metadata": {"name": "m"}})).await;
    assert_eq!(refused.code, 403);
    let status = refused.json();
    assert_eq!(
        status["message"],
        "configmaps \"m\" is forbidden: unable to create new content in namespace a because it is being terminated"
    );
    assert_eq!(status["details"]["causes"][0]["reason"], "NamespaceTerminating");
    let mut finalized = test.get("/api/v1/namespaces/a").await;
    finalized["spec"]["finalizers"] = json!([]);
    assert_eq!(test.json("PUT", "/api/v1/namespaces/a/finalize", finalized).await.code, 200);
    assert_eq!(test.send("GET", "/api/v1/namespaces/a", &[], "").await.code, 404);
    let missing = test.json("POST", MAPS, json!({"metadata": {"name": "m"}})).await;
    assert_eq!(
        (missing.code.as_u16(), &missing.json()["message"]),
        (404, &json!("namespaces \"a\" not found"))
    );
}

#[tokio::test]
async fn a_dry_run_tells_what_would_be_and_stores_nothing() {
    let test = Test::start().await;
    let answer = test.json("POST", &format!("{MAPS}?dryRun=All"), json!({"metadata": {"name": "m"}})).await;
    assert_eq!(answer.code, 201);
    assert!(answer.json()["metadata"]["uid"].is_string());
    assert_eq!(test.send("GET", &format!("{MAPS}/m"), &[], "").await.code, 404);
    test.create(MAPS, json!({"metadata": {"name": "m"}})).await;
    test.json("DELETE", &format!("{MAPS}/m"), json!({"dryRun": ["All"]})).await;
    test.get(&format!("{MAPS}/m")).await;
}

#[tokio::test]
async fn services_get_addresses_of_their_own() {
    let test = Test::start().await;
    let path = "/api/v1/namespaces/a/services";
    let service = |name: &str, kind: &str| json!({"metadata": {"name": name}, "spec": {"type": kind, "selector": {"a": "b"}, "ports": [{"port": 80}]}});
    let (one, two) = (
        test.create(path, service("one", "NodePort")).await,
        test.create(path, service("two", "ClusterIP")).await,
    );
    let ip = |service: &Value| service["spec"]["clusterIP"].as_str().unwrap().to_owned();
    assert!(ip(&one).starts_with("10.43.") && ip(&one) != ip(&two), "{one} {two}");
    assert_eq!(one["spec"]["clusterIPs"], json!([ip(&one)]));
    assert!((30000..=32767).contains(&one["spec"]["ports"][0]["nodePort"].as_u64().unwrap()));
    assert_eq!(one["spec"]["ports"][0]["targetPort"], 80);
    let mut taken = service("three", "ClusterIP");
    taken["spec"]["clusterIP"] = json!(ip(&one));
    let refused = test.json("POST", path, taken).await;
    assert_eq!(refused.code, 422);
    assert!(refused.json()["message"].as_str().unwrap().contains("provided IP is already allocated"));
}

#[tokio::test]
async fn a_collection_is_deleted_by_selector() {
    let test = Test::start().await;
    for (name, label) in [("x", "1"), ("y", "1"), ("z", "2")] {
        test.create(MAPS, json!({"metadata": {"name": name, "labels": {"l": label}}})).await;
    }
    assert_eq!(test.json("DELETE", &format!("{MAPS}?labelSelector=l%3D1"), json!({})).await.code, 200);
    let left = test.get(MAPS).await;
    assert_eq!(left["items"].as_array().unwrap().len(), 1);
    assert_eq!(left["items"][0]["metadata"]["name"], "z");
}

#[tokio::test]
async fn a_token_is_issued_for_a_service_account() {
    let test = Test::start().await;
    let answer = test
        .json(
            "POST",
            "/api/v1/namespaces/a/serviceaccounts/default/token",
            json!({"spec": {"expirationSeconds": 3600}}),
        )
        .await;
    assert_eq!(answer.code, 201, "{}", answer.json());
    assert_eq!(answer.json()["status"]["token"].as_str().unwrap().split('.').count(), 3);
    let short = test
        .json(
            "POST",
            "/api/v1/namespaces/a/serviceaccounts/default/token",
            json!({"spec": {"expirationSeconds": 1}}),
        )
        .await;
    assert_eq!(short.code, 422);
}

#[tokio::test]
async fn subresources_change_only_their_part() {
    let test = Test::start().await;
    let mut burstable = pod("p");
    burstable["spec"]["containers"][0]["resources"] = json!({"requests": {"memory": "1Mi"}});
    test.create(PODS, burstable).await;
    let strategic = async |path: &str, body: Value| {
        test.send(
            "PATCH",
            path,
            &[("content-type", "application/strategic-merge-patch+json")],
            body.to_string(),
        )
        .await
    };
    let debug = json!({"spec": {"ephemeralContainers": [{"name": "debug", "image": "busybox"}], "hostNetwork": true}});
    let debugged = strategic(&format!("{PODS}/p/ephemeralcontainers"), debug).await.json();
    assert_eq!(debugged["spec"]["ephemeralContainers"][0]["imagePullPolicy"], "Always");
    assert_eq!(
        (&debugged["spec"]["hostNetwork"], &debugged["metadata"]["generation"]),
        (&Value::Null, &json!(2))
    );
    let changed = json!({"spec": {"ephemeralContainers": [{"name": "debug", "image": "other"}]}});
    assert_eq!(strategic(&format!("{PODS}/p/ephemeralcontainers"), changed).await.code, 422);

    let resize = json!({"spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": "1"}}}]}});
    let resized = strategic(&format!("{PODS}/p/resize"), resize).await.json();
    assert_eq!(resized["spec"]["containers"][0]["resources"]["requests"]["cpu"], "1", "{resized}");

    let path = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
    let spec = json!({"request": "LS0tLS0=", "signerName": "kubernetes.io/kubelet-serving", "usages": ["server auth"], "username": "somebody-else"});
    let request = test.create(path, json!({"metadata": {"name": "r"}, "spec": spec})).await;
    assert_eq!(request["spec"]["username"], "admin", "a request is made in its maker's name");
    let verdict = json!({"status": {"conditions": [{"type": "Approved", "status": "True", "reason": "ok"}], "certificate": "LS0tLS0="}});
    let approved = test.merge(&format!("{path}/r/approval"), verdict).await;
    assert_eq!(approved["status"]["conditions"][0]["type"], "Approved");
    assert_eq!(approved["status"].get("certificate"), None, "the certificate is the signer's");
}

#[tokio::test]
async fn a_pod_waits_a_moment_for_the_default_account_of_a_new_namespace() {
    let test = Test::start().await;
    test.create("/api/v1/namespaces", json!({"metadata": {"name": "new"}})).await;
    let created = test.json("POST", "/api/v1/namespaces/new/pods", pod("p"));
    let account =
        test.create("/api/v1/namespaces/new/serviceaccounts", json!({"metadata": {"name": "default"}}));
    assert_eq!(tokio::join!(created, account).0.code, 201);
    let mut other = pod("q");
    other["spec"]["serviceAccountName"] = json!("none");
    let refused = test.json("POST", "/api/v1/namespaces/new/pods", other).await;
    assert_eq!(
        refused.json()["message"],
        "pods \"q\" is forbidden: error looking up service account new/none: serviceaccount \"none\" not found"
    );
}
