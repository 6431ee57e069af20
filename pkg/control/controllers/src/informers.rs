//! The informers that the controllers share: one for each resource, whoever asks.

use edgek_base_lifecycle::Scope;
use edgek_client::{Client, ListQuery};
use edgek_control_runtime::Informer;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{
    ConfigMap, Endpoints, Namespace, Node, Pod, ReplicationController, Service, ServiceAccount,
};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::rbac::v1::ClusterRole;
use serde::Deserialize;

/// The objects the controllers look at.
pub(crate) struct Informers {
    pub(crate) namespaces: Informer<Namespace>,
    pub(crate) service_accounts: Informer<ServiceAccount>,
    /// Only those with the root certificate.
    pub(crate) root_cas: Informer<ConfigMap>,
    pub(crate) pods: Informer<Pod>,
    pub(crate) nodes: Informer<Node>,
    /// Only those of nodes.
    pub(crate) leases: Informer<Lease>,
    pub(crate) cluster_roles: Informer<ClusterRole>,
    pub(crate) replica_sets: Informer<ReplicaSet>,
    pub(crate) replication_controllers: Informer<ReplicationController>,
    pub(crate) deployments: Informer<Deployment>,
    pub(crate) services: Informer<Service>,
    pub(crate) endpoints: Informer<Endpoints>,
    pub(crate) endpoint_slices: Informer<EndpointSlice>,
}

impl Informers {
    pub(crate) fn start(scope: &Scope, client: &Client) -> Self {
        let all = ListQuery::default;
        let root_cas = ListQuery { fields: format!("metadata.name={}", crate::root_ca::NAME), ..all() };
        Self {
            namespaces: Informer::start(scope, client.cluster(), all()),
            service_accounts: Informer::start(scope, client.all(), all()),
            root_cas: Informer::start(scope, client.all(), root_cas),
            nodes: Informer::start(scope, client.cluster(), all()),
            leases: Informer::start(scope, client.namespaced(crate::node_lifecycle::LEASES), all()),
            cluster_roles: Informer::start(scope, client.cluster(), all()),
            pods: Informer::start(scope, client.all(), all()),
            deployments: Informer::start(scope, client.all(), all()),
            replica_sets: Informer::start(scope, client.all(), all()),
            replication_controllers: Informer::start(scope, client.all(), all()),
            services: Informer::start(scope, client.all(), all()),
            endpoints: Informer::start(scope, client.all(), all()),
            endpoint_slices: Informer::start(scope, client.all(), all()),
        }
    }

    /// The pods on a node.
    pub(crate) fn pods_on(&self, node: &str) -> Vec<Pod> {
        self.pods.select("", |pod| pod.decode::<Placement>().is_some_and(|pod| pod.spec.node_name == node))
    }
}

/// Where a pod is.
#[derive(Deserialize)]
struct Placement {
    spec: PlacementSpec,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PlacementSpec {
    #[serde(default)]
    node_name: String,
}
