//! The status of a pod, computed from what the runtime, the probes and the network say. Pure; the pod task sends what
//! has changed.

mod conditions;
mod containers;

use std::net::IpAddr;

use edgek_node_runtime::Container as Run;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStatus, HostIP, Pod, PodIP, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::Value;

use crate::plan::{End, outcome};
use crate::resources::Qos;
use crate::restart::restarts_after;
use crate::view::{View, ephemeral_containers, exit_code};

/// What the status tells beyond the containers.
#[derive(Debug, Clone, Default)]
pub struct Node<'a> {
    /// The node's addresses, the first being the primary one.
    pub host_ips: &'a [IpAddr],
    /// The pod's addresses; empty before its network is set up.
    pub pod_ips: &'a [IpAddr],
    /// Whether the network is set up and the volumes are mounted.
    pub sandbox: Sandbox,
    /// Whether the pod is being ended.
    pub ending: Ending,
}

/// Whether what containers need exists.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Sandbox {
    /// Not yet, or no more.
    #[default]
    Missing,
    /// Network and volumes are there.
    Ready,
}

/// How far the end of a pod is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Ending {
    /// It is not ended.
    #[default]
    No,
    /// The node ends it, for this reason and with this message (`OutOfcpu`, `DeadlineExceeded`).
    Failed(String, String),
    /// The node runs out of something, as the message says.
    Evicted(String),
    /// Everything of it has ended.
    Over,
}

/// The pod's status now, given what it was.
pub fn build(view: &View<'_>, node: &Node<'_>) -> PodStatus {
    let old = view.pod.status.clone().unwrap_or_default();
    let phase = phase(view, node, old.phase.as_deref());
    let init = containers::statuses(view, view.init_containers(), &old.init_container_statuses, phase);
    let main = containers::statuses(view, &view.spec.containers, &old.container_statuses, phase);
    let extra = ephemeral_containers(view.spec);
    let mut ephemeral = containers::statuses(view, &extra, &old.ephemeral_container_statuses, phase);
    for status in &mut ephemeral {
        // Nothing asks whether they are ready.
        (status.ready, status.started) = (false, None);
    }
    let conditions = conditions::build(view, node, phase, &main);
    let (reason, message) = match &node.ending {
        Ending::Failed(reason, message) => (Some(reason.clone()), Some(message.clone())),
        Ending::Evicted(message) => (Some("Evicted".to_owned()), Some(message.clone())),
        Ending::No | Ending::Over => (old.reason, old.message),
    };
    PodStatus {
        phase: Some(phase.to_owned()),
        reason,
        message,
        conditions: Some(conditions),
        host_ip: node.host_ips.first().map(ToString::to_string),
        host_ips: some(node.host_ips.iter().map(|ip| HostIP { ip: ip.to_string() })),
        pod_ip: node.pod_ips.first().map(ToString::to_string).or(old.pod_ip),
        pod_ips: some(node.pod_ips.iter().map(|ip| PodIP { ip: ip.to_string() })).or(old.pod_ips),
        start_time: old.start_time.or(Some(Time(whole_seconds(view.now)))),
        init_container_statuses: some(init),
        container_statuses: some(main),
        ephemeral_container_statuses: some(ephemeral),
        qos_class: old.qos_class.or_else(|| Some(Qos::of(view.spec).as_str().to_owned())),
        observed_generation: view.pod.metadata.generation,
        ..old
    }
}

/// The pod's phase, by the rules of upstream's `getPhase`. A phase that is final stays.
pub fn phase(view: &View<'_>, node: &Node<'_>, old: Option<&str>) -> &'static str {
    match old {
        Some("Succeeded") => return "Succeeded",
        Some("Failed") => return "Failed",
        _ => {}
    }
    let quiet = !view.runs.iter().any(|run| run.state.is_running());
    match (&node.ending, outcome(view)) {
        (Ending::Failed(..) | Ending::Evicted(_), _) => return "Failed",
        (Ending::Over, _) => return over(view),
        // Sidecars are still to be stopped before the phase is final.
        (Ending::No, Some(End::Succeeded)) if quiet => return "Succeeded",
        (Ending::No, Some(End::Failed)) if quiet => return "Failed",
        _ => {}
    }
    let init_failed = view.init_containers().iter().any(|container| {
        let code = view.newest(&container.name).and_then(exit_code);
        code.is_some_and(|code| code != 0 && !restarts_after(view.spec, container, code))
    });
    if init_failed && quiet && !view.is_initialized() {
        return "Failed";
    }
    let all_were_started = view.spec.containers.iter().all(|container| {
        view.newest(&container.name).is_some_and(|run| run.state.is_running() || run.state.is_exited())
    });
    if all_were_started && view.is_initialized() { "Running" } else { "Pending" }
}

/// The final phase of a pod that was ended from outside: whatever its restart policy, it succeeded if all of it did.
fn over(view: &View<'_>) -> &'static str {
    let code = |name: &str| view.newest(name).and_then(exit_code);
    if view.spec.containers.iter().all(|c| code(&c.name) == Some(0)) { "Succeeded" } else { "Failed" }
}

/// What the API has of a run: the status of its container, if it is about this run.
pub fn of_run<'a>(pod: &'a Pod, run: &Run) -> Option<&'a ContainerStatus> {
    let status = pod.status.as_ref()?;
    let mut all = status.init_container_statuses.iter().chain(&status.container_statuses).flatten();
    let id = containers::container_id(run);
    all.find(|status| status.container_id.as_ref() == Some(&id))
}

/// A JSON merge patch that leads from one status to another; `None` when they are equal.
///
/// # Errors
/// None that a status could cause.
pub fn change(old: Option<&PodStatus>, new: &PodStatus) -> serde_json::Result<Option<Value>> {
    let document = |status| serde_json::from_slice(&serde_json::to_vec(status)?);
    Ok(difference(&document(old.unwrap_or(&PodStatus::default()))?, &document(new)?))
}

/// A JSON merge patch that leads from `old` to `new`; `None` when they are equal.
fn difference(old: &Value, new: &Value) -> Option<Value> {
    let (Value::Object(old), Value::Object(new)) = (old, new) else {
        return (old != new).then(|| new.clone());
    };
    let mut patch = serde_json::Map::new();
    for (key, value) in new {
        let change = old.get(key).map_or_else(|| Some(value.clone()), |before| difference(before, value));
        patch.extend(change.map(|change| (key.clone(), change)));
    }
    for key in old.keys().filter(|key| !new.contains_key(*key)) {
        patch.insert(key.clone(), Value::Null);
    }
    (!patch.is_empty()).then_some(Value::Object(patch))
}

/// Times in the API have whole seconds.
pub(crate) fn whole_seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

fn some<T>(items: impl IntoIterator<Item = T>) -> Option<Vec<T>> {
    let items: Vec<T> = items.into_iter().collect();
    (!items.is_empty()).then_some(items)
}

#[cfg(test)]
mod tests;
