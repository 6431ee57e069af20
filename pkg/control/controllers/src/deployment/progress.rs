//! What a deployment's status says, and whether its rollout makes progress (upstream: `progress.go`).

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentCondition, DeploymentStatus, ReplicaSet};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::sizes::{Sizes, available, wanted};
use crate::object;

const PROGRESSING: &str = "Progressing";
const FAILURE: &str = "ReplicaFailure";
/// The rollout is over.
const COMPLETE: &str = "NewReplicaSetAvailable";
const TIMED_OUT: &str = "ProgressDeadlineExceeded";
const PAUSED: &str = "DeploymentPaused";

/// The seconds without progress after which a rollout has failed; `None` when it may take for ever.
fn deadline(deployment: &Deployment) -> Option<i64> {
    let seconds = deployment.spec.progress_deadline_seconds?;
    (seconds != i32::MAX).then_some(seconds.into())
}

fn find<'a>(status: &'a DeploymentStatus, kind: &str) -> Option<&'a DeploymentCondition> {
    status.conditions.iter().flatten().find(|condition| condition.type_.as_deref() == Some(kind))
}

fn reason<'a>(status: &'a DeploymentStatus, kind: &str) -> Option<&'a str> {
    find(status, kind)?.reason.as_deref()
}

fn remove(status: &mut DeploymentStatus, kind: &str) {
    if let Some(conditions) = &mut status.conditions {
        conditions.retain(|condition| condition.type_.as_deref() != Some(kind));
    }
    status.conditions = status.conditions.take().filter(|conditions| !conditions.is_empty());
}

fn condition(kind: &str, value: &str, reason: &str, message: String, now: Timestamp) -> DeploymentCondition {
    DeploymentCondition {
        type_: Some(kind.to_owned()),
        status: Some(value.to_owned()),
        reason: Some(reason.to_owned()),
        message: Some(message),
        last_update_time: Some(Time(now)),
        last_transition_time: Some(Time(now)),
    }
}

/// Sets a condition, unless it says the same already; the time of its transition is that of its value.
fn set(status: &mut DeploymentStatus, new: DeploymentCondition) {
    let kind = new.type_.clone().unwrap_or_default();
    if find(status, &kind).is_none_or(|old| (&old.status, &old.reason) != (&new.status, &new.reason)) {
        replace(status, new);
    }
}

fn replace(status: &mut DeploymentStatus, mut new: DeploymentCondition) {
    let kind = new.type_.clone().unwrap_or_default();
    if let Some(old) = find(status, &kind).filter(|old| old.status == new.status) {
        new.last_transition_time.clone_from(&old.last_transition_time);
    }
    remove(status, &kind);
    status.conditions.get_or_insert_default().push(new);
}

/// Notes that the deployment was paused or resumed: meanwhile nobody waits for progress.
pub(super) fn note_pause(deployment: &mut Deployment, now: Timestamp) {
    if deadline(deployment).is_none() {
        return;
    }
    let paused = deployment.spec.paused.unwrap_or_default();
    let status = deployment.status.get_or_insert_default();
    let (reason, message) = match (paused, reason(status, PROGRESSING)) {
        (_, Some(TIMED_OUT)) => return,
        (true, _) => (PAUSED, "Deployment is paused"),
        (false, Some(PAUSED)) => ("DeploymentResumed", "Deployment is resumed"),
        _ => return,
    };
    set(status, condition(PROGRESSING, "Unknown", reason, message.to_owned(), now));
}

/// What happened to the new set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NewSet<'a> {
    Created,
    /// It was there before anybody asked for progress.
    Found,
    /// Why it could not be created.
    Failed(&'a str),
}

/// Notes what happened to the new set of this name.
pub(super) fn note_new_set(deployment: &mut Deployment, name: &str, what: NewSet<'_>, now: Timestamp) {
    if deadline(deployment).is_none() {
        return;
    }
    let status = deployment.status.get_or_insert_default();
    let (value, reason, message) = match what {
        NewSet::Created => ("True", "NewReplicaSetCreated", format!("Created new replica set \"{name}\"")),
        NewSet::Found if find(status, PROGRESSING).is_some() => return,
        NewSet::Found => ("True", "FoundNewReplicaSet", format!("Found new replica set \"{name}\"")),
        NewSet::Failed(error) => (
            "False",
            "ReplicaSetCreateError",
            format!("Failed to create new replica set \"{name}\": {error}"),
        ),
    };
    set(status, condition(PROGRESSING, value, reason, message, now));
}

/// The status that the sets amount to. The conditions about progress stay as they are.
pub(super) fn status(
    deployment: &Deployment,
    new: Option<&ReplicaSet>,
    old: &[ReplicaSet],
    now: Timestamp,
) -> DeploymentStatus {
    let sizes = Sizes::of(deployment);
    let all = || new.into_iter().chain(old);
    let present = deployment.status.clone().unwrap_or_default();
    let counts = |set: &ReplicaSet| set.status.clone().unwrap_or_default();
    let available: i32 = all().map(available).sum();
    let unavailable = all().map(wanted).sum::<i32>() - available;
    let mut status = DeploymentStatus {
        observed_generation: deployment.metadata.generation,
        replicas: some(all().map(|set| counts(set).replicas).sum()),
        updated_replicas: some(new.map(|set| counts(set).replicas).unwrap_or_default()),
        ready_replicas: some(all().filter_map(|set| counts(set).ready_replicas).sum()),
        available_replicas: some(available),
        unavailable_replicas: some(unavailable.max(0)),
        terminating_replicas: terminating(all()),
        collision_count: present.collision_count,
        conditions: present.conditions,
    };
    let (value, reason, message) = if available >= sizes.replicas - sizes.unavailable {
        ("True", "MinimumReplicasAvailable", "Deployment has minimum availability.")
    } else {
        ("False", "MinimumReplicasUnavailable", "Deployment does not have minimum availability.")
    };
    set(&mut status, condition("Available", value, reason, message.to_owned(), now));
    status
}

