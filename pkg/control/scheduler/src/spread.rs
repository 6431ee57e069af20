//! Topology spread constraints, as upstream's `PodTopologySpread`.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::TopologySpreadConstraint;

use crate::affinity::{node_matches, selector, selects};
use crate::filter::untolerated;
use crate::pod::PodInfo;
use crate::snapshot::{NodeInfo, Snapshot};

const TOO_MANY: &str = "node(s) didn't match pod topology spread constraints";
const NO_LABEL: &str = "node(s) didn't match pod topology spread constraints (missing required label)";

/// Why the pod may not make this node's domain fuller than others.
pub fn forbids(pod: &PodInfo, node: &NodeInfo, snapshot: &Snapshot) -> Option<&'static str> {
    let constraints = pod.spec.topology_spread_constraints.iter().flatten();
    let mut hard = constraints.filter(|constraint| constraint.when_unsatisfiable == "DoNotSchedule");
    hard.find_map(|constraint| {
        let Some(domain) = node.label(&constraint.topology_key) else { return Some(NO_LABEL) };
        let counts = counts(pod, constraint, snapshot);
        let few = constraint.min_domains.is_some_and(|wanted| counts.len() < wanted.unsigned_abs() as usize);
        let least = if few { 0 } else { counts.values().copied().min().unwrap_or_default() };
        let itself = i32::from(selects(&selector(constraint.label_selector.as_ref()), &pod.labels));
        let here = counts.get(domain).copied().unwrap_or_default();
        (here + itself - least > constraint.max_skew).then_some(TOO_MANY)
    })
}

/// How many pods of the group are in each domain that the pod could use.
fn counts<'a>(
    pod: &PodInfo,
    constraint: &TopologySpreadConstraint,
    snapshot: &'a Snapshot,
) -> BTreeMap<&'a str, i32> {
    let wanted = selector(constraint.label_selector.as_ref());
    let mut counts = BTreeMap::new();
    for node in snapshot.nodes().filter(|node| counts_node(pod, constraint, node)) {
        let Some(domain) = node.label(&constraint.topology_key) else { continue };
        let same = |other: &PodInfo| {
            let mut keys = constraint.match_label_keys.iter().flatten();
            keys.all(|key| pod.labels.get(key).is_none_or(|value| other.labels.get(key) == Some(value)))
        };
        let group = node.pods.values().filter(|other| {
            other.key.namespace == pod.key.namespace
                && !other.terminating
                && selects(&wanted, &other.labels)
                && same(other)
        });
        *counts.entry(domain).or_default() += i32::try_from(group.count()).unwrap_or(i32::MAX);
    }
    counts
}

fn counts_node(pod: &PodInfo, constraint: &TopologySpreadConstraint, node: &NodeInfo) -> bool {
    let honours = |policy: &Option<String>, default: &str| policy.as_deref().unwrap_or(default) == "Honor";
    (!honours(&constraint.node_affinity_policy, "Honor") || node_matches(&pod.spec, node))
        && (!honours(&constraint.node_taints_policy, "Ignore") || untolerated(pod, node).is_none())
}

/// How many pods of its soft groups already share the node's domain: the fewer the better.
pub fn crowd(pod: &PodInfo, node: &NodeInfo, snapshot: &Snapshot) -> i64 {
    let constraints = pod.spec.topology_spread_constraints.iter().flatten();
    let soft = constraints.filter(|constraint| constraint.when_unsatisfiable == "ScheduleAnyway");
    let crowd = soft.filter_map(|constraint| {
        let domain = node.label(&constraint.topology_key)?;
        counts(pod, constraint, snapshot).get(domain).copied()
    });
    crowd.map(i64::from).sum()
}
