//! Which nodes refuse which pods, and in which words.

use std::sync::Arc;

use serde_json::{Value, json};

use super::*;
use crate::fixture::{named, node, pod};

/// A cluster of the node `a` with these pods on it.
fn cluster(node_spec: Value, pods: &[Value]) -> Snapshot {
    let mut snapshot = Snapshot::default();
    snapshot.set_node(node("a", node_spec));
    for (i, spec) in pods.iter().enumerate() {
        snapshot.set_pod(Arc::new(named(&format!("p{i}"), spec.clone())).on("a"));
    }
    snapshot
}

fn check(snapshot: &Snapshot, spec: Value, expected: &[&str]) {
    let pod = pod(spec.clone());
    let refusal = refuses(&pod, snapshot.nodes().next().unwrap(), snapshot, &Namespaces::new());
    let reasons = refusal.map(|refusal| refusal.reasons).unwrap_or_default();
    assert_eq!(reasons, expected, "{spec}");
}

fn requests(cpu: &str) -> Value {
    json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": cpu, "example.com/gpu": "1"}}}]})
}

#[test]
fn resources() {
    let cpu = |cpu: &str| json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}]});
    check(&cluster(json!({}), &[cpu("500m")]), cpu("1500m"), &[]);
    check(&cluster(json!({}), &[cpu("501m")]), cpu("1500m"), &["Insufficient cpu"]);
    check(&cluster(json!({}), &[]), requests("3"), &["Insufficient cpu", "Insufficient example.com/gpu"]);
    check(&cluster(json!({}), &[json!({}), json!({}), json!({})]), json!({}), &["Too many pods"]);
}

#[test]
fn cordons_and_taints() {
    let cordoned = cluster(json!({"unschedulable": true}), &[]);
    check(&cordoned, json!({}), &["node(s) were unschedulable"]);
    check(&cordoned, json!({"tolerations": [{"operator": "Exists"}]}), &[]);
    let taint = |effect: &str| json!({"taints": [{"key": "k", "value": "v", "effect": effect}]});
    let refused = &["node(s) had untolerated taint(s)"];
    check(&cluster(taint("NoExecute"), &[]), json!({}), refused);
    check(&cluster(taint("PreferNoSchedule"), &[]), json!({}), &[]);
    let tainted = cluster(taint("NoSchedule"), &[]);
    let with = |toleration: Value| json!({"tolerations": [toleration]});
    check(&tainted, with(json!({"key": "k", "value": "v"})), &[]);
    check(&tainted, with(json!({"key": "k", "value": "w"})), refused);
    check(&tainted, with(json!({"key": "k", "operator": "Exists", "effect": "NoSchedule"})), &[]);
    check(&tainted, with(json!({"key": "k", "operator": "Exists", "effect": "NoExecute"})), refused);
}

#[test]
fn node_selectors_and_affinity() {
    let refused = &["node(s) didn't match Pod's node affinity/selector"];
    let one = cluster(json!({}), &[]);
    check(&one, json!({"nodeSelector": {"zone": "z"}}), &[]);
    check(&one, json!({"nodeSelector": {"zone": "y"}}), refused);
    let term = |term: Value| {
        let required = json!({"nodeSelectorTerms": [term]});
        json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}})
    };
    let label = |operator: &str, value: &str| {
        term(json!({"matchExpressions": [{"key": "cores", "operator": operator, "values": [value]}]}))
    };
    check(&one, label("Gt", "3"), &[]);
    check(&one, label("Gt", "4"), refused);
    check(&one, label("NotIn", "4"), refused);
    let name = |name: &str| {
        term(json!({"matchFields": [{"key": "metadata.name", "operator": "In", "values": [name]}]}))
    };
    check(&one, name("a"), &[]);
    check(&one, name("b"), refused);
    check(&one, term(json!({})), refused);
}

#[test]
fn host_ports() {
    let port = |ip: &str, protocol: &str| {
        let port = json!({"containerPort": 1, "hostPort": 80, "hostIP": ip, "protocol": protocol});
        json!({"containers": [{"name": "c", "ports": [port]}]})
    };
    let refused = &["node(s) didn't have free ports for the requested pod ports"];
    let one = cluster(json!({}), &[port("10.0.0.1", "TCP")]);
    check(&one, port("10.0.0.1", "TCP"), refused);
    check(&one, port("", "TCP"), refused);
    check(&one, port("10.0.0.2", "TCP"), &[]);
    check(&one, port("10.0.0.1", "UDP"), &[]);
}

#[test]
fn other_pods() {
    let term = json!([{"labelSelector": {"matchLabels": {"app": "web"}}, "topologyKey": "zone"}]);
    let required = json!({"requiredDuringSchedulingIgnoredDuringExecution": term});
    let near = json!({"affinity": {"podAffinity": required}});
    let far = json!({"affinity": {"podAntiAffinity": required}});
    check(&cluster(json!({}), &[]), near.clone(), &[]);
    check(&cluster(json!({}), &[json!({})]), near, &[]);
    check(&cluster(json!({}), &[]), far.clone(), &[]);
    check(&cluster(json!({}), &[json!({})]), far.clone(), &["node(s) didn't match pod anti-affinity rules"]);
    let guarded = cluster(json!({}), &[far]);
    check(&guarded, json!({}), &["node(s) didn't satisfy existing pods anti-affinity rules"]);
}

#[test]
fn spreading() {
    let spread = |key: &str| {
        let selector = json!({"matchLabels": {"app": "web"}});
        json!({"topologySpreadConstraints": [{
            "maxSkew": 1, "topologyKey": key, "whenUnsatisfiable": "DoNotSchedule", "labelSelector": selector,
        }]})
    };
    let mut two = cluster(json!({}), &[json!({})]);
    check(&two, spread("kubernetes.io/hostname"), &[]);
    two.set_node(node("b", json!({})));
    check(&two, spread("kubernetes.io/hostname"), &["node(s) didn't match pod topology spread constraints"]);
    check(&two, spread("zone"), &[]);
    let missing = "node(s) didn't match pod topology spread constraints (missing required label)";
    check(&two, spread("rack"), &[missing]);
}
