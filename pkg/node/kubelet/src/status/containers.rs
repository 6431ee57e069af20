//! The statuses of a pod's containers.

use edgek_node_runtime::{Container as Run, State};
use k8s_openapi::api::core::v1::{
    Container, ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting,
    ContainerStatus, ContainerUser, LinuxContainerUser,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::whole_seconds;
use crate::view::{View, is_sidecar};

/// Statuses in the order of the names, as upstream sorts them by the order of the specification for init containers.
pub(super) fn statuses(
    view: &View<'_>,
    containers: &[Container],
    old: &Option<Vec<ContainerStatus>>,
    phase: &str,
) -> Vec<ContainerStatus> {
    let find = |name: &str| old.iter().flatten().find(|status| status.name == name);
    containers.iter().map(|container| status(view, container, find(&container.name), phase)).collect()
}

fn status(
    view: &View<'_>,
    container: &Container,
    old: Option<&ContainerStatus>,
    phase: &str,
) -> ContainerStatus {
    let Some(run) = view.newest(&container.name) else {
        return never_run(view, container, old, phase);
    };
    let health = view.health_of(container, run);
    let waiting = view.waiting.get(&container.name).filter(|_| !run.state.is_running());
    let (state, last) = match waiting {
        Some(wait) => (waiting_state(&wait.reason, &wait.message), Some(state_of(view, run))),
        None => (state_of(view, run), view.previous(&container.name).map(|run| state_of(view, run))),
    };
    let running = run.state.is_running();
    let init = is_init(view, container);
    let done = matches!(run.state, State::Exited { code: 0, .. });
    // A regular init container is ready once it has done its work; it is never "started" by probes.
    let ready = if init && !is_sidecar(container) { done } else { running && health.is_ready() };
    ContainerStatus {
        name: container.name.clone(),
        state: Some(state),
        last_state: Some(last.filter(|state| state.terminated.is_some()).unwrap_or_default()),
        ready,
        started: Some(running && health.is_started()),
        restart_count: i32::try_from(run.attempt).unwrap_or(i32::MAX),
        image: shown_image(&run.image),
        image_id: run.image_id.clone(),
        container_id: Some(container_id(run)),
        resources: container.resources.clone().filter(|r| r.limits.is_some() || r.requests.is_some()),
        allocated_resources: container.resources.as_ref().and_then(|r| r.requests.clone()),
        user: Some(user(run)),
        volume_mounts: old.and_then(|old| old.volume_mounts.clone()),
        ..ContainerStatus::default()
    }
}

fn never_run(
    view: &View<'_>,
    container: &Container,
    old: Option<&ContainerStatus>,
    phase: &str,
) -> ContainerStatus {
    // Its runs have been removed, as after the end of a pod: the API remembers more than the runtime.
    if let Some(old) = old.filter(|old| old.container_id.is_some()) {
        return forgotten(view, container, old, phase);
    }
    let state = match view.waiting.get(&container.name) {
        Some(wait) => waiting_state(&wait.reason, &wait.message),
        None => not_started(view),
    };
    ContainerStatus {
        name: container.name.clone(),
        state: Some(state),
        last_state: Some(ContainerState::default()),
        ready: false,
        started: Some(false),
        image: container.image.clone().unwrap_or_default(),
        ..ContainerStatus::default()
    }
}

fn forgotten(view: &View<'_>, container: &Container, old: &ContainerStatus, phase: &str) -> ContainerStatus {
    let done = |s: &ContainerStatus| s.state.as_ref().is_some_and(|state| state.terminated.is_some());
    if done(old) {
        return ContainerStatus { ready: old.ready && is_init(view, container), ..old.clone() };
    }
    let lost = ContainerState {
        terminated: Some(ContainerStateTerminated {
            exit_code: 137,
            reason: Some("ContainerStatusUnknown".to_owned()),
            message: Some("The container could not be located when the pod was terminated".to_owned()),
            ..ContainerStateTerminated::default()
        }),
        ..ContainerState::default()
    };
    let ended = matches!(phase, "Succeeded" | "Failed");
    let (state, last_state) = match view.waiting.get(&container.name) {
        Some(wait) => (waiting_state(&wait.reason, &wait.message), old.last_state.clone()),
        None if ended => (lost, old.last_state.clone()),
        None => (not_started(view), Some(lost)),
    };
    ContainerStatus { state: Some(state), last_state, ready: false, started: Some(false), ..old.clone() }
}

fn is_init(view: &View<'_>, container: &Container) -> bool {
    view.init_containers().iter().any(|c| c.name == container.name)
}

/// Where a container stands of which nothing runs yet: every container of a pod with init containers initializes.
fn not_started(view: &View<'_>) -> ContainerState {
    let reason = if view.init_containers().is_empty() { "ContainerCreating" } else { "PodInitializing" };
    waiting_state(reason, "")
}

fn waiting_state(reason: &str, message: &str) -> ContainerState {
    let message = (!message.is_empty()).then(|| message.to_owned());
    let waiting = ContainerStateWaiting { reason: Some(reason.to_owned()), message };
    ContainerState { waiting: Some(waiting), ..ContainerState::default() }
}

/// The state of one run.
fn state_of(view: &View<'_>, run: &Run) -> ContainerState {
    match &run.state {
        State::Created => not_started(view),
        State::Running { started_at, .. } => ContainerState {
            running: Some(ContainerStateRunning { started_at: Some(Time(whole_seconds(*started_at))) }),
            ..ContainerState::default()
        },
        State::Exited { code, reason, message, started_at, finished_at } => {
            let message = Some(message.clone()).filter(|text| !text.is_empty());
            let terminated = ContainerStateTerminated {
                exit_code: *code,
                reason: Some(reason.as_str().to_owned()),
                message,
                started_at: Some(Time(whole_seconds(started_at.unwrap_or(*finished_at)))),
                finished_at: Some(Time(whole_seconds(*finished_at))),
                container_id: Some(container_id(run)),
                ..ContainerStateTerminated::default()
            };
            ContainerState { terminated: Some(terminated), ..ContainerState::default() }
        }
    }
}

/// `containerd://<id>`.
pub(crate) fn container_id(run: &Run) -> String {
    format!("containerd://{}", run.id)
}

/// Statuses show the full name of an image, as the runtime knows it.
fn shown_image(image: &str) -> String {
    edgek_node_runtime::Reference::parse(image).map_or_else(|_| image.to_owned(), |r| r.to_string())
}

fn user(run: &Run) -> ContainerUser {
    let groups: Vec<i64> = run.user.groups.iter().map(|group| i64::from(*group)).collect();
    let linux = LinuxContainerUser {
        uid: run.user.uid.into(),
        gid: run.user.gid.into(),
        supplemental_groups: (!groups.is_empty()).then_some(groups),
    };
    ContainerUser { linux: Some(linux) }
}
