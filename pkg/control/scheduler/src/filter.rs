//! Filters: why a pod cannot run on a node. Pure, in upstream's order and words.

use k8s_openapi::api::core::v1::Taint;

use crate::affinity::{self, Namespaces, node_matches};
use crate::pod::PodInfo;
use crate::snapshot::{NodeInfo, Snapshot};
use crate::spread;

/// Whether ending pods of lower priority could help.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cure {
    /// It could.
    Preemption,
    /// The node itself does not fit.
    None,
}

/// Why a node cannot take the pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// For people; a node may lack several resources.
    pub reasons: Vec<String>,
    /// What could help.
    pub cure: Cure,
}

/// Why `node` cannot take `pod`; `None` when it can.
pub fn refuses(
    pod: &PodInfo,
    node: &NodeInfo,
    snapshot: &Snapshot,
    namespaces: &Namespaces,
) -> Option<Refusal> {
    let hopeless = |reason: &str| Refusal { reasons: vec![reason.to_owned()], cure: Cure::None };
    if cordoned(pod, node) {
        return Some(hopeless("node(s) were unschedulable"));
    }
    if !pod.node().is_empty() && pod.node() != node.name() {
        return Some(hopeless("node(s) didn't match the requested node name"));
    }
    if untolerated(pod, node).is_some() {
        return Some(hopeless("node(s) had untolerated taint(s)"));
    }
    if !node_matches(&pod.spec, node) {
        return Some(hopeless("node(s) didn't match Pod's node affinity/selector"));
    }
    let curable = |reasons: Vec<String>| Refusal { reasons, cure: Cure::Preemption };
    if node.pods.values().any(|other| other.ports.iter().any(|a| pod.ports.iter().any(|b| a.conflicts(b)))) {
        return Some(curable(vec!["node(s) didn't have free ports for the requested pod ports".to_owned()]));
    }
    let lacking = lacks(pod, node);
    if !lacking.is_empty() {
        let cure = if exceeds(pod, node) { Cure::None } else { Cure::Preemption };
        return Some(Refusal { reasons: lacking, cure });
    }
    let apart = spread::forbids(pod, node, snapshot);
    let reason = apart.or_else(|| affinity::pods_forbid(pod, node, snapshot, namespaces))?;
    Some(curable(vec![reason.to_owned()]))
}

fn cordoned(pod: &PodInfo, node: &NodeInfo) -> bool {
    let spec = node.node.as_ref().and_then(|node| node.spec.as_ref());
    let taint = Taint {
        key: "node.kubernetes.io/unschedulable".into(),
        effect: "NoSchedule".into(),
        ..Taint::default()
    };
    spec.and_then(|spec| spec.unschedulable) == Some(true) && !tolerates(pod, &taint)
}

/// The first taint that keeps the pod away.
pub fn untolerated<'a>(pod: &PodInfo, node: &'a NodeInfo) -> Option<&'a Taint> {
    let taints = node.node.as_ref()?.spec.as_ref()?.taints.iter().flatten();
    taints
        .filter(|taint| matches!(taint.effect.as_str(), "NoSchedule" | "NoExecute"))
        .find(|taint| !tolerates(pod, taint))
}

/// Whether the pod tolerates a taint.
pub fn tolerates(pod: &PodInfo, taint: &Taint) -> bool {
    pod.spec
        .tolerations
        .iter()
        .flatten()
        .any(|toleration| edgek_control_runtime::tolerates(toleration, taint))
}

fn lacks(pod: &PodInfo, node: &NodeInfo) -> Vec<String> {
    let mut reasons = Vec::new();
    if i64::try_from(node.pods.len()).unwrap_or(i64::MAX) >= node.allocatable.get("pods") {
        reasons.push("Too many pods".to_owned());
    }
    for (name, amount) in pod.requests.iter().filter(|(_, amount)| *amount > 0) {
        if amount > node.allocatable.get(name) - node.requested.get(name) {
            reasons.push(format!("Insufficient {name}"));
        }
    }
    reasons
}

fn exceeds(pod: &PodInfo, node: &NodeInfo) -> bool {
    pod.requests.iter().any(|(name, amount)| amount > node.allocatable.get(name))
}

#[cfg(test)]
mod tests;
