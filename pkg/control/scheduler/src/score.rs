//! Scores: which of the nodes that can take a pod takes it. Pure; the plugins and weights are upstream's defaults.

use k8s_openapi::api::core::v1::PreferredSchedulingTerm;

use crate::affinity::{Namespaces, pods_prefer, term_matches};
use crate::filter::tolerates;
use crate::pod::PodInfo;
use crate::snapshot::{NodeInfo, Snapshot};
use crate::spread::crowd;

const MAX: i64 = 100;

/// The best of these nodes; the one with the first name among equals.
pub fn best<'a>(
    pod: &PodInfo,
    nodes: &[&'a NodeInfo],
    snapshot: &Snapshot,
    namespaces: &Namespaces,
) -> Option<&'a NodeInfo> {
    if let [only] = nodes {
        return Some(only);
    }
    let each = |score: &dyn Fn(&NodeInfo) -> i64| nodes.iter().map(|node| score(node)).collect::<Vec<_>>();
    let plugins = [
        (1, each(&|node| least_allocated(pod, node))),
        (1, each(&|node| balanced(pod, node))),
        (1, each(&|node| has_image(pod, node))),
        (3, normalize(&each(&|node| -intolerable(pod, node)))),
        (2, normalize(&each(&|node| preferred(pod, node)))),
        (2, normalize(&each(&|node| pods_prefer(pod, node, snapshot, namespaces)))),
        (2, normalize(&each(&|node| -crowd(pod, node, snapshot)))),
    ];
    let total = |i: usize| plugins.iter().map(|(weight, scores)| weight * scores[i]).sum::<i64>();
    let best = (0..nodes.len()).max_by_key(|i| (total(*i), std::cmp::Reverse(*i)))?;
    Some(nodes[best])
}

/// Stretches scores over 0..=100.
fn normalize(scores: &[i64]) -> Vec<i64> {
    let (min, max) = (scores.iter().min().copied().unwrap_or(0), scores.iter().max().copied().unwrap_or(0));
    let range = (max - min).max(1);
    scores.iter().map(|score| (score - min) * MAX / range).collect()
}

fn shares(pod: &PodInfo, node: &NodeInfo) -> [(i64, i64); 2] {
    let used = |i: usize, name| (node.assumed[i] + pod.assumed[i], node.allocatable.get(name));
    [used(0, "cpu"), used(1, "memory")]
}

fn least_allocated(pod: &PodInfo, node: &NodeInfo) -> i64 {
    let free = |(used, all): (i64, i64)| if all <= 0 || used > all { 0 } else { (all - used) * MAX / all };
    shares(pod, node).map(free).iter().sum::<i64>() / 2
}

/// 100 when CPU and memory are used alike.
fn balanced(pod: &PodInfo, node: &NodeInfo) -> i64 {
    let percent = |(used, all): (i64, i64)| if all <= 0 { MAX } else { (used * MAX / all).min(MAX) };
    let [cpu, memory] = shares(pod, node).map(percent);
    MAX - (cpu - memory).abs() / 2
}

fn has_image(pod: &PodInfo, node: &NodeInfo) -> i64 {
    let status = node.node.as_ref().and_then(|node| node.status.as_ref());
    let images = status.and_then(|status| status.images.as_deref()).unwrap_or_default();
    let present =
        |wanted: &str| images.iter().any(|image| image.names.iter().flatten().any(|name| name == wanted));
    let there = pod.images.iter().filter(|image| present(image)).count();
    MAX * there as i64 / (pod.images.len() as i64).max(1)
}

fn intolerable(pod: &PodInfo, node: &NodeInfo) -> i64 {
    let spec = node.node.as_ref().and_then(|node| node.spec.as_ref());
    let taints = spec.and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
    let soft = taints.iter().filter(|taint| taint.effect == "PreferNoSchedule" && !tolerates(pod, taint));
    soft.count() as i64
}

fn preferred(pod: &PodInfo, node: &NodeInfo) -> i64 {
    let affinity = pod.spec.affinity.as_ref().and_then(|affinity| affinity.node_affinity.as_ref());
    let terms = affinity.and_then(|a| a.preferred_during_scheduling_ignored_during_execution.as_deref());
    let matching = |term: &&PreferredSchedulingTerm| term_matches(&term.preference, node);
    terms.unwrap_or_default().iter().filter(matching).map(|term| i64::from(term.weight)).sum()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::{Value, json};

    use super::*;
    use crate::fixture::{named, node, pod};

    fn check(nodes: [Value; 2], on_first: &[Value], spec: Value, expected: &str) {
        let mut snapshot = Snapshot::default();
        let [first, second] = nodes;
        snapshot.set_node(node("a", first));
        snapshot.set_node(node("b", second));
        for (i, spec) in on_first.iter().enumerate() {
            snapshot.set_pod(Arc::new(named(&format!("p{i}"), spec.clone())).on("a"));
        }
        let nodes: Vec<_> = snapshot.nodes().collect();
        let best = best(&pod(spec.clone()), &nodes, &snapshot, &Namespaces::new()).unwrap();
        assert_eq!(best.name(), expected, "{spec}");
    }

    #[test]
    fn pods_go_where_they_fit_best() {
        let plain = || [json!({}), json!({})];
        check(plain(), &[], json!({}), "a");
        check(plain(), &[json!({})], json!({}), "b");
        let soft = json!({"taints": [{"key": "k", "effect": "PreferNoSchedule"}]});
        check([soft.clone(), json!({})], &[], json!({}), "b");
        check([soft, json!({})], &[], json!({"tolerations": [{"operator": "Exists"}]}), "a");
        let b = json!([{"key": "kubernetes.io/hostname", "operator": "In", "values": ["b"]}]);
        let preference = json!([{"weight": 1, "preference": {"matchExpressions": b}}]);
        let wants_b = json!({"affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": preference}}});
        check(plain(), &[], wants_b, "b");
    }
}
