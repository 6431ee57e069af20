//! The controllers against the API server in the same process, over the memory store.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;
use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};

use async_trait::async_trait;
use edgek_api::resource::Catalog;
use edgek_api::schema::Schema;
use edgek_apiserver_authn::{Authenticator, Error, Object, Objects, PRIVILEGED_GROUP, Tokens, User};
use edgek_apiserver_authz::{Attributes, Authorizer, Decision, Target};
use edgek_apiserver_http::{NoDial, Parts, Server};
use edgek_base_lifecycle::Scope;
use edgek_base_pki::Pki;
use edgek_client::{Api, Client, Delete, ListQuery, Patch, Propagation, ResourceRef, WatchQuery};
use edgek_control_controllers::{Config, PodRanges, start};
use edgek_store_log::MemoryLog;
use edgek_store_watch::{Store, Window};
use rustls_pki_types::CertificateDer;
use serde_json::{Value, json};

struct Nobody;

#[async_trait]
impl Authenticator for Nobody {
    async fn authenticate(
        &self,
        _: &http::request::Parts,
        _: &[CertificateDer<'static>],
    ) -> Result<Option<Arc<User>>, Error> {
        Ok(None)
    }

    async fn authenticate_token(&self, _: &str, _: &[String]) -> Result<(Arc<User>, Vec<String>), Error> {
        Err(Error::Token("unknown".into()))
    }
}

/// Lets everybody do everything, but for jane, who may become no node.
struct AllButJane;

impl Authorizer for AllButJane {
    fn authorize(&self, attributes: &Attributes<'_>) -> Decision {
        let becomes = matches!(attributes.target, Target::Resource { subresource: "nodeclient", .. });
        match becomes && attributes.user.name == "jane" {
            true => Decision::NoOpinion { reason: String::new() },
            false => Decision::Allow { reason: String::new() },
        }
    }
}

impl Objects for Nobody {
    fn uid(&self, _: Object, _: &str, _: &str) -> Option<String> {
        None
    }
}

/// A cluster whose controllers run in the scope. The server ends with the test, after them.
async fn cluster() -> (Scope, Client) {
    let (scope, client_of) = cluster_of_many().await;
    (scope, client_of("admin"))
}

/// The same, and a client for each user, who may do everything.
async fn cluster_of_many() -> (Scope, impl Fn(&str) -> Client) {
    let catalog = Catalog::builtin();
    let stored = catalog.iter().filter(|it| it.is_stored() && it.stored_as.is_none()).cloned();
    let store = Store::open(Arc::new(MemoryLog::default()), stored, Window::default()).await.unwrap();
    let key = rcgen::KeyPair::generate().unwrap().serialize_pem();
    let issuer = "https://kubernetes.default.svc.cluster.local";
    let (root, scope) = (Scope::root(), Scope::root());
    let server = Server::new(Parts {
        store: Arc::new(store),
        catalog,
        schema: Schema::builtin(),
        authenticator: Arc::new(Nobody),
        authorizer: Arc::new(AllButJane),
        tokens: Arc::new(Tokens::new(&key, issuer, Arc::new(Nobody)).unwrap()),
        dial: Arc::new(NoDial),
        ca: String::new(),
        address: "127.0.0.1:6443".into(),
        services: Default::default(),
        scope: root,
    });
    let client_of = move |user: &str| {
        Client::in_process(server.service_as(Arc::new(User::new(user, [PRIVILEGED_GROUP]))))
    };
    let folder = tempfile::tempdir().unwrap();
    let pki = Arc::new(Pki::open(folder.path()).unwrap());
    let pods = PodRanges { network: [10, 42, 0, 0].into(), prefix: 23, node_prefix: 24 };
    start(&scope, Config { pki, pods: Some(pods) }, &client_of);
    (scope, client_of)
}

fn resource(group: &'static str, plural: &'static str, namespaced: bool) -> ResourceRef {
    let version = "v1".into();
    ResourceRef { group: group.into(), version, plural: plural.into(), kind: "".into(), namespaced }
}

/// What `look` finds in the objects of a resource, as soon as it finds something.
async fn eventually<T>(objects: &Api<Value>, look: impl Fn(&[Value]) -> Option<T>) -> T {
    let seen = async {
        loop {
            let (list, resource_version) = objects.list(&ListQuery::default()).await.unwrap();
            if let Some(found) = look(&list) {
                return found;
            }
            let change = WatchQuery { resource_version, ..WatchQuery::default() };
            objects.watch(&change).await.unwrap().next().await.unwrap();
        }
    };
    if let Ok(found) = tokio::time::timeout(Duration::from_secs(10), seen).await {
        return found;
    }
    let list = objects.list(&ListQuery::default()).await.unwrap().0;
    let plural = &objects.resource().plural;
    panic!("{plural} did not become as expected: {}", serde_json::to_string_pretty(&list).unwrap());
}

/// Waits until the objects of a resource in the namespace are as they should be.
async fn until(client: &Client, group: &'static str, plural: &'static str, good: impl Fn(&[Value]) -> bool) {
    let objects = client.untyped(resource(group, plural, true), Some("a"));
    eventually(&objects, |list| good(list).then_some(())).await;
}

async fn with_deployment() -> (Scope, Client) {
    let (scope, client) = cluster().await;
    let namespace = json!({"metadata": {"name": "a"}});
    client.untyped(resource("", "namespaces", false), None).create(&namespace).await.unwrap();
    until(&client, "", "serviceaccounts", |list| list.len() == 1).await;
    until(&client, "", "configmaps", |list| list.iter().any(|map| map["data"]["ca.crt"].is_string())).await;
    let template = json!({"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let spec = json!({"replicas": 3, "selector": {"matchLabels": {"app": "web"}}, "template": template});
    let deployment = json!({"metadata": {"name": "web"}, "spec": spec});
    client.untyped(resource("apps", "deployments", true), Some("a")).create(&deployment).await.unwrap();
    until(&client, "apps", "replicasets", |list| list.len() == 1).await;
    until(&client, "", "pods", |list| list.len() == 3).await;
    until(&client, "apps", "deployments", |list| list[0]["status"]["updatedReplicas"] == 3).await;
    (scope, client)
}

#[tokio::test]
async fn a_deployment_has_a_set_and_pods_and_all_of_them_are_collected() {
    let (scope, client) = with_deployment().await;
    let deployments = client.untyped(resource("apps", "deployments", true), Some("a"));
    deployments.delete("web", &Delete::default()).await.unwrap();
    until(&client, "apps", "replicasets", <[Value]>::is_empty).await;
    until(&client, "", "pods", <[Value]>::is_empty).await;
    scope.close(Duration::from_secs(5)).await.unwrap();
}

#[tokio::test]
async fn owners_in_a_circle_are_collected() {
    let (scope, client) = cluster().await;
    let namespace = json!({"metadata": {"name": "a"}});
    client.untyped(resource("", "namespaces", false), None).create(&namespace).await.unwrap();
    let secrets = client.untyped(resource("", "secrets", true), Some("a"));
    let mut uids = Vec::new();
    for name in ["one", "two", "three"] {
        let made = secrets.create(&json!({"metadata": {"name": name}})).await.unwrap();
        uids.push(made["metadata"]["uid"].clone());
    }
    for (name, owner, uid) in [("one", "three", 2), ("two", "one", 0), ("three", "two", 1)] {
        let owner = json!({"apiVersion": "v1", "kind": "Secret", "name": owner, "uid": uids[uid], "blockOwnerDeletion": true});
        let patch = Patch::Merge(json!({"metadata": {"ownerReferences": [owner]}}));
        secrets.patch(name, "", &patch).await.unwrap();
    }
    let foreground = Delete { propagation: Some(Propagation::Foreground), ..Delete::default() };
    secrets.delete("one", &foreground).await.unwrap();
    until(&client, "", "secrets", <[Value]>::is_empty).await;
    scope.close(Duration::from_secs(5)).await.unwrap();
}

#[tokio::test]
async fn a_deleted_namespace_is_emptied_and_goes() {
    let (scope, client) = with_deployment().await;
    let namespaces = client.untyped(resource("", "namespaces", false), None);
    namespaces.delete("a", &Delete::default()).await.unwrap();
    for (group, plural) in
        [("", "pods"), ("apps", "replicasets"), ("apps", "deployments"), ("", "configmaps")]
    {
        until(&client, group, plural, <[Value]>::is_empty).await;
    }
    let is_a = |namespace: &Value| namespace["metadata"]["name"] == "a";
    eventually(&namespaces, |list| (!list.iter().any(is_a)).then_some(())).await;
    scope.close(Duration::from_secs(5)).await.unwrap();
}

/// A ready node whose kubelet renews its lease once.
async fn register(client: &Client, name: &str) {
    let nodes = client.untyped(resource("", "nodes", false), None);
    nodes.create(&json!({"metadata": {"name": name}})).await.unwrap();
    let ready = json!({"type": "Ready", "status": "True", "lastHeartbeatTime": "2026-01-01T00:00:00Z"});
    let status = Patch::Strategic(json!({"status": {"conditions": [ready]}}));
    nodes.patch(name, "status", &status).await.unwrap();
    let lease = json!({"metadata": {"name": name}, "spec": {"renewTime": "2026-01-01T00:00:00.000000Z"}});
    leases(client).create(&lease).await.unwrap();
}

fn leases(client: &Client) -> Api<Value> {
    client.untyped(resource("coordination.k8s.io", "leases", true), Some("kube-node-lease"))
}

/// The node's `Ready` condition and the keys and effects of its taints.
async fn seen(client: &Client, name: &str) -> (String, Vec<String>) {
    let node = client.untyped(resource("", "nodes", false), None).get(name).await.unwrap();
    let conditions = node["status"]["conditions"].as_array().unwrap();
    let ready = conditions.iter().find(|condition| condition["type"] == "Ready").unwrap();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let taints = node["spec"]["taints"].as_array().into_iter().flatten();
    let taints = taints.map(|taint| text(&taint["key"]) + ":" + &text(&taint["effect"])).collect();
    (text(&ready["status"]), taints)
}

#[tokio::test(start_paused = true)]
async fn a_node_that_falls_silent_is_unreachable_and_its_pods_leave() {
    let (scope, client) = cluster().await;
    for namespace in ["kube-node-lease", "a"] {
        let namespace = json!({"metadata": {"name": namespace}});
        client.untyped(resource("", "namespaces", false), None).create(&namespace).await.unwrap();
    }
    register(&client, "alive").await;
    register(&client, "silent").await;
    let pods = client.untyped(resource("", "pods", true), Some("a"));
    let container = json!({"name": "c", "image": "i"});
    let pod = json!({"metadata": {"name": "p"}, "spec": {"nodeName": "silent", "containers": [container]}});
    pods.create(&pod).await.unwrap();
    let ready = Patch::Strategic(json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}}));
    pods.patch("p", "status", &ready).await.unwrap();

