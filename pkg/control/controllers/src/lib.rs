//! One file per controller: what it watches, its pure plan and its reconcile.
//!
//! `cmd/edgek` calls [`start`] once the API server serves. Each controller is a queue of keys, fed by the informers
//! that all of them share, and a reconcile that makes the cluster look as the object says. Each writes as the service
//! account that upstream's controller of that name uses.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "tests"))]

mod certificates;
mod cluster_role;
mod deployment;
mod discovery;
mod endpoint_mirror;
mod endpoint_slice;
mod endpoints;
mod expectations;
mod garbage;
mod informers;
mod namespace;
mod node_ipam;
mod node_lifecycle;
mod object;
mod pod_gc;
mod replica_set;
mod root_ca;
mod service;
mod service_account;
mod taint_eviction;
mod token_cleaner;

use std::sync::Arc;

use edgek_base_lifecycle::Scope;
use edgek_base_pki::Pki;
use edgek_client::Client;
use edgek_control_runtime::Queue;
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::ReplicationController;

pub use node_ipam::PodRanges;

use crate::informers::Informers;

/// What the controllers must be told.
#[derive(Debug, Clone)]
pub struct Config {
    /// Whose CA pods recognise the API server by, and who signs certificates.
    pub pki: Arc<Pki>,
    /// The addresses of pods, of which every node gets its own; `None` leaves that to others.
    pub pods: Option<PodRanges>,
}

/// Whom the shared informers read as.
const READER: &str = "system:kube-controller-manager";

/// Of the kinds in the group `apps`.
const API_VERSION: &str = "apps/v1";

/// What every controller is started with.
struct Start<'a> {
    scope: &'a Scope,
    informers: Arc<Informers>,
}

/// Starts all controllers, until the scope ends. `client_of` gives a client that acts as the user of that name, such
/// as `system:serviceaccount:kube-system:deployment-controller`.
pub fn start(scope: &Scope, config: Config, client_of: impl Fn(&str) -> Client) {
    let reader = client_of(READER);
    let informers = Arc::new(Informers::start(scope, &reader));
    let start = Start { scope, informers };
    let client = |controller: &str| client_of(&format!("system:serviceaccount:kube-system:{controller}"));
    service_account::start(&start, client("service-account-controller"));
    root_ca::start(&start, client("root-ca-cert-publisher"), config.pki.server_ca.pem());
    replica_set::start::<ReplicaSet>(&start, client);
    replica_set::start::<ReplicationController>(&start, client);
    deployment::start(&start, client("deployment-controller"));
    namespace::start(&start, client("namespace-controller"));
    garbage::start(&start, client("generic-garbage-collector"));
    pod_gc::start(&start, client("pod-garbage-collector"));
    node_lifecycle::start(&start, client("node-controller"));
    if let Some(ranges) = config.pods {
        node_ipam::start(&start, client("node-controller"), ranges);
    }
    // Upstream's taint eviction writes as the node controller, too.
    taint_eviction::start(&start, client("node-controller"));
    cluster_role::start(&start, client("clusterrole-aggregation-controller"));
    let (slices, endpoints) = (Queue::new(), Queue::new());
    endpoint_slice::start(&start, client("endpointslice-controller"), &slices);
    endpoints::start(&start, client("endpoint-controller"), &endpoints);
    endpoint_mirror::start(&start, client("endpointslicemirroring-controller"));
    service::watch(&start.informers, move |service| {
        slices.add(service.clone());
        endpoints.add(service);
    });
    token_cleaner::start(&start, client("token-cleaner"));
    certificates::start(&start, &reader, client("certificate-controller"), config.pki);
}
