//! Admission of a pod by its node: what the scheduler should have seen to, checked again, since pods can come to a node
//! without it (`nodeName`, static pods, two schedulers). Pure; called once by the pod's task, before anything is made.

use std::collections::{BTreeMap, BTreeSet};

use edgek_api::quantity::Quantity as Amount;
use k8s_openapi::api::core::v1::{
    Container, Node, NodeSelectorRequirement, NodeSelectorTerm, Pod, PodSpec, ResourceRequirements,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::evict;
use crate::resources::Qos;
use crate::view::is_sidecar;

/// Why a pod is refused: its status becomes Failed with these.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Rejected {
    /// `OutOfcpu`, `NodePorts`, `NodeAffinity`, ...
    pub reason: String,
    /// The text, without `Pod was rejected: `.
    pub message: String,
}

impl Rejected {
    fn predicate(name: &str, text: &str) -> Self {
        Self { reason: name.to_owned(), message: format!("Predicate {name} failed: {text}") }
    }
}

type Amounts = BTreeMap<String, Amount>;

/// Whether `node` takes `pod`, beside the pods that are on it and have not ended.
///
/// # Errors
/// The first reason against it, in upstream's order: pressure, resources, affinity, name, ports.
pub fn admit(node: &Node, others: &[&Pod], pod: &Pod) -> Result<(), Rejected> {
    let default = PodSpec::default();
    let spec = pod.spec.as_ref().unwrap_or(&default);
    has_room(node, pod)?;
    fits(node, others, spec)?;
    if !matches_node(spec, node) {
        return Err(Rejected::predicate("NodeAffinity", "node(s) didn't match Pod's node affinity/selector"));
    }
    if spec.node_name.is_some() && spec.node_name != node.metadata.name {
        return Err(Rejected::predicate("NodeName", "node(s) didn't match the requested node name"));
    }
    let taken: BTreeSet<Port> = others.iter().filter_map(|pod| pod.spec.as_ref()).flat_map(ports).collect();
    if ports(spec).any(|port| taken.iter().any(|other| port.collides(other))) {
        let text = "node(s) didn't have free ports for the requested pod ports";
        return Err(Rejected::predicate("NodePorts", text));
    }
    tolerates(node, spec)
}

/// A node that runs out of something takes only critical pods, and while it is only memory, all that request any.
fn has_room(node: &Node, pod: &Pod) -> Result<(), Rejected> {
    let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let pressures: Vec<&str> = conditions
        .filter(|condition| condition.type_.ends_with("Pressure") && condition.status == "True")
        .map(|condition| condition.type_.as_str())
        .collect();
    let best_effort = pod.spec.as_ref().is_none_or(|spec| Qos::of(spec) == Qos::BestEffort);
    let only_memory = pressures == ["MemoryPressure"];
    if pressures.is_empty() || evict::is_critical(pod) || only_memory && !best_effort {
        return Ok(());
    }
    let message = format!("The node had condition: [{}]. ", pressures.join(" "));
    Err(Rejected { reason: "Evicted".to_owned(), message })
}

fn fits(node: &Node, others: &[&Pod], spec: &PodSpec) -> Result<(), Rejected> {
    let allocatable = node.status.as_ref().and_then(|status| status.allocatable.as_ref());
    let capacity =
        |name: &str| allocatable.and_then(|all| all.get(name)).and_then(|q| q.0.parse::<Amount>().ok());
    let short = |name: &str, requested: i64, used: i64, capacity: i64| Rejected {
        reason: format!("OutOf{name}"),
        message: format!(
            "Node didn't have enough resource: {name}, requested: {requested}, used: {used}, capacity: {capacity}"
        ),
    };
    let count = i64::try_from(others.len()).unwrap_or(i64::MAX);
    if let Some(most) = capacity("pods").map(Amount::value)
        && count + 1 > most
    {
        return Err(short("pods", 1, count, most));
    }
    let mut used = Amounts::new();
    for other in others.iter().filter_map(|pod| pod.spec.as_ref()) {
        add(&mut used, &requests(other));
    }
    for (name, wanted) in requests(spec).into_iter().filter(|(_, wanted)| !wanted.is_zero()) {
        // A resource the node does not know is no reason here: its device may come back.
        let Some(capacity) = capacity(&name).or_else(|| (!name.contains('/')).then(Amount::default)) else {
            continue;
        };
        let used = used.get(&name).copied().unwrap_or_default();
        if used + wanted > capacity {
            let number = |amount: Amount| if name == "cpu" { amount.milli_value() } else { amount.value() };
            return Err(short(&name, number(wanted), number(used), number(capacity)));
        }
    }
    Ok(())
}

