//! What a node's silence and its conditions ask for. Pure; the words are upstream's.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, NodeCondition, Taint};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::zone::Evictions;

/// How long a node that has posted a status may be silent, and one that never has.
const GRACE: Duration = Duration::from_secs(50);
const STARTUP_GRACE: Duration = Duration::from_secs(60);
/// Who looks so much too late was stopped, and with it perhaps all who should have renewed.
const LATE: Duration = Duration::from_secs(1);

const NOT_READY: &str = "node.kubernetes.io/not-ready";
const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";
/// Which condition in which state keeps new pods away by which taint.
const TAINTS: [(&str, &str, &str); 6] = [
    ("Ready", "False", NOT_READY),
    ("Ready", "Unknown", UNREACHABLE),
    ("MemoryPressure", "True", "node.kubernetes.io/memory-pressure"),
    ("DiskPressure", "True", "node.kubernetes.io/disk-pressure"),
    ("NetworkUnavailable", "True", "node.kubernetes.io/network-unavailable"),
    ("PIDPressure", "True", "node.kubernetes.io/pid-pressure"),
];
/// The conditions that only the kubelet can know.
const POSTED: [&str; 4] = ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"];

/// What a node's silence means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Silence {
    /// Nothing before this time has passed.
    Short(Duration),
    /// The node is lost.
    Long,
    /// The node is lost, and its conditions say so.
    Known,
    /// Nothing: nobody was there to listen.
    Missed,
}

/// What it means that a node has given no sign of life for this long.
pub(super) fn silence(node: &Node, quiet: Duration) -> Silence {
    let ready = status(node, "Ready");
    let grace = if ready.is_some() { GRACE } else { STARTUP_GRACE };
    match grace.checked_sub(quiet).filter(|rest| !rest.is_zero()) {
        Some(rest) => Silence::Short(rest),
        None if ready == Some("Unknown") => Silence::Known,
        None if quiet > grace + LATE => Silence::Missed,
        None => Silence::Long,
    }
}

/// The conditions of a node that is lost.
pub(super) fn lost(node: &Node, now: Timestamp) -> Vec<NodeCondition> {
    let mut conditions: Vec<_> = conditions(node).cloned().collect();
    for name in POSTED {
        let Some(condition) = conditions.iter_mut().find(|condition| condition.type_ == name) else {
            conditions.push(NodeCondition {
                last_heartbeat_time: node.metadata.creation_timestamp.clone(),
                message: Some("Kubelet never posted node status.".to_owned()),
                reason: Some("NodeStatusNeverUpdated".to_owned()),
                ..unknown(name, now)
            });
            continue;
        };
        if condition.status != "Unknown" {
            *condition = NodeCondition {
                last_heartbeat_time: condition.last_heartbeat_time.clone(),
                message: Some("Kubelet stopped posting node status.".to_owned()),
                reason: Some("NodeStatusUnknown".to_owned()),
                ..unknown(name, now)
            };
        }
    }
    conditions
}

fn unknown(name: &str, now: Timestamp) -> NodeCondition {
    NodeCondition {
        type_: name.to_owned(),
        status: "Unknown".to_owned(),
        last_transition_time: Some(Time(now)),
        ..NodeCondition::default()
    }
}

/// What becomes of a node's taints.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Taints {
    /// All that the node should have, if it has others.
    pub(super) change: Option<Vec<Taint>>,
    /// When pods may be sent away.
    pub(super) next: Option<Duration>,
}

impl Taints {
    /// Whether these begin to send pods away.
    pub(super) fn evict(&self, node: &Node) -> bool {
        let sends = |taints: &[Taint]| {
            taints.iter().any(|taint| taint.effect == "NoExecute" && is_about_ready(taint))
        };
        self.change.as_deref().is_some_and(sends) && !sends(&taints_of(node))
    }
}

/// The taints that a node's conditions ask for.
pub(super) fn taints(node: &Node, evictions: Evictions, now: Timestamp) -> Taints {
    let present = taints_of(node);
    let mut wanted: Vec<(&str, &str)> = Vec::new();
    for (condition, state, key) in TAINTS {
        if status(node, condition) == Some(state) {
            wanted.push((key, "NoSchedule"));
        }
    }
    if node.spec.as_ref().and_then(|spec| spec.unschedulable) == Some(true) {
        wanted.push((UNSCHEDULABLE, "NoSchedule"));
    }
    let evicts = present.iter().any(|taint| taint.effect == "NoExecute" && is_about_ready(taint));
    let key = match status(node, "Ready") {
        Some("False") => Some(NOT_READY),
        Some("Unknown") => Some(UNREACHABLE),
        _ => None,
    };
    let mut next = None;
    match (key, evictions) {
        (Some(key), Evictions::Now) => wanted.push((key, "NoExecute")),
        (Some(key), Evictions::Held | Evictions::After(_)) if evicts => wanted.push((key, "NoExecute")),
        (Some(_), Evictions::After(wait)) => next = Some(wait),
        _ => {}
    }
    Taints { change: changed(&present, &wanted, now), next }
}

/// The taints with those of this controller replaced by what is wanted; `None` when they are already.
fn changed(present: &[Taint], wanted: &[(&str, &str)], now: Timestamp) -> Option<Vec<Taint>> {
    let is_wanted = |taint: &Taint| wanted.contains(&(&taint.key, &taint.effect));
    let mut taints: Vec<_> =
        present.iter().filter(|taint| is_wanted(taint) || !is_ours(taint)).cloned().collect();
    let missing =
        wanted.iter().filter(|(key, effect)| !taints.iter().any(|it| it.key == *key && it.effect == *effect));
    let missing: Vec<_> = missing
        .map(|(key, effect)| Taint {
            key: (*key).to_owned(),
            effect: (*effect).to_owned(),
            time_added: Some(Time(now)),
            value: None,
        })
        .collect();
    taints.extend(missing);
    (taints != present).then_some(taints)
}

fn is_ours(taint: &Taint) -> bool {
    match taint.effect.as_str() {
        "NoSchedule" => taint.key == UNSCHEDULABLE || TAINTS.iter().any(|(_, _, key)| taint.key == *key),
        "NoExecute" => is_about_ready(taint),
        _ => false,
    }
}

fn is_about_ready(taint: &Taint) -> bool {
    taint.key == NOT_READY || taint.key == UNREACHABLE
}

fn taints_of(node: &Node) -> Vec<Taint> {
    node.spec.as_ref().and_then(|spec| spec.taints.clone()).unwrap_or_default()
}

fn conditions(node: &Node) -> impl Iterator<Item = &NodeCondition> {
    node.status.as_ref().and_then(|status| status.conditions.as_ref()).into_iter().flatten()
}

/// A node's condition of this type.
pub(super) fn condition<'a>(node: &'a Node, name: &str) -> Option<&'a NodeCondition> {
    conditions(node).find(|condition| condition.type_ == name)
}

fn status<'a>(node: &'a Node, name: &str) -> Option<&'a str> {
    condition(node, name).map(|condition| condition.status.as_str())
}

/// Whether a node is ready.
pub(super) fn is_ready(node: &Node) -> bool {
    status(node, "Ready") == Some("True")
}
