//! The kinds whose controller keeps a number of pods: ReplicaSets, and ReplicationControllers, which are handled as
//! the ReplicaSet that says the same (upstream: `replication/conversion.go`).

use edgek_control_runtime::Informer;
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetSpec, ReplicaSetStatus};
use k8s_openapi::api::core::v1::{
    ReplicationController, ReplicationControllerCondition, ReplicationControllerStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::{NamespaceResourceScope, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::informers::Informers;

/// A kind that keeps a number of pods.
pub(crate) trait Replicator:
    Resource<Scope = NamespaceResourceScope> + DeserializeOwned + Serialize + Clone + Send + Sync + 'static
{
    /// The name its controller goes by.
    const CONTROLLER: &'static str;

    fn informer(informers: &Informers) -> &Informer<Self>;

    /// The ReplicaSet that says the same.
    fn to_set(&self) -> ReplicaSet;

    fn with_status(self, status: ReplicaSetStatus) -> Self;
}

impl Replicator for ReplicaSet {
    const CONTROLLER: &'static str = "replicaset-controller";

    fn informer(informers: &Informers) -> &Informer<Self> {
        &informers.replica_sets
    }

    fn to_set(&self) -> ReplicaSet {
        self.clone()
    }

    fn with_status(self, status: ReplicaSetStatus) -> Self {
        Self { status: Some(status), ..self }
    }
}

impl Replicator for ReplicationController {
    const CONTROLLER: &'static str = "replication-controller";

    fn informer(informers: &Informers) -> &Informer<Self> {
        &informers.replication_controllers
    }

    fn to_set(&self) -> ReplicaSet {
        let spec = self.spec.clone().unwrap_or_default();
        let spec = ReplicaSetSpec {
            min_ready_seconds: spec.min_ready_seconds,
            replicas: spec.replicas,
            selector: LabelSelector { match_labels: spec.selector, ..LabelSelector::default() },
            template: spec.template,
        };
        let status = self.status.clone().map(|status| ReplicaSetStatus {
            available_replicas: status.available_replicas,
            conditions: status.conditions.map(|all| all.into_iter().map(to_set_condition).collect()),
            fully_labeled_replicas: status.fully_labeled_replicas,
            observed_generation: status.observed_generation,
            ready_replicas: status.ready_replicas,
            replicas: status.replicas,
            terminating_replicas: None,
        });
        ReplicaSet { metadata: self.metadata.clone(), spec, status }
    }

    fn with_status(self, status: ReplicaSetStatus) -> Self {
        let status = ReplicationControllerStatus {
            available_replicas: status.available_replicas,
            conditions: status.conditions.map(|all| all.into_iter().map(from_set_condition).collect()),
            fully_labeled_replicas: status.fully_labeled_replicas,
            observed_generation: status.observed_generation,
            ready_replicas: status.ready_replicas,
            replicas: status.replicas,
        };
        Self { status: Some(status), ..self }
    }
}

fn to_set_condition(condition: ReplicationControllerCondition) -> ReplicaSetCondition {
    ReplicaSetCondition {
        last_transition_time: condition.last_transition_time,
        message: condition.message,
        reason: condition.reason,
        status: Some(condition.status),
        type_: Some(condition.type_),
    }
}

fn from_set_condition(condition: ReplicaSetCondition) -> ReplicationControllerCondition {
    ReplicationControllerCondition {
        last_transition_time: condition.last_transition_time,
        message: condition.message,
        reason: condition.reason,
        status: condition.status.unwrap_or_default(),
        type_: condition.type_.unwrap_or_default(),
    }
}
