//! How many pods to create and which to delete.

use std::cmp::Reverse;
use std::collections::HashMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;

use crate::object;

/// At most so many pods are created or deleted at once.
const BURST: usize = 500;
const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// What to do.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Plan {
    pub(super) creations: usize,
    pub(super) deletions: Vec<Pod>,
}

/// Compares the active pods with the number wanted. `related` are the active pods of all sets with the same owner.
pub(super) fn plan(replicas: i32, active: &[Pod], related: &[Pod], now: Timestamp) -> Plan {
    let wanted = usize::try_from(replicas).unwrap_or_default();
    let creations = wanted.saturating_sub(active.len()).min(BURST);
    let surplus = active.len().saturating_sub(wanted).min(BURST);
    if surplus == 0 {
        return Plan { creations, deletions: Vec::new() };
    }
    let mut neighbours = HashMap::<&str, usize>::new();
    for pod in related {
        *neighbours.entry(node(pod)).or_default() += 1;
    }
    let mut deletions = active.to_vec();
    deletions
        .sort_by_cached_key(|pod| loss(pod, neighbours.get(node(pod)).copied().unwrap_or_default(), now));
    deletions.truncate(surplus);
    Plan { creations, deletions }
}

/// How much is lost with a pod; the smallest goes first (upstream: `ActivePodsWithRanks`): not assigned, not running,
/// not ready, cheap, with many neighbours, ready for a short time, often restarted, young.
fn loss(pod: &Pod, neighbours: usize, now: Timestamp) -> impl Ord + use<> {
    let phase = match object::phase(pod) {
        "Pending" => 0,
        "Running" => 2,
        _ => 1,
    };
    let ready = object::ready_since(pod);
    let created = pod.metadata.creation_timestamp.as_ref().map(|time| time.0);
    (
        !node(pod).is_empty(),
        phase,
        ready.is_some(),
        deletion_cost(pod),
        Reverse(neighbours),
        ready.map(|since| magnitude(since, now)),
        Reverse(restarts(pod)),
        created.map(|since| magnitude(since, now)),
        object::uid(&pod.metadata).to_owned(),
    )
}

fn node(pod: &Pod) -> &str {
    pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).unwrap_or_default()
}

fn deletion_cost(pod: &Pod) -> i32 {
    let annotation = pod.metadata.annotations.as_ref().and_then(|all| all.get(DELETION_COST));
    annotation.and_then(|cost| cost.parse().ok()).unwrap_or_default()
}

fn restarts(pod: &Pod) -> i32 {
    let statuses = pod.status.iter().filter_map(|status| status.container_statuses.as_ref()).flatten();
    statuses.map(|status| status.restart_count).max().unwrap_or_default()
}

/// The binary logarithm of the time since then: pods of about the same age are equal, so that chance decides.
fn magnitude(since: Timestamp, now: Timestamp) -> u32 {
    let nanoseconds = now.duration_since(since).as_nanos();
    u128::try_from(nanoseconds).ok().and_then(u128::checked_ilog2).map_or(0, |magnitude| magnitude + 1)
}
