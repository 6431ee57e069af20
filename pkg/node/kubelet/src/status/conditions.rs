//! The conditions of a pod, by the rules of upstream's `status/generate.go`.

use k8s_openapi::api::core::v1::{ContainerStatus, PodCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{Ending, Node, Sandbox, whole_seconds};
use crate::view::{View, is_sidecar};

/// A condition before its times are known.
struct Fact {
    kind: &'static str,
    status: bool,
    reason: Option<&'static str>,
    message: Option<String>,
}

impl Fact {
    fn yes(kind: &'static str) -> Self {
        Self { kind, status: true, reason: None, message: None }
    }

    fn no(kind: &'static str, reason: &'static str, message: impl Into<Option<String>>) -> Self {
        Self { kind, status: false, reason: Some(reason), message: message.into() }
    }
}

/// All conditions, in upstream's order.
pub(super) fn build(
    view: &View<'_>,
    node: &Node<'_>,
    phase: &str,
    main: &[ContainerStatus],
) -> Vec<PodCondition> {
    let old = view.pod.status.as_ref().and_then(|s| s.conditions.as_deref()).unwrap_or_default();
    let containers_ready = containers_ready(view, node, phase, main);
    let facts = [
        sandbox(node),
        initialized(view, phase),
        ready(view, old, &containers_ready),
        containers_ready,
        Fact::yes("PodScheduled"),
    ];
    let evicted = match &node.ending {
        Ending::Evicted(message) => Some(Fact {
            reason: Some("TerminationByKubelet"),
            message: Some(message.clone()),
            ..Fact::yes("DisruptionTarget")
        }),
        _ => None,
    };
    let facts = facts.into_iter().chain(evicted);
    let mut conditions: Vec<_> = facts.map(|fact| stamp(view, old, fact)).collect();
    let is_other = |other: &&PodCondition| conditions.iter().all(|own| own.type_ != other.type_);
    let others: Vec<_> = old.iter().filter(is_other).cloned().collect();
    conditions.extend(others);
    conditions
}

fn sandbox(node: &Node<'_>) -> Fact {
    match node.sandbox {
        Sandbox::Ready => Fact::yes("PodReadyToStartContainers"),
        Sandbox::Missing => {
            Fact { kind: "PodReadyToStartContainers", status: false, reason: None, message: None }
        }
    }
}

fn initialized(view: &View<'_>, phase: &str) -> Fact {
    const KIND: &str = "Initialized";
    if view.is_initialized() {
        return if phase == "Succeeded" {
            Fact { reason: Some("PodCompleted"), ..Fact::yes(KIND) }
        } else {
            Fact::yes(KIND)
        };
    }
    if phase == "Succeeded" {
        return Fact { reason: Some("PodCompleted"), ..Fact::yes(KIND) };
    }
    // Containers of a pod that failed may have been removed.
    let was = view.pod.status.as_ref().and_then(|s| s.conditions.as_ref()).into_iter().flatten();
    if phase == "Failed" && was.into_iter().any(|c| c.type_ == KIND && c.status == "True") {
        return Fact::yes(KIND);
    }
    let left: Vec<&str> =
        view.init_containers().iter().filter(|c| !view.init_is_done(c)).map(|c| c.name.as_str()).collect();
    Fact::no(
        KIND,
        "ContainersNotInitialized",
        format!("containers with incomplete status: [{}]", left.join(" ")),
    )
}

fn containers_ready(view: &View<'_>, node: &Node<'_>, phase: &str, main: &[ContainerStatus]) -> Fact {
    const KIND: &str = "ContainersReady";
    match phase {
        "Succeeded" => return Fact::no(KIND, "PodCompleted", None),
        "Failed" => return Fact::no(KIND, "PodFailed", None),
        _ => {}
    }
    if matches!(node.ending, Ending::Failed(..) | Ending::Evicted(_) | Ending::Over) {
        return Fact::no(KIND, "PodFailed", None);
    }
    let sidecars = view.init_containers().iter().filter(|c| is_sidecar(c)).filter(|c| {
        !view.newest(&c.name).is_some_and(|run| run.state.is_running() && view.health_of(c, run).is_ready())
    });
    let unready: Vec<&str> = sidecars
        .map(|c| c.name.as_str())
        .chain(main.iter().filter(|status| !status.ready).map(|status| status.name.as_str()))
        .collect();
    if unready.is_empty() {
        return Fact::yes(KIND);
    }
    Fact::no(KIND, "ContainersNotReady", format!("containers with unready status: [{}]", unready.join(" ")))
}

fn ready(view: &View<'_>, old: &[PodCondition], containers: &Fact) -> Fact {
    const KIND: &str = "Ready";
    if !containers.status {
        let reason = containers.reason.unwrap_or("ContainersNotReady");
        return Fact::no(KIND, reason, containers.message.clone());
    }
    let gates = view.spec.readiness_gates.iter().flatten();
    let problems: Vec<String> = gates
        .filter_map(|gate| {
            let name = &gate.condition_type;
            match old.iter().find(|condition| &condition.type_ == name) {
                None => {
                    Some(format!("corresponding condition of pod readiness gate {name:?} does not exist."))
                }
                Some(condition) if condition.status != "True" => Some(format!(
                    "the status of pod readiness gate {name:?} is not \"True\", but {}",
                    condition.status
                )),
                Some(_) => None,
            }
        })
        .collect();
    if problems.is_empty() {
        return Fact::yes(KIND);
    }
    Fact::no(KIND, "ReadinessGatesNotReady", problems.join(", "))
}

/// The condition as the API has it: the time of transition changes only with the status.
fn stamp(view: &View<'_>, old: &[PodCondition], fact: Fact) -> PodCondition {
    let status = if fact.status { "True" } else { "False" };
    let before = old.iter().find(|condition| condition.type_ == fact.kind);
    let same = before.filter(|condition| condition.status == status);
    let transition = same.and_then(|condition| condition.last_transition_time.clone());
    PodCondition {
        type_: fact.kind.to_owned(),
        status: status.to_owned(),
        reason: fact.reason.map(str::to_owned),
        message: fact.message,
        last_transition_time: transition.or(Some(Time(whole_seconds(view.now)))),
        last_probe_time: None,
        observed_generation: view.pod.metadata.generation,
    }
}
