//! The objects that every cluster has from its first moment: the system's namespaces and priority classes, and the
//! service `kubernetes` with the server's own address.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use edgek_api::resource::{Catalog, Resource};
use edgek_apiserver_admission::fields::Fields;
use edgek_apiserver_authn::{PRIVILEGED_GROUP, User};
use edgek_apiserver_registry::Key;
use http::Request;
use http::header::CONTENT_TYPE;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::body::full;
use crate::server::Server;

/// An object that every cluster has could not be made.
#[derive(Debug, thiserror::Error)]
#[error("cannot make {kind} {name:?}: {message}")]
pub struct BootstrapError {
    kind: String,
    name: String,
    message: String,
}

impl Server {
    /// Makes the objects that every cluster has, and `more`, unless they exist. `endpoint` is where pods reach the
    /// server, `service_network` the first address of the service CIDR.
    ///
    /// # Errors
    /// One of them is refused.
    pub async fn bootstrap(
        &self,
        endpoint: SocketAddr,
        service_network: Ipv4Addr,
        more: Vec<Value>,
    ) -> Result<(), BootstrapError> {
        let first = Ipv4Addr::from(u32::from(service_network) + 1);
        let objects = namespaces().chain(priority_classes()).chain([service(first)]).chain(more);
        for object in objects.filter(|object| !self.has(object)) {
            self.send("POST", &object).await?;
        }
        // The address may be another one than at the last start.
        let endpoints = endpoint_slice(endpoint);
        let method = if self.has(&endpoints) { "PUT" } else { "POST" };
        self.send(method, &endpoints).await?;
        Ok(())
    }

    fn has(&self, object: &Value) -> bool {
        let resource = Catalog::builtin().by_api_version(object.text("apiVersion"), object.text("kind"));
        resource.is_some_and(|resource| {
            let (namespace, name) = (object.text("metadata.namespace"), object.text("metadata.name"));
            self.0.registry.get(&Key { resource, namespace, name }).is_some()
        })
    }

    /// Sends an object as the server itself.
    async fn send(&self, method: &str, object: &Value) -> Result<(), BootstrapError> {
        let failed = |message: String| BootstrapError {
            kind: object.text("kind").to_owned(),
            name: object.text("metadata.name").to_owned(),
            message,
        };
        let resource = Catalog::builtin().by_api_version(object.text("apiVersion"), object.text("kind"));
        let path = path(resource.ok_or_else(|| failed("its kind is not served".to_owned()))?, object, method);
        let request = Request::builder().method(method).uri(path).header(CONTENT_TYPE, "application/json");
        let request = request.body(full(object.to_string())).map_err(|error| failed(error.to_string()))?;
        let user = Arc::new(User::new("system:apiserver", [PRIVILEGED_GROUP]));
        let Ok(response) = self.service_as(user).oneshot(request).await;
        if response.status().is_success() {
            return Ok(());
        }
        let body = response.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        Err(failed(String::from_utf8_lossy(&body).into_owned()))
    }
}

fn path(resource: &Resource, object: &Value, method: &str) -> String {
    let root = if resource.group.is_empty() {
        "/api/v1".to_owned()
    } else {
        format!("/apis/{}", resource.api_version())
    };
    let namespace = match object.text("metadata.namespace") {
        "" => String::new(),
        namespace => format!("/namespaces/{namespace}"),
    };
    let name = if method == "PUT" { format!("/{}", object.text("metadata.name")) } else { String::new() };
    format!("{root}{namespace}/{}{name}", resource.plural)
}

fn namespaces() -> impl Iterator<Item = Value> {
    let names = ["default", "kube-system", "kube-public", "kube-node-lease"];
    names.into_iter().map(|name| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}))
}

/// As upstream's `pkg/apis/scheduling/v1/helpers.go`.
fn priority_classes() -> impl Iterator<Item = Value> {
    let classes = [
        (
            "system-node-critical",
            2_000_001_000,
            "Used for system critical pods that must not be moved from their current node.",
        ),
        (
            "system-cluster-critical",
            2_000_000_000,
            "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
        ),
    ];
    classes.into_iter().map(|(name, value, description)| {
        json!({
            "apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": name},
            "value": value, "description": description,
        })
    })
}

/// The service that pods reach the API by; it has no selector: its endpoints are the server's own.
fn service(address: Ipv4Addr) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {
            "name": "kubernetes", "namespace": "default",
            "labels": {"component": "apiserver", "provider": "kubernetes"},
        },
        "spec": {
            "type": "ClusterIP", "clusterIP": address.to_string(), "clusterIPs": [address.to_string()],
            "ports": [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": 6443}],
        },
    })
}

fn endpoint_slice(endpoint: SocketAddr) -> Value {
    let family = match endpoint.ip() {
        IpAddr::V4(_) => "IPv4",
        IpAddr::V6(_) => "IPv6",
    };
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {
            "name": "kubernetes", "namespace": "default", "labels": {"kubernetes.io/service-name": "kubernetes"},
        },
        "addressType": family,
        "endpoints": [{"addresses": [endpoint.ip().to_string()], "conditions": {"ready": true}}],
        "ports": [{"name": "https", "port": endpoint.port(), "protocol": "TCP"}],
    })
}
