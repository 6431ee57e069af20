//! The informers that the controllers share: one for each resource, whoever asks.

use edgek_base_lifecycle::Scope;
use edgek_client::{Client, ListQuery};
use edgek_control_runtime::Informer;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Node, Pod, ServiceAccount};

/// The objects the controllers look at.
pub(crate) struct Informers {
    pub(crate) namespaces: Informer<Namespace>,
    pub(crate) service_accounts: Informer<ServiceAccount>,
    /// Only those with the root certificate.
    pub(crate) root_cas: Informer<ConfigMap>,
    pub(crate) pods: Informer<Pod>,
    pub(crate) nodes: Informer<Node>,
    pub(crate) replica_sets: Informer<ReplicaSet>,
    pub(crate) deployments: Informer<Deployment>,
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
            pods: Informer::start(scope, client.all(), all()),
            deployments: Informer::start(scope, client.all(), all()),
            replica_sets: Informer::start(scope, client.all(), all()),
        }
    }
}
