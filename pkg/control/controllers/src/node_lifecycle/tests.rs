//! When a node counts as lost, which taints its conditions ask for, and how fast zones are emptied.

use serde_json::Value;

use super::plan::{Taints, lost, silence, taints};
use super::zone::evictions;
use super::*;

fn now() -> Timestamp {
    "2026-01-01T01:00:00Z".parse().unwrap()
}

/// A node with these taints (`key:effect`) and conditions.
fn node(present: &[&str], conditions: &[(&str, &str)]) -> Node {
    let taint = |text: &&str| {
        let (key, effect) = text.split_once(':').unwrap();
        json!({"key": key, "effect": effect})
    };
    let condition = |(name, status): &(&str, &str)| json!({"type": name, "status": status, "reason": "KubeletSays", "lastHeartbeatTime": "2026-01-01T00:00:00Z"});
    let node = json!({
        "metadata": {"name": "n", "creationTimestamp": "2025-01-01T00:00:00Z"},
        "spec": {"taints": present.iter().map(taint).collect::<Vec<_>>()},
        "status": {"conditions": conditions.iter().map(condition).collect::<Vec<_>>()},
    });
    serde_json::from_value(node).unwrap()
}

#[test]
fn a_node_is_lost_after_its_grace_period_unless_nobody_listened() {
    let seconds = Duration::from_secs;
    let posted = |status| node(&[], &[("Ready", status)]);
    for (node, quiet, expected) in [
        (posted("True"), 0, Silence::Short(seconds(50))),
        (posted("True"), 49, Silence::Short(seconds(1))),
        (posted("True"), 50, Silence::Long),
        (posted("False"), 51, Silence::Long),
        (posted("True"), 52, Silence::Missed),
        (posted("Unknown"), 50, Silence::Known),
        (posted("Unknown"), 500, Silence::Known),
        (node(&[], &[]), 59, Silence::Short(seconds(1))),
        (node(&[], &[]), 60, Silence::Long),
    ] {
        assert_eq!(silence(&node, seconds(quiet)), expected, "{:?} after {quiet} s", node.status);
    }
}

#[test]
fn what_only_the_kubelet_knows_becomes_unknown() {
    let node = node(&[], &[("Ready", "True"), ("DiskPressure", "Unknown"), ("NetworkUnavailable", "False")]);
    let told: Vec<_> = lost(&node, now())
        .into_iter()
        .map(|it| (it.type_, it.status, it.reason.unwrap(), it.message.unwrap_or_default()))
        .collect();
    let row = |name: &str, status: &str, reason: &str, message: &str| {
        (name.to_owned(), status.to_owned(), reason.to_owned(), message.to_owned())
    };
    let never = |name| row(name, "Unknown", "NodeStatusNeverUpdated", "Kubelet never posted node status.");
    let expected = [
        row("Ready", "Unknown", "NodeStatusUnknown", "Kubelet stopped posting node status."),
        row("DiskPressure", "Unknown", "KubeletSays", ""),
        row("NetworkUnavailable", "False", "KubeletSays", ""),
        never("MemoryPressure"),
        never("PIDPressure"),
    ];
    assert_eq!(told, expected);
}

const NOT_READY: [&str; 2] =
    ["node.kubernetes.io/not-ready:NoSchedule", "node.kubernetes.io/not-ready:NoExecute"];
const UNREACHABLE: [&str; 2] =
    ["node.kubernetes.io/unreachable:NoSchedule", "node.kubernetes.io/unreachable:NoExecute"];

/// The taints the node should have, `None` when it has them.
fn check(node: &Node, evictions: Evictions, expected: Option<&[&str]>) {
    let Taints { change, .. } = taints(node, evictions, now());
    let text = |taint: &k8s_openapi::api::core::v1::Taint| format!("{}:{}", taint.key, taint.effect);
    let change: Option<Vec<_>> = change.map(|taints| taints.iter().map(text).collect());
    let expected = expected.map(|list| list.iter().map(ToString::to_string).collect::<Vec<_>>());
    assert_eq!(change, expected, "{:?} with {evictions:?}", node.spec);
}