/// What a pod needs: the sum of its containers and sidecars, or what its init phase needs at once, if that is more.
pub(crate) fn requests(spec: &PodSpec) -> Amounts {
    let of = |container: &Container| amounts(container.resources.as_ref());
    let mut sum = Amounts::new();
    spec.containers.iter().for_each(|container| add(&mut sum, &of(container)));
    let (mut sidecars, mut peak) = (Amounts::new(), Amounts::new());
    for container in spec.init_containers.iter().flatten() {
        let mut own = of(container);
        if is_sidecar(container) {
            add(&mut sum, &own);
            add(&mut sidecars, &own);
            raise(&mut peak, &sidecars);
        } else {
            add(&mut own, &sidecars);
            raise(&mut peak, &own);
        }
    }
    raise(&mut sum, &peak);
    // Requests of the whole pod count instead of its containers'.
    sum.extend(amounts(spec.resources.as_ref()));
    let overhead = spec.overhead.iter().flatten().filter_map(parse).collect();
    add(&mut sum, &overhead);
    sum
}

fn amounts(resources: Option<&ResourceRequirements>) -> Amounts {
    let limits = resources.and_then(|r| r.limits.as_ref()).into_iter().flatten();
    let requests = resources.and_then(|r| r.requests.as_ref()).into_iter().flatten();
    // What is only limited is requested as much.
    limits.chain(requests).filter_map(parse).collect()
}

fn parse((name, quantity): (&String, &Quantity)) -> Option<(String, Amount)> {
    Some((name.clone(), quantity.0.parse().ok()?))
}

fn add(sum: &mut Amounts, more: &Amounts) {
    for (name, amount) in more {
        *sum.entry(name.clone()).or_default() += *amount;
    }
}

