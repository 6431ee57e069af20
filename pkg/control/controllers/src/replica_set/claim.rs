//! Which pods belong to a set: adopted when they match and nobody manages them, released when they match no more
//! (upstream: `controller_ref_manager.go`).

use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use super::replicator::Replicator;
use crate::object;

/// What becomes of the pods.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Claims {
    pub(super) owned: Vec<Pod>,
    pub(super) adopted: Vec<Pod>,
    pub(super) released: Vec<Pod>,
}

/// Sorts the pods that the set manages and those nobody manages.
pub(super) fn claims(set: &ReplicaSet, candidates: Vec<Pod>) -> Claims {
    let mut claims = Claims::default();
    let Some(selector) = object::selector(&set.spec.selector) else { return claims };
    let ending = set.metadata.deletion_timestamp.is_some();
    for pod in candidates {
        let labels = pod.metadata.labels.clone().unwrap_or_default();
        let mut owners = pod.metadata.owner_references.iter().flatten();
        let owned = owners.any(|owner| owner.controller == Some(true));
        match (owned, object::selects(&selector, &labels)) {
            (true, true) => claims.owned.push(pod),
            (true, false) if !ending => claims.released.push(pod),
            (false, true) if !ending && object::is_active(&pod) => claims.adopted.push(pod),
            _ => {}
        }
    }
    claims
}

/// The patch that makes the set the pod's manager. The uid keeps it off a new pod of the same name.
pub(super) fn adopt<K: Replicator>(set: &ReplicaSet, pod: &Pod) -> Value {
    let owner = object::controller(K::API_VERSION, K::KIND, &set.metadata);
    json!({"metadata": {"uid": object::uid(&pod.metadata), "ownerReferences": [owner]}})
}

/// The patch that ends the set's management of the pod.
pub(super) fn release(set: &ReplicaSet, pod: &Pod) -> Value {
    let owner = json!({"$patch": "delete", "uid": object::uid(&set.metadata)});
    json!({"metadata": {"uid": object::uid(&pod.metadata), "ownerReferences": [owner]}})
}