#[test]
fn conditions_are_taints() {
    use Evictions::{After, Held, Now, Stopped};
    let ready = [("Ready", "True")];
    check(&node(&[], &ready), Now, None);
    check(&node(&["own:NoSchedule"], &ready), Now, None);
    check(&node(&NOT_READY, &ready), Stopped, Some(&[]));
    check(&node(&["own:NoExecute", UNREACHABLE[0]], &ready), Stopped, Some(&["own:NoExecute"]));
    let pressed =
        [("Ready", "True"), ("MemoryPressure", "True"), ("DiskPressure", "True"), ("PIDPressure", "True")];
    let pressure =
        ["memory", "disk", "pid"].map(|what| format!("node.kubernetes.io/{what}-pressure:NoSchedule"));
    check(&node(&[], &pressed), Stopped, Some(&pressure.each_ref().map(String::as_str)));
    check(&node(&[&pressure[0]], &ready), Stopped, Some(&[]));
    let unavailable = ["node.kubernetes.io/network-unavailable:NoSchedule"];
    check(&node(&[], &[("Ready", "True"), ("NetworkUnavailable", "True")]), Stopped, Some(&unavailable));

    let (failed, unknown) = ([("Ready", "False")], [("Ready", "Unknown")]);
    check(&node(&[], &failed), Now, Some(&NOT_READY));
    check(&node(&[], &unknown), Now, Some(&UNREACHABLE));
    check(&node(&NOT_READY, &failed), Now, None);
    check(&node(&[], &unknown), After(Duration::from_secs(5)), Some(&UNREACHABLE[..1]));
    check(&node(&[], &unknown), Held, Some(&UNREACHABLE[..1]));
    check(&node(&[], &unknown), Stopped, Some(&UNREACHABLE[..1]));
    check(&node(&UNREACHABLE, &unknown), Stopped, Some(&UNREACHABLE[..1]));
    check(&node(&UNREACHABLE, &unknown), Held, None);
    check(&node(&NOT_READY, &unknown), Held, Some(&UNREACHABLE));
}

#[test]
fn a_cordoned_node_is_tainted() {
    let mut cordoned = node(&[], &[("Ready", "True")]);
    cordoned.spec.as_mut().unwrap().unschedulable = Some(true);
    check(&cordoned, Evictions::Stopped, Some(&["node.kubernetes.io/unschedulable:NoSchedule"]));
    check(&node(&["node.kubernetes.io/unschedulable:NoSchedule"], &[]), Evictions::Stopped, Some(&[]));
}

#[test]
fn taints_that_stay_keep_the_time_they_were_added() {
    let mut node = node(&["node.kubernetes.io/unreachable:NoSchedule"], &[("Ready", "Unknown")]);
    let before = Some(Time("2020-01-01T00:00:00Z".parse().unwrap()));
    node.spec.as_mut().unwrap().taints.as_mut().unwrap()[0].time_added.clone_from(&before);
    let change = taints(&node, Evictions::Now, now()).change.unwrap();
    assert_eq!([&change[0].time_added, &change[1].time_added], [&before, &Some(Time(now()))]);
}

#[test]
fn the_fewer_nodes_are_ready_the_slower_zones_are_emptied() {
    use Evictions::{After, Held, Now, Stopped};
    let members = |zone: &str, ready: usize, lost: usize| {
        let member = |status: &str, count: usize| {
            let mut node = node(&[], &[("Ready", status)]);
            let label = ("topology.kubernetes.io/zone".to_owned(), zone.to_owned());
            node.metadata.labels = Some([label].into());
            vec![Member::of(&node).unwrap(); count]
        };
        [member("True", ready), member("Unknown", lost)].concat()
    };
    let ago = |seconds| Some(Duration::from_secs(seconds));
    let after = |seconds| After(Duration::from_secs(seconds));
    for (nodes, last, expected) in [
        (members("a", 0, 1), None, Stopped),
        ([members("a", 0, 3), members("b", 0, 1)].concat(), None, Stopped),
        ([members("a", 0, 3), members("b", 1, 0)].concat(), None, Now),
        (members("a", 1, 2), None, Now),
        (members("a", 1, 2), ago(3), after(7)),
        (members("a", 1, 2), ago(11), Now),
        (members("a", 2, 3), None, Held),
        (members("a", 3, 3), None, Now),
        (members("a", 20, 31), None, Now),
        (members("a", 20, 31), ago(30), after(70)),
        (members("a", 20, 30), None, Held),
    ] {
        let zone = (String::new(), "a".to_owned());
        assert_eq!(evictions(&nodes, &zone, last), expected, "{} nodes", nodes.len());
    }
}

#[test]
fn nodes_that_ask_for_it_do_not_count() {
    let labels: Value = json!({"node.kubernetes.io/exclude-disruption": ""});
    let mut node = node(&[], &[("Ready", "True")]);
    node.metadata.labels = serde_json::from_value(labels).unwrap();
    assert_eq!(Member::of(&node), None);
}