fn raise(most: &mut Amounts, other: &Amounts) {
    for (name, amount) in other {
        let entry = most.entry(name.clone()).or_default();
        if *amount > *entry {
            *entry = *amount;
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Port {
    number: i32,
    protocol: String,
    ip: String,
}

impl Port {
    fn collides(&self, other: &Self) -> bool {
        let everywhere = |ip: &str| matches!(ip, "" | "0.0.0.0" | "::");
        self.number == other.number
            && self.protocol == other.protocol
            && (self.ip == other.ip || everywhere(&self.ip) || everywhere(&other.ip))
    }
}

fn ports(spec: &PodSpec) -> impl Iterator<Item = Port> + '_ {
    let sidecars = spec.init_containers.iter().flatten().filter(|container| is_sidecar(container));
    let all = spec.containers.iter().chain(sidecars).flat_map(|container| container.ports.iter().flatten());
    all.filter_map(|port| {
        Some(Port {
            number: port.host_port.filter(|number| *number > 0)?,
            protocol: port.protocol.clone().unwrap_or_else(|| "TCP".to_owned()),
            ip: port.host_ip.clone().unwrap_or_default(),
        })
    })
}

/// Whether the pod's node selector and required node affinity match the node.
fn matches_node(spec: &PodSpec, node: &Node) -> bool {
    let none = BTreeMap::new();
    let labels = node.metadata.labels.as_ref().unwrap_or(&none);
    let selected = spec.node_selector.iter().flatten().all(|(name, value)| labels.get(name) == Some(value));
    let affinity = spec.affinity.as_ref().and_then(|affinity| affinity.node_affinity.as_ref());
    let required = affinity.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref());
    selected
        && required.is_none_or(|selector| selector.node_selector_terms.iter().any(|term| holds(term, node)))
}

fn holds(term: &NodeSelectorTerm, node: &Node) -> bool {
    let label = |name: &str| node.metadata.labels.as_ref().and_then(|labels| labels.get(name)).cloned();
    let field = |name: &str| (name == "metadata.name").then(|| node.metadata.name.clone()).flatten();
    let (expressions, fields) = (term.match_expressions.as_deref(), term.match_fields.as_deref());
    let (expressions, fields) = (expressions.unwrap_or_default(), fields.unwrap_or_default());
    // A term without requirements matches nothing.
    !(expressions.is_empty() && fields.is_empty())
        && expressions.iter().all(|requirement| meets(requirement, label(&requirement.key).as_ref()))
        && fields.iter().all(|requirement| meets(requirement, field(&requirement.key).as_ref()))
}

fn meets(requirement: &NodeSelectorRequirement, found: Option<&String>) -> bool {
    let values = requirement.values.as_deref().unwrap_or_default();
    let listed = || found.is_some_and(|found| values.contains(found));
    let numbers = || -> Option<(i64, i64)> { Some((found?.parse().ok()?, values.first()?.parse().ok()?)) };
    match requirement.operator.as_str() {
        "In" => listed(),
        "NotIn" => !listed(),
        "Exists" => found.is_some(),
        "DoesNotExist" => found.is_none(),
        "Gt" => numbers().is_some_and(|(found, value)| found > value),
        "Lt" => numbers().is_some_and(|(found, value)| found < value),
        _ => false,
    }
}

/// Taints that forbid running count on the node too; those that only forbid scheduling do not.
fn tolerates(node: &Node, spec: &PodSpec) -> Result<(), Rejected> {
    let taints = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
    for taint in taints.filter(|taint| taint.effect == "NoExecute") {
        let tolerated = spec.tolerations.iter().flatten().any(|toleration| {
            let text = |value: &Option<String>| value.clone().unwrap_or_default();
            let (key, effect) = (text(&toleration.key), text(&toleration.effect));
            (effect.is_empty() || effect == taint.effect)
                && (key.is_empty() || key == taint.key)
                && (toleration.operator.as_deref() == Some("Exists")
                    || text(&toleration.value) == text(&taint.value))
        });
        if !tolerated {
            let text = "node(s) had taints that the pod didn't tolerate";
            return Err(Rejected::predicate("TaintToleration", text));
        }
    }
    Ok(())
}

#[cfg(test)]
#[expect(clippy::needless_pass_by_value, reason = "tests read better with documents in place")]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn check(spec: Value, others: &[Value], expected: Result<(), (&str, &str)>) {
        let node: Node = serde_json::from_value(json!({
            "metadata": {"name": "edge-1", "labels": {"disk": "ssd", "cores": "8"}},
            "spec": {"taints": [{"key": "down", "effect": "NoExecute"}]},
            "status": {"allocatable": {"cpu": "2", "memory": "1Gi", "pods": "3"}},
        }))
        .unwrap();
        let pod = |spec: &Value| -> Pod {
            let mut spec = spec.clone();
            spec["tolerations"] = json!([{"operator": "Exists"}]);
            if spec["containers"].is_null() {
                spec["containers"] = json!([]);
            }
            serde_json::from_value(json!({ "spec": spec })).unwrap()
        };
        let others: Vec<Pod> = others.iter().map(pod).collect();
        let others: Vec<&Pod> = others.iter().collect();
        let result = admit(&node, &others, &pod(&spec));
        let expected = expected
            .map_err(|(reason, message)| Rejected { reason: reason.to_owned(), message: message.to_owned() });
        assert_eq!(result, expected, "{spec}");
    }

    fn asks(requests: Value) -> Value {
        json!({"containers": [{"name": "c", "resources": {"requests": requests}}]})
    }

    #[test]
    fn resources_must_suffice() {
        check(asks(json!({"cpu": "2", "memory": "1Gi"})), &[], Ok(()));
        check(
            asks(json!({"cpu": "1500m"})),
            &[asks(json!({"cpu": "1"}))],
            Err((
                "OutOfcpu",
                "Node didn't have enough resource: cpu, requested: 1500, used: 1000, capacity: 2000",
            )),
        );
        check(
            asks(json!({"memory": "2Gi"})),
            &[],
            Err((
                "OutOfmemory",
                "Node didn't have enough resource: memory, requested: 2147483648, used: 0, capacity: 1073741824",
            )),
        );
        check(
            json!({}),
            &[json!({}), json!({}), json!({})],
            Err(("OutOfpods", "Node didn't have enough resource: pods, requested: 1, used: 3, capacity: 3")),
        );
        check(asks(json!({"example.com/gpu": "1"})), &[], Ok(()));
        let sidecar =
            json!({"name": "s", "restartPolicy": "Always", "resources": {"requests": {"cpu": "1"}}});
        let init = json!({"name": "i", "resources": {"requests": {"cpu": "1500m"}}});
        check(json!({"initContainers": [init, sidecar]}), &[], Ok(()));
        check(
            json!({"initContainers": [sidecar, init]}),
            &[],
            Err((
                "OutOfcpu",
                "Node didn't have enough resource: cpu, requested: 2500, used: 0, capacity: 2000",
            )),
        );
    }

    #[test]
    fn the_node_must_be_the_one_that_is_wanted() {
        let affinity = Err((
            "NodeAffinity",
            "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector",
        ));
        check(json!({"nodeSelector": {"disk": "ssd"}}), &[], Ok(()));
        check(json!({"nodeSelector": {"disk": "hdd"}}), &[], affinity);
        let required = |key: &str, operator: &str, values: &[&str]| {
            let requirement = json!({"key": key, "operator": operator, "values": values});
            json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution":
                {"nodeSelectorTerms": [{"matchExpressions": [requirement]}]}}}})
        };
        check(required("cores", "Gt", &["4"]), &[], Ok(()));
        check(required("cores", "Lt", &["4"]), &[], affinity);
        check(required("disk", "NotIn", &["hdd"]), &[], Ok(()));
        check(required("gpu", "Exists", &[]), &[], affinity);
        let name = "Predicate NodeName failed: node(s) didn't match the requested node name";
        check(json!({"nodeName": "other"}), &[], Err(("NodeName", name)));
    }

    #[test]
    fn host_ports_are_given_once() {
        let port = |port: Value| json!({"containers": [{"name": "c", "ports": [port]}]});
        let taken = [port(json!({"containerPort": 1, "hostPort": 80, "hostIP": "127.0.0.1"}))];
        let text = "Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports";
        check(port(json!({"containerPort": 2, "hostPort": 80})), &taken, Err(("NodePorts", text)));
        check(port(json!({"containerPort": 2, "hostPort": 80, "hostIP": "127.0.0.2"})), &taken, Ok(()));
        check(port(json!({"containerPort": 2, "hostPort": 80, "protocol": "UDP"})), &taken, Ok(()));
        check(port(json!({"containerPort": 80})), &taken, Ok(()));
    }
}