/// The pods that are ending; `None` when a set does not tell. One that was never looked at has none.
fn terminating<'a>(sets: impl Iterator<Item = &'a ReplicaSet>) -> Option<i32> {
    let of = |set: &ReplicaSet| {
        let status = set.status.clone().unwrap_or_default();
        let unseen = status.observed_generation.unwrap_or_default() == 0;
        status.terminating_replicas.or(unseen.then_some(0))
    };
    sets.map(of).sum()
}

/// Adds to a rollout's status whether it makes progress, and the failures of its sets.
pub(super) fn note_progress(
    deployment: &Deployment,
    status: &mut DeploymentStatus,
    new: Option<&ReplicaSet>,
    old: &[ReplicaSet],
    now: Timestamp,
) {
    match deadline(deployment) {
        None => remove(status, PROGRESSING),
        Some(seconds) => {
            let over =
                status.replicas == status.updated_replicas && reason(status, PROGRESSING) == Some(COMPLETE);
            if !over {
                judge(deployment, status, new, seconds, now);
            }
        }
    }
    let failure = new.into_iter().chain(old).find_map(|set| {
        let status = set.status.as_ref()?;
        status
            .conditions
            .iter()
            .flatten()
            .find(|condition| condition.type_.as_deref() == Some(FAILURE))
            .cloned()
    });
    let Some(failure) = failure else { return remove(status, FAILURE) };
    set(
        status,
        DeploymentCondition {
            last_update_time: failure.last_transition_time.clone(),
            last_transition_time: failure.last_transition_time,
            message: failure.message,
            reason: failure.reason,
            status: failure.status,
            type_: failure.type_,
        },
    );
}

fn judge(
    deployment: &Deployment,
    status: &mut DeploymentStatus,
    new: Option<&ReplicaSet>,
    seconds: i64,
    now: Timestamp,
) {
    let who = match new {
        Some(set) => format!("ReplicaSet \"{}\"", object::name(&set.metadata)),
        None => format!("Deployment \"{}\"", object::name(&deployment.metadata)),
    };
    let before = deployment.status.clone().unwrap_or_default();
    if is_complete(deployment, status) {
        let message = format!("{who} has successfully progressed.");
        set(status, condition(PROGRESSING, "True", COMPLETE, message, now));
    } else if progresses(&before, status) {
        // Also with the same reason: the time of the update is that of the last progress.
        let message = format!("{who} is progressing.");
        replace(status, condition(PROGRESSING, "True", "ReplicaSetUpdated", message, now));
    } else if is_timed_out(status, seconds, now) {
        let message = format!("{who} has timed out progressing.");
        set(status, condition(PROGRESSING, "False", TIMED_OUT, message, now));
    }
}

/// Whether all pods are new and available.
pub(super) fn is_complete(deployment: &Deployment, status: &DeploymentStatus) -> bool {
    let wanted = Sizes::of(deployment).replicas;
    let counts = [status.updated_replicas, status.replicas, status.available_replicas];
    counts.iter().all(|count| count.unwrap_or_default() == wanted)
        && status.observed_generation.unwrap_or_default()
            >= deployment.metadata.generation.unwrap_or_default()
}

fn progresses(before: &DeploymentStatus, now: &DeploymentStatus) -> bool {
    let old = |status: &DeploymentStatus| {
        status.replicas.unwrap_or_default() - status.updated_replicas.unwrap_or_default()
    };
    now.updated_replicas > before.updated_replicas
        || old(now) < old(before)
        || now.ready_replicas > before.ready_replicas
        || now.available_replicas > before.available_replicas
}

fn is_timed_out(status: &DeploymentStatus, seconds: i64, now: Timestamp) -> bool {
    let Some(progress) = find(status, PROGRESSING) else { return false };
    match progress.reason.as_deref() {
        Some(COMPLETE) => false,
        Some(TIMED_OUT) => true,
        _ => {
            let last = progress.last_update_time.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0);
            now.duration_since(last).as_secs() > seconds
        }
    }
}

/// When to look again whether a rollout has timed out; `None` when nothing can time out.
pub(super) fn next_check(
    deployment: &Deployment,
    status: &DeploymentStatus,
    now: Timestamp,
) -> Option<Duration> {
    let seconds = deadline(deployment)?;
    let progress = find(status, PROGRESSING)?;
    if is_complete(deployment, status)
        || matches!(progress.reason.as_deref(), Some(TIMED_OUT | COMPLETE | PAUSED))
    {
        return None;
    }
    let passed = now.duration_since(progress.last_update_time.as_ref()?.0).as_secs();
    let rest = u64::try_from(seconds - passed).unwrap_or_default();
    // Times are in whole seconds.
    Some(Duration::from_secs(rest + 1))
}

/// Counts of zero are left out of the status.
fn some(count: i32) -> Option<i32> {
    Some(count).filter(|count| *count > 0)
}
