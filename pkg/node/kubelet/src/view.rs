//! `View`: a pod and what the runtime knows of it, side by side; what the plan and the status are computed from.

use std::collections::BTreeMap;

use edgek_node_runtime::{Container as Run, ContainerId, State};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, ContainerStatus, Pod, PodSpec};

/// What the probes and the postStart hook of one run of a container say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Health {
    /// The postStart hook has returned.
    pub hooked: bool,
    /// The startup probe has succeeded.
    pub started: bool,
    /// The readiness probe succeeds.
    pub ready: bool,
    /// The liveness or startup probe, or the hook, failed: the container is to be killed.
    pub failed: bool,
}

impl Health {
    /// The state at a container's start.
    pub fn at_start(container: &Container) -> Self {
        Self {
            hooked: container.lifecycle.as_ref().is_none_or(|l| l.post_start.is_none()),
            started: container.startup_probe.is_none(),
            ready: container.readiness_probe.is_none(),
            failed: false,
        }
    }

    /// The state of a run that began before this process, as the API remembers it: what was ready stays so until a
    /// probe says otherwise.
    pub fn resumed(container: &Container, known: &ContainerStatus) -> Self {
        let begin = Self::at_start(container);
        Self {
            hooked: true,
            started: begin.started || known.started == Some(true),
            ready: begin.ready || known.ready,
            failed: false,
        }
    }

    /// `started` of a container status.
    pub fn is_started(self) -> bool {
        self.hooked && self.started
    }

    /// `ready` of a container status.
    pub fn is_ready(self) -> bool {
        self.is_started() && self.ready
    }
}

/// Why a container waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// `CrashLoopBackOff`, `ErrImagePull`, ...
    pub reason: String,
    /// The text.
    pub message: String,
}

impl Waiting {
    /// A reason with a text.
    pub fn new(reason: &str, message: impl Into<String>) -> Self {
        Self { reason: reason.to_owned(), message: message.into() }
    }
}

/// A pod and what is known of it on this node.
#[derive(Debug, Clone)]
pub struct View<'a> {
    /// The pod as the API has it.
    pub pod: &'a Pod,
    /// Its specification.
    pub spec: &'a PodSpec,
    /// All its containers in the runtime.
    pub runs: &'a [Run],
    /// Health by run.
    pub health: &'a BTreeMap<ContainerId, Health>,
    /// Why containers wait, by name.
    pub waiting: &'a BTreeMap<String, Waiting>,
    /// The present time.
    pub now: Timestamp,
}

impl<'a> View<'a> {
    /// The newest run of a container.
    pub fn newest(&self, name: &str) -> Option<&'a Run> {
        self.runs.iter().filter(|run| run.name == name).max_by_key(|run| (run.attempt, run.created_at))
    }

    /// The run before the newest.
    pub fn previous(&self, name: &str) -> Option<&'a Run> {
        let newest = self.newest(name)?;
        let others = self.runs.iter().filter(|run| run.name == name && run.id != newest.id);
        others.max_by_key(|run| (run.attempt, run.created_at))
    }

    /// The health of a run.
    pub fn health_of(&self, container: &Container, run: &Run) -> Health {
        self.health.get(&run.id).copied().unwrap_or_else(|| Health::at_start(container))
    }

    /// Whether the newest run of the container is up and has passed hook and startup probe.
    pub fn is_started(&self, container: &Container) -> bool {
        self.newest(&container.name)
            .is_some_and(|run| run.state.is_running() && self.health_of(container, run).is_started())
    }

    /// Init containers, in order.
    pub fn init_containers(&self) -> &'a [Container] {
        self.spec.init_containers.as_deref().unwrap_or_default()
    }

    /// The container of this name among all kinds.
    pub fn container(&self, name: &str) -> Option<&'a Container> {
        self.init_containers().iter().chain(&self.spec.containers).find(|c| c.name == name)
    }

    /// Whether every init container has done its part: ended well, or, if it is a sidecar, started.
    pub fn is_initialized(&self) -> bool {
        // Once a main container exists, initialization is over, even if init containers were removed since.
        let begun = self.spec.containers.iter().any(|c| self.newest(&c.name).is_some());
        begun || self.init_containers().iter().all(|c| self.init_is_done(c))
    }

    /// Whether one init container has done its part.
    pub fn init_is_done(&self, container: &Container) -> bool {
        if is_sidecar(container) {
            return self.is_started(container);
        }
        self.newest(&container.name).and_then(exit_code) == Some(0)
    }
}

/// The pod's ephemeral containers in the form of the others, which have the same fields but the target's name.
pub fn ephemeral_containers(spec: &PodSpec) -> Vec<Container> {
    let all = spec.ephemeral_containers.iter().flatten();
    let same = |container| serde_json::from_slice(&serde_json::to_vec(container).ok()?).ok();
    all.filter_map(same).collect()
}

/// Whether an init container keeps running beside the main containers.
pub fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

/// The exit code of a run that has ended.
pub fn exit_code(run: &Run) -> Option<i32> {
    match run.state {
        State::Exited { code, .. } => Some(code),
        State::Created | State::Running { .. } => None,
    }
}

/// When a run ended, if it has.
pub fn finished_at(run: &Run) -> Option<Timestamp> {
    match run.state {
        State::Exited { finished_at, .. } => Some(finished_at),
        State::Created | State::Running { .. } => None,
    }
}