    let renew = async |seconds: u64| {
        for second in (0..seconds).step_by(10) {
            let time = format!("2026-01-01T00:{:02}:{:02}.{:06}Z", second / 60, second % 60, seconds);
            let patch = Patch::Merge(json!({"spec": {"renewTime": time}}));
            leases(&client).patch("alive", "", &patch).await.unwrap();
            edgek_base_lifecycle::sleep(Duration::from_secs(10)).await;
        }
    };
    renew(40).await;
    assert_eq!(seen(&client, "silent").await, ("True".into(), vec![]));
    renew(20).await;
    let unreachable =
        ["NoSchedule", "NoExecute"].map(|effect| format!("node.kubernetes.io/unreachable:{effect}"));
    assert_eq!(seen(&client, "silent").await, ("Unknown".into(), unreachable.to_vec()));
    assert_eq!(seen(&client, "alive").await, ("True".into(), vec![]));
    assert_eq!(pods.get("p").await.unwrap()["status"]["conditions"][0]["status"], "False");
    // Pods tolerate it for five minutes.
    renew(270).await;
    assert_eq!(pods.get("p").await.unwrap()["metadata"]["deletionTimestamp"], Value::Null);
    renew(60).await;
    let pod = pods.get("p").await.unwrap();
    assert!(pod["metadata"]["deletionTimestamp"].is_string(), "{pod:#}");
    let mut conditions = pod["status"]["conditions"].as_array().unwrap().iter();
    assert!(conditions.any(|it| it["reason"] == "DeletionByTaintManager"), "{pod:#}");
    scope.close(Duration::from_secs(5)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_pod_whose_node_does_not_come_back_is_deleted() {
    let (scope, client) = cluster().await;
    client
        .untyped(resource("", "namespaces", false), None)
        .create(&json!({"metadata": {"name": "a"}}))
        .await
        .unwrap();
    let pods = client.untyped(resource("", "pods", true), Some("a"));
    let spec = json!({"nodeName": "gone", "containers": [{"name": "c", "image": "i"}]});
    // The finalizer lets us see it.
    let metadata = json!({"name": "p", "finalizers": ["example.com/wait"]});
    pods.create(&json!({"metadata": metadata, "spec": spec})).await.unwrap();
    edgek_base_lifecycle::sleep(Duration::from_secs(39)).await;
    assert_eq!(pods.get("p").await.unwrap()["metadata"]["deletionTimestamp"], Value::Null);
    edgek_base_lifecycle::sleep(Duration::from_secs(2)).await;
    let pod = pods.get("p").await.unwrap();
    assert!(pod["metadata"]["deletionTimestamp"].is_string(), "{pod:#}");
    assert_eq!(pod["status"]["phase"], "Failed");
    assert_eq!(pod["status"]["conditions"][0]["reason"], "DeletionByPodGC");
    scope.close(Duration::from_secs(5)).await.unwrap();
}

#[tokio::test]
async fn a_service_has_the_endpoints_of_its_ready_pods_and_those_written_by_hand() {
    let (scope, client) = cluster().await;
    for (plural, name) in [("namespaces", "a"), ("nodes", "n")] {
        let object = json!({"metadata": {"name": name}});
        client.untyped(resource("", plural, false), None).create(&object).await.unwrap();
    }
    let services = client.untyped(resource("", "services", true), Some("a"));
    let port = json!({"port": 80, "targetPort": "web"});
    let web = json!({"metadata": {"name": "web"}, "spec": {"selector": {"app": "web"}, "ports": [port]}});
    services.create(&web).await.unwrap();
    let slices = "discovery.k8s.io";
    until(&client, slices, "endpointslices", |list| list.len() == 1 && list[0]["endpoints"].is_null()).await;
    until(&client, "", "endpoints", |list| list.len() == 1).await;

    let container = json!({"name": "c", "image": "i", "ports": [{"name": "web", "containerPort": 8080}]});
    let metadata = json!({"name": "p", "labels": {"app": "web"}});
    let pods = client.untyped(resource("", "pods", true), Some("a"));
    let pod = json!({"metadata": metadata, "spec": {"nodeName": "n", "containers": [container]}});
    pods.create(&pod).await.unwrap();
    let ready = |ready: &str| {
        let conditions = json!([{"type": "Ready", "status": ready}]);
        let ips = json!([{"ip": "10.42.0.9"}]);
        Patch::Strategic(json!({"status": {"podIP": "10.42.0.9", "podIPs": ips, "conditions": conditions}}))
    };
    for (status, expected) in [("False", false), ("True", true)] {
        pods.patch("p", "status", &ready(status)).await.unwrap();
        until(&client, slices, "endpointslices", |list| {
            let endpoint = &list[0]["endpoints"][0];
            list.len() == 1
                && endpoint["conditions"]["ready"] == expected
                && list[0]["ports"][0]["port"] == 8080
        })
        .await;
        let field = if expected { "addresses" } else { "notReadyAddresses" };
        until(&client, "", "endpoints", |list| list[0]["subsets"][0][field][0]["ip"] == "10.42.0.9").await;
    }

    let db = json!({"metadata": {"name": "db"}, "spec": {"clusterIP": "None", "ports": [{"port": 5432}]}});
    services.create(&db).await.unwrap();
    let endpoints = client.untyped(resource("", "endpoints", true), Some("a"));
    let subset = json!({"addresses": [{"ip": "192.0.2.7"}], "ports": [{"port": 5432}]});
    endpoints.create(&json!({"metadata": {"name": "db"}, "subsets": [subset]})).await.unwrap();
    let alone = json!({"metadata": {"name": "alone"}, "subsets": [subset]});
    endpoints.create(&alone).await.unwrap();
    until(&client, slices, "endpointslices", |list| {
        list.len() == 2 && list.iter().any(|slice| slice["endpoints"][0]["addresses"][0] == "192.0.2.7")
    })
    .await;

    for name in ["web", "db"] {
        services.delete(name, &Delete::default()).await.unwrap();
    }
    until(&client, slices, "endpointslices", <[Value]>::is_empty).await;
    until(&client, "", "endpoints", |list| list.len() == 1 && list[0]["metadata"]["name"] == "alone").await;
    scope.close(Duration::from_secs(5)).await.unwrap();
}

#[tokio::test]
async fn every_node_has_a_range_of_its_own_and_a_free_one_is_given_again() {
    let (scope, client) = cluster().await;
    // Where events about nodes are.
    let namespace = json!({"metadata": {"name": "default"}});
    client.untyped(resource("", "namespaces", false), None).create(&namespace).await.unwrap();
    let nodes = client.untyped(resource("", "nodes", false), None);
    let ranges = async |count: usize| {
        let look = |list: &[Value]| {
            let range = |node: &Value| {
                Some(format!("{} {}", node["metadata"]["name"], node["spec"]["podCIDR"].as_str()?))
            };
            let mut ranges: Vec<String> = list.iter().filter_map(range).collect();
            ranges.sort();
            (ranges.len() == count).then(|| ranges.join(", "))
        };
        eventually(&nodes, look).await
    };
    let node = |name: &str| json!({"metadata": {"name": name}});
    // Both at once: the second is looked at before the first is seen to have its range.
    let (a, b) = (node("a"), node("b"));
    let (a, b) = tokio::join!(nodes.create(&a), nodes.create(&b));
    a.and(b).unwrap();
    assert_eq!(ranges(2).await, r#""a" 10.42.0.0/24, "b" 10.42.1.0/24"#);
    nodes.create(&node("c")).await.unwrap();
    let events = client.untyped(resource("", "events", true), Some("default"));
    let tells =
        |event: &Value| event["reason"] == "CIDRNotAvailable" && event["involvedObject"]["name"] == "c";
    eventually(&events, |list| list.iter().any(tells).then_some(())).await;
    nodes.delete("a", &Delete::default()).await.unwrap();
    assert_eq!(ranges(2).await, r#""b" 10.42.1.0/24, "c" 10.42.0.0/24"#);
    scope.close(Duration::from_secs(5)).await.unwrap();
}

const SERVING: &str = "kubernetes.io/kubelet-serving";

fn requests(client: &Client) -> Api<Value> {
    client.untyped(resource("certificates.k8s.io", "certificatesigningrequests", false), None)
}

/// A request for a certificate of `user`, a node.
fn request(name: &str, key: &str, user: &str, signer: &str, names: &[String]) -> Value {
    let pem = edgek_base_pki::request::make(key, user, "system:nodes", names).unwrap();
    let purpose = if signer == SERVING { "server auth" } else { "client auth" };
    let usages = ["digital signature", purpose];
    json!({"metadata": {"name": name}, "spec": {"request": STANDARD.encode(pem), "signerName": signer, "usages": usages}})
}

/// Waits until a request has its certificate.
async fn certified(requests: &Api<Value>, name: &str) {
    let made =
        |request: &Value| request["metadata"]["name"] == name && request["status"]["certificate"].is_string();
    eventually(requests, |list| list.iter().any(made).then_some(())).await;
}

#[tokio::test]
async fn whoever_may_join_becomes_a_node_and_only_a_node_itself_serves_under_its_name() {
    let (scope, client_of) = cluster_of_many().await;
    let folder = tempfile::tempdir().unwrap();
    let key = edgek_base_pki::open_key(&folder.path().join("key")).unwrap();
    let (joining, own) = ("kubernetes.io/kube-apiserver-client-kubelet", ["a".to_owned()]);
    let admin = client_of("admin");
    // The keys of nodes are in kube-system.
    for (plural, name) in [("nodes", "a"), ("namespaces", "kube-system")] {
        let object = json!({"metadata": {"name": name}});
        admin.untyped(resource("", plural, false), None).create(&object).await.unwrap();
    }
    let ask = async |user: &str, name: &str, node: &str, signer: &str, names: &[String]| {
        let request = request(name, &key, &format!("system:node:{node}"), signer, names);
        requests(&client_of(user)).create(&request).await.unwrap();
    };
    ask("jane", "hers", "b", joining, &[]).await;
    ask("system:node:c", "another", "a", SERVING, &own).await;
    ask("joe", "his", "b", joining, &[]).await;
    ask("system:node:a", "own", "a", SERVING, &own).await;
    // Requests are looked at one after the other.
    let requests = requests(&admin);
    certified(&requests, "his").await;
    certified(&requests, "own").await;
    for name in ["hers", "another"] {
        assert_eq!(requests.get(name).await.unwrap()["status"]["conditions"], Value::Null, "{name}");
    }
    scope.close(Duration::from_secs(5)).await.unwrap();
}

#[tokio::test]
async fn a_node_that_asks_before_it_is_known_is_certified_when_it_is() {
    let (scope, client_of) = cluster_of_many().await;
    let folder = tempfile::tempdir().unwrap();
    let key = edgek_base_pki::open_key(&folder.path().join("key")).unwrap();
    let names = ["a", "192.0.2.7"].map(str::to_owned);
    let requests = requests(&client_of("system:node:a"));
    let ask = async |name: &str, signer: &str, names: &[String]| {
        requests.create(&request(name, &key, "system:node:a", signer, names)).await.unwrap();
    };
    ask("server", SERVING, &names).await;
    // Requests are looked at one after the other: when this one has its certificate, the first was seen in vain.
    ask("client", "kubernetes.io/kube-apiserver-client", &[]).await;
    let condition = json!({"type": "Approved", "status": "True", "reason": "Test"});
    let approved = Patch::Merge(json!({"status": {"conditions": [condition]}}));
    requests.patch("client", "approval", &approved).await.unwrap();
    certified(&requests, "client").await;
    assert_eq!(requests.get("server").await.unwrap()["status"]["certificate"], Value::Null);
    let admin = client_of("admin");
    let nodes = admin.untyped(resource("", "nodes", false), None);
    nodes.create(&json!({"metadata": {"name": "a"}})).await.unwrap();
    let status = json!({"status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.7"}]}});
    nodes.patch("a", "status", &Patch::Strategic(status)).await.unwrap();
    certified(&requests, "server").await;
    scope.close(Duration::from_secs(5)).await.unwrap();
}
