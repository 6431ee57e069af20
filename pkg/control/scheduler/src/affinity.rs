//! What pods say about nodes and about other pods: node selectors, affinity and anti-affinity.

use std::collections::BTreeMap;

use edgek_api::selector::label::{Operator, Requirement, Selector};
use k8s_openapi::api::core::v1::{
    Affinity, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, PodAffinityTerm, PodSpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use crate::pod::PodInfo;
use crate::snapshot::{NodeInfo, Snapshot};

/// Whether the node satisfies the pod's `nodeSelector` and its required node affinity.
pub fn node_matches(spec: &PodSpec, node: &NodeInfo) -> bool {
    let labels = spec.node_selector.iter().flatten();
    let selected = labels.into_iter().all(|(key, value)| node.label(key) == Some(value));
    let required = spec.affinity.as_ref().and_then(|affinity| affinity.node_affinity.as_ref());
    let required = required.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref());
    selected && required.is_none_or(|selector| selector_matches(selector, node))
}

fn selector_matches(selector: &NodeSelector, node: &NodeInfo) -> bool {
    selector.node_selector_terms.iter().any(|term| term_matches(term, node))
}

/// Whether a node satisfies a term; one without requirements matches nothing.
pub fn term_matches(term: &NodeSelectorTerm, node: &NodeInfo) -> bool {
    let labels = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    let field = |key: &str| (key == "metadata.name").then(|| node.name());
    !(labels.is_empty() && fields.is_empty())
        && labels.iter().all(|requirement| matches(requirement, node.label(&requirement.key)))
        && fields.iter().all(|requirement| matches(requirement, field(&requirement.key)))
}

fn matches(requirement: &NodeSelectorRequirement, value: Option<&str>) -> bool {
    let operator = match requirement.operator.as_str() {
        "In" => Operator::In,
        "NotIn" => Operator::NotIn,
        "Exists" => Operator::Exists,
        "DoesNotExist" => Operator::DoesNotExist,
        "Gt" => Operator::GreaterThan,
        "Lt" => Operator::LessThan,
        _ => return false,
    };
    let values = requirement.values.clone().unwrap_or_default();
    Requirement { key: requirement.key.clone(), operator, values }.matches(value)
}

/// The selector of a `LabelSelector`; nothing when it is absent or cannot be read.
pub fn selector(selector: Option<&LabelSelector>) -> Selector {
    let value = serde_json::to_value(selector).unwrap_or_default();
    Selector::from_object(&value).unwrap_or_else(|_| Selector::nothing())
}

/// Whether labels are selected.
pub fn selects(selector: &Selector, labels: &BTreeMap<String, String>) -> bool {
    selector.matches(|key| labels.get(key).map(String::as_str))
}

/// The labels of namespaces by name, which `namespaceSelector` looks at.
pub type Namespaces = BTreeMap<String, BTreeMap<String, String>>;

/// Whether `other` is a pod that the term of `pod` means.
fn term_means(term: &PodAffinityTerm, pod: &PodInfo, other: &PodInfo, namespaces: &Namespaces) -> bool {
    let listed = term.namespaces.as_deref().unwrap_or_default();
    let by_name = match &term.namespace_selector {
        None if listed.is_empty() => other.key.namespace == pod.key.namespace,
        None => listed.contains(&other.key.namespace),
        Some(namespace_selector) => {
            let wanted = selector(Some(namespace_selector));
            listed.contains(&other.key.namespace)
                || namespaces.get(&other.key.namespace).is_some_and(|labels| selects(&wanted, labels))
        }
    };
    let label_keys = |keys: &Option<Vec<String>>, same: bool| {
        keys.iter().flatten().all(|key| {
            let Some(value) = pod.labels.get(key) else { return true };
            (other.labels.get(key) == Some(value)) == same
        })
    };
    by_name
        && selects(&selector(term.label_selector.as_ref()), &other.labels)
        && label_keys(&term.match_label_keys, true)
        && label_keys(&term.mismatch_label_keys, false)
}

fn same_domain(key: &str, one: &NodeInfo, other: &NodeInfo) -> bool {
    one.label(key).is_some() && one.label(key) == other.label(key)
}

fn affinity(pod: &PodInfo) -> Option<&Affinity> {
    pod.spec.affinity.as_ref()
}

fn required_affinity(pod: &PodInfo) -> &[PodAffinityTerm] {
    let terms = affinity(pod).and_then(|a| a.pod_affinity.as_ref());
    terms.and_then(|t| t.required_during_scheduling_ignored_during_execution.as_deref()).unwrap_or_default()
}

fn required_anti_affinity(pod: &PodInfo) -> &[PodAffinityTerm] {
    let terms = affinity(pod).and_then(|a| a.pod_anti_affinity.as_ref());
    terms.and_then(|t| t.required_during_scheduling_ignored_during_execution.as_deref()).unwrap_or_default()
}

/// Why the pods that are there forbid this node, as upstream's `InterPodAffinity` says it.
pub fn pods_forbid(
    pod: &PodInfo,
    node: &NodeInfo,
    snapshot: &Snapshot,
    namespaces: &Namespaces,
) -> Option<&'static str> {
    let affine = required_affinity(pod);
    let beside = |term: &PodAffinityTerm| {
        snapshot.pods().any(|(at, other)| {
            same_domain(&term.topology_key, node, at) && term_means(term, pod, other, namespaces)
        })
    };
    if !affine.iter().all(beside) {
        // The first of a group that wants company may begin it.
        let alone = !snapshot.pods().any(|(_, o)| affine.iter().any(|t| term_means(t, pod, o, namespaces)));
        let itself = affine
            .iter()
            .all(|term| term_means(term, pod, pod, namespaces) && node.label(&term.topology_key).is_some());
        if !(alone && itself) {
            return Some("node(s) didn't match pod affinity rules");
        }
    }
    if required_anti_affinity(pod).iter().any(beside) {
        return Some("node(s) didn't match pod anti-affinity rules");
    }
    let forbidden = snapshot.pods().any(|(at, other)| {
        let mut terms = required_anti_affinity(other).iter();
        terms
            .any(|term| same_domain(&term.topology_key, node, at) && term_means(term, other, pod, namespaces))
    });
    forbidden.then_some("node(s) didn't satisfy existing pods anti-affinity rules")
}

/// How much the pod's preferences about other pods speak for this node; not yet normalized.
pub fn pods_prefer(pod: &PodInfo, node: &NodeInfo, snapshot: &Snapshot, namespaces: &Namespaces) -> i64 {
    let Some(affinity) = affinity(pod) else { return 0 };
    let near = affinity.pod_affinity.as_ref();
    let near = near.and_then(|a| a.preferred_during_scheduling_ignored_during_execution.as_deref());
    let far = affinity.pod_anti_affinity.as_ref();
    let far = far.and_then(|a| a.preferred_during_scheduling_ignored_during_execution.as_deref());
    let weighted =
        near.into_iter().flatten().map(|term| (term, 1)).chain(far.into_iter().flatten().map(|t| (t, -1)));
    let sum = weighted.map(|(weighted, sign)| {
        let term = &weighted.pod_affinity_term;
        let count = snapshot.pods().filter(|(at, other)| {
            same_domain(&term.topology_key, node, at) && term_means(term, pod, other, namespaces)
        });
        i64::from(weighted.weight) * sign * i64::try_from(count.count()).unwrap_or(i64::MAX)
    });
    sum.sum()
}
