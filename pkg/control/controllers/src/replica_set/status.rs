//! What a set's status says.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetStatus};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::object::available_in;

const FAILURE: &str = "ReplicaFailure";

/// The status of a set with these pods; `failure` is why pods could not be created or deleted.
pub(super) fn status(
    set: &ReplicaSet,
    active: &[Pod],
    terminating: usize,
    failure: Option<&str>,
    now: Timestamp,
) -> ReplicaSetStatus {
    let min_ready = set.spec.min_ready_seconds.unwrap_or_default();
    let template = set.spec.template.as_ref().and_then(|template| template.metadata.as_ref());
    let wanted = template.and_then(|metadata| metadata.labels.clone()).unwrap_or_default();
    let labelled = |pod: &&Pod| {
        let labels = pod.metadata.labels.as_ref();
        wanted.iter().all(|(name, value)| labels.and_then(|labels| labels.get(name)) == Some(value))
    };
    let ready: Vec<_> = active.iter().filter_map(|pod| available_in(pod, min_ready, now)).collect();
    let available = ready.iter().filter(|rest| rest.is_zero()).count();
    ReplicaSetStatus {
        replicas: count(active.len()),
        fully_labeled_replicas: some(active.iter().filter(labelled).count()),
        ready_replicas: some(ready.len()),
        available_replicas: some(available),
        terminating_replicas: Some(count(terminating)),
        observed_generation: set.metadata.generation,
        conditions: conditions(set, active.len(), failure, now),
    }
}

/// When the next of the pods that are ready becomes available.
pub(super) fn next_available(set: &ReplicaSet, active: &[Pod], now: Timestamp) -> Option<Duration> {
    let min_ready = set.spec.min_ready_seconds.unwrap_or_default();
    active.iter().filter_map(|pod| available_in(pod, min_ready, now)).filter(|rest| !rest.is_zero()).min()
}

/// The condition stays as it was first set until the failure is over.
fn conditions(
    set: &ReplicaSet,
    active: usize,
    failure: Option<&str>,
    now: Timestamp,
) -> Option<Vec<ReplicaSetCondition>> {
    let mut conditions = set.status.as_ref().and_then(|status| status.conditions.clone()).unwrap_or_default();
    let present = conditions.iter().any(|condition| condition.type_.as_deref() == Some(FAILURE));
    match failure {
        None => conditions.retain(|condition| condition.type_.as_deref() != Some(FAILURE)),
        Some(message) if !present => {
            let too_few = active < usize::try_from(set.spec.replicas.unwrap_or(1)).unwrap_or_default();
            conditions.push(ReplicaSetCondition {
                type_: Some(FAILURE.to_owned()),
                status: Some("True".to_owned()),
                reason: Some(if too_few { "FailedCreate" } else { "FailedDelete" }.to_owned()),
                message: Some(message.to_owned()),
                last_transition_time: Some(Time(now)),
            });
        }
        Some(_) => {}
    }
    Some(conditions).filter(|conditions| !conditions.is_empty())
}

/// Counts of zero are left out of the status.
fn some(count_of: usize) -> Option<i32> {
    Some(count(count_of)).filter(|count| *count > 0)
}

fn count(pods: usize) -> i32 {
    i32::try_from(pods).unwrap_or(i32::MAX)
}
