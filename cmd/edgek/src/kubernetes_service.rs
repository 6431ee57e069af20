//! Service `default/kubernetes`, by which pods find the API server, with its Endpoints and its EndpointSlice. The
//! server itself keeps them, controllers or not (upstream: `controlplane/controller/kubernetesservice`).

use std::net::IpAddr;

use anyhow::Result;
use edgek_base_config::Config;
use edgek_base_lifecycle::Scope;
use edgek_client::{Client, Error, ListQuery, ResourceRef};
use edgek_control_runtime::{Informer, Next, Queue, run};
use k8s_openapi::api::core::v1::{Endpoints, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde_json::{Value, json};

const NAMESPACE: &str = "default";
const NAME: &str = "kubernetes";
/// The port of the service.
const PORT: u16 = 443;

/// What the objects say.
#[derive(Debug, Clone)]
pub(crate) struct KubernetesService {
    service_ip: IpAddr,
    address: IpAddr,
    port: u16,
}

impl KubernetesService {
    /// `address` is the node's; the API server may listen on another one only.
    pub(crate) fn new(config: &Config, address: IpAddr) -> Self {
        let listens = config.bind_address;
        Self {
            service_ip: config.service_cidr.nth(1).unwrap_or(config.service_cidr.network),
            address: if listens.is_unspecified() { address } else { listens },
            port: config.https_listen_port,
        }
    }

    /// Writes what is missing or different.
    pub(crate) async fn ensure(&self, client: &Client) -> Result<(), Error> {
        // A service may be changed by people, so it is only created.
        let services = ResourceRef::namespaced::<Service>();
        ensure(client, services, self.service(), |_, _| true).await?;
        ensure(client, ResourceRef::namespaced::<Endpoints>(), self.endpoints(), |old, new| {
            old["subsets"] == new["subsets"] && old["metadata"]["labels"] == new["metadata"]["labels"]
        })
        .await?;
        ensure(client, ResourceRef::namespaced::<EndpointSlice>(), self.slice(), |old, new| {
            let same = |field: &str| old[field] == new[field];
            same("endpoints") && same("ports") && old["metadata"]["labels"] == new["metadata"]["labels"]
        })
        .await
    }

    /// Restores the objects whenever somebody changes or deletes them, until the scope ends.
    pub(crate) fn keep(self, client: &Client, scope: &Scope) {
        let queue = Queue::new();
        let query = || ListQuery { fields: format!("metadata.name={NAME}"), ..ListQuery::default() };
        let wake = || {
            let queue = queue.clone();
            move |_: edgek_control_runtime::Change<'_>| queue.add(())
        };
        Informer::start(scope, client.namespaced::<Service>(NAMESPACE), query()).on_change(wake());
        Informer::start(scope, client.namespaced::<Endpoints>(NAMESPACE), query()).on_change(wake());
        Informer::start(scope, client.namespaced::<EndpointSlice>(NAMESPACE), query()).on_change(wake());
        let client = client.clone();
        run(scope, "kubernetes service", &queue, 1, move |()| {
            let (this, client) = (self.clone(), client.clone());
            async move { this.ensure(&client).await.map(|()| Next::Wait) }
        });
    }

    fn service(&self) -> Value {
        json!({
            "metadata": {"name": NAME, "labels": {"component": "apiserver", "provider": "kubernetes"}},
            "spec": {
                "type": "ClusterIP",
                "clusterIP": self.service_ip,
                "clusterIPs": [self.service_ip],
                "sessionAffinity": "None",
                "ports": [{"name": "https", "protocol": "TCP", "port": PORT, "targetPort": self.port}],
            },
        })
    }

    fn endpoints(&self) -> Value {
        let subset = |address| json!({"addresses": [{"ip": address}], "ports": [self.endpoint_port()]});
        json!({
            // The slice is written here, not mirrored.
            "metadata": {"name": NAME, "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"}},
            "subsets": self.reachable().map(subset).collect::<Vec<_>>(),
        })
    }

    fn slice(&self) -> Value {
        let endpoint = |address| json!({"addresses": [address], "conditions": {"ready": true}});
        json!({
            "metadata": {"name": NAME, "labels": {"kubernetes.io/service-name": NAME}},
            "addressType": if self.address.is_ipv4() { "IPv4" } else { "IPv6" },
            "endpoints": self.reachable().map(endpoint).collect::<Vec<_>>(),
            "ports": [self.endpoint_port()],
        })
    }

    /// Where pods reach the server: nowhere on a machine that has no address but loopback's.
    fn reachable(&self) -> impl Iterator<Item = IpAddr> {
        Some(self.address).filter(|address| !address.is_loopback()).into_iter()
    }

    fn endpoint_port(&self) -> Value {
        json!({"name": "https", "port": self.port, "protocol": "TCP"})
    }
}

async fn ensure(
    client: &Client,
    resource: ResourceRef,
    object: Value,
    is_same: impl Fn(&Value, &Value) -> bool,
) -> Result<(), Error> {
    let api = client.untyped(resource, Some(NAMESPACE));
    match api.get(NAME).await {
        Ok(there) if is_same(&there, &object) => Ok(()),
        Ok(_) => api.replace(NAME, &object).await.map(|_| ()),
        Err(error) if error.is_not_found() => match api.create(&object).await {
            Err(error) if !error.is_already_exists() => Err(error),
            _ => Ok(()),
        },
        Err(error) => Err(error),
    }
}
