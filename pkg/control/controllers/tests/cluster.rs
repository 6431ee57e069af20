//! The controllers against the API server in the same process, over the memory store.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use edgek_api::resource::Catalog;
use edgek_api::schema::Schema;
use edgek_apiserver_authn::{Authenticator, Error, Object, Objects, PRIVILEGED_GROUP, Tokens, User};
use edgek_apiserver_authz::AlwaysAllow;
use edgek_apiserver_http::{NoDial, Parts, Server};
use edgek_base_lifecycle::Scope;
use edgek_client::{Client, Delete, ListQuery, ResourceRef};
use edgek_control_controllers::{Config, start};
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

impl Objects for Nobody {
    fn uid(&self, _: Object, _: &str, _: &str) -> Option<String> {
        None
    }
}

/// A cluster whose controllers run in the scope. The server ends with the test, after them.
async fn cluster() -> (Scope, Client) {
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
        authorizer: Arc::new(AlwaysAllow),
        tokens: Arc::new(Tokens::new(&key, issuer, Arc::new(Nobody)).unwrap()),
        dial: Arc::new(NoDial),
        address: "127.0.0.1:6443".into(),
        services: Default::default(),
        scope: root,
    });
    let client_of =
        |user: &str| Client::in_process(server.service_as(Arc::new(User::new(user, [PRIVILEGED_GROUP]))));
    start(&scope, Config { root_ca: "CA".into() }, client_of);
    (scope, client_of("admin"))
}

fn resource(group: &'static str, plural: &'static str, namespaced: bool) -> ResourceRef {
    let version = "v1".into();
    ResourceRef { group: group.into(), version, plural: plural.into(), kind: "".into(), namespaced }
}

/// Waits until the objects of a resource in the namespace are as they should be.
async fn until(client: &Client, group: &'static str, plural: &'static str, good: impl Fn(&[Value]) -> bool) {
    let objects = client.untyped(resource(group, plural, true), Some("a"));
    for _ in 0..200 {
        let list = objects.list(&ListQuery::default()).await.unwrap().0;
        if good(&list) {
            return;
        }
        edgek_base_lifecycle::sleep(Duration::from_millis(50)).await;
    }
    let list = objects.list(&ListQuery::default()).await.unwrap().0;
    panic!("{plural} did not become as expected: {}", serde_json::to_string_pretty(&list).unwrap());
}

async fn with_deployment() -> (Scope, Client) {
    let (scope, client) = cluster().await;
    let namespace = json!({"metadata": {"name": "a"}});
    client.untyped(resource("", "namespaces", false), None).create(&namespace).await.unwrap();
    until(&client, "", "serviceaccounts", |list| list.len() == 1).await;
    until(&client, "", "configmaps", |list| list.iter().any(|map| map["data"]["ca.crt"] == "CA")).await;
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
async fn a_deleted_namespace_is_emptied_and_goes() {
    let (scope, client) = with_deployment().await;
    let namespaces = client.untyped(resource("", "namespaces", false), None);
    namespaces.delete("a", &Delete::default()).await.unwrap();
    for (group, plural) in
        [("", "pods"), ("apps", "replicasets"), ("apps", "deployments"), ("", "configmaps")]
    {
        until(&client, group, plural, <[Value]>::is_empty).await;
    }
    for _ in 0..200 {
        if namespaces.get("a").await.is_err_and(|error| error.is_not_found()) {
            scope.close(Duration::from_secs(5)).await.unwrap();
            return;
        }
        edgek_base_lifecycle::sleep(Duration::from_millis(50)).await;
    }
    panic!("the namespace is still there: {}", namespaces.get("a").await.unwrap());
}
