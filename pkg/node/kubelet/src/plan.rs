//! `Plan`: what a pod needs next. Pure: from a [`View`] to the steps the pod task takes.

use std::time::Duration;

use edgek_node_runtime::{Container as Run, ContainerId, State};
use jiff::Timestamp;

use crate::restart::{RestartBackoff, restarts_after};
use crate::view::{View, exit_code, finished_at, is_sidecar};

/// What a pod needs next.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// Containers to make and start, with what the start replaces.
    pub start: Vec<Start>,
    /// Running containers to end, because their probes or hooks failed; the plan then starts them anew.
    pub kill: Vec<ContainerId>,
    /// Containers that must wait before they start again.
    pub back_off: Vec<BackOff>,
    /// Whether the pod has come to its end.
    pub end: Option<End>,
}

/// A container to start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Start {
    /// Its name.
    pub name: String,
    /// The attempt to give it.
    pub attempt: u32,
    /// When its last run ended, for the back-off.
    pub after: Option<Timestamp>,
}

/// A container in CrashLoopBackOff.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackOff {
    /// Its name.
    pub name: String,
    /// How long still.
    pub left: Duration,
    /// The full delay, which the message tells.
    pub delay: Duration,
}

/// How a pod ends by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Every container ended with 0.
    Succeeded,
    /// One did not.
    Failed,
}

/// What to do about one container that is not running.
enum Next {
    /// Nothing: it has ended for good, with this code.
    Ended(i32),
    /// It is being made, runs, or waits.
    Busy,
}

/// What the pod needs next.
pub fn plan(view: &View<'_>, backoff: &RestartBackoff) -> Plan {
    let mut plan = Plan::default();
    if let Some(end) = outcome(view) {
        plan.end = Some(end);
        return plan;
    }
    // Ephemeral containers wait for nothing and never start again.
    let ephemeral = view.spec.ephemeral_containers.iter().flatten().map(|container| &container.name);
    let new = ephemeral.filter(|name| view.newest(name).is_none());
    plan.start.extend(new.map(|name| Start { name: name.clone(), attempt: 0, after: None }));
    let initialized = view.is_initialized();
    for container in view.init_containers() {
        if initialized && !is_sidecar(container) {
            continue;
        }
        let next = plan.consider(view, backoff, &container.name);
        // An init container that fails for good ends the pod.
        if matches!(next, Next::Ended(code) if code != 0) {
            plan.end = Some(End::Failed);
            return plan;
        }
        if !initialized && !view.init_is_done(container) {
            return plan;
        }
    }
    if initialized {
        for container in &view.spec.containers {
            plan.consider(view, backoff, &container.name);
        }
    }
    plan
}

/// How the pod has ended, once no main container runs or will run again.
pub fn outcome(view: &View<'_>) -> Option<End> {
    let mut failed = false;
    for container in &view.spec.containers {
        let code = view.newest(&container.name).and_then(exit_code)?;
        if restarts_after(view.spec, container, code) {
            return None;
        }
        failed |= code != 0;
    }
    Some(if failed { End::Failed } else { End::Succeeded })
}

impl Plan {
    fn consider(&mut self, view: &View<'_>, backoff: &RestartBackoff, name: &str) -> Next {
        let Some(container) = view.container(name) else { return Next::Busy };
        let Some(run) = view.newest(name) else {
            self.start.push(Start { name: name.to_owned(), attempt: 0, after: None });
            return Next::Busy;
        };
        match &run.state {
            State::Created => {
                // The start was cut short: by a restart of edgek, as a rule.
                self.start.push(Start { name: name.to_owned(), attempt: run.attempt, after: None });
                Next::Busy
            }
            State::Running { .. } => {
                if view.health_of(container, run).failed {
                    self.kill.push(run.id.clone());
                }
                Next::Busy
            }
            State::Exited { code, .. } => self.after_exit(view, backoff, run, *code),
        }
    }

    fn after_exit(&mut self, view: &View<'_>, backoff: &RestartBackoff, run: &Run, code: i32) -> Next {
        let Some(container) = view.container(&run.name) else { return Next::Busy };
        // An init container of a pod that restarts on failure or always is repeated until it succeeds.
        let init = view.init_containers().iter().any(|c| c.name == run.name) && !is_sidecar(container);
        let restarts = if init {
            code != 0 && restarts_after(view.spec, container, code)
        } else {
            restarts_after(view.spec, container, code)
        };
        if !restarts {
            return Next::Ended(code);
        }
        let finished = finished_at(run).unwrap_or(view.now);
        match backoff.remaining(&run.name, finished, view.now) {
            Some((left, delay)) => self.back_off.push(BackOff { name: run.name.clone(), left, delay }),
            None => self.start.push(Start {
                name: run.name.clone(),
                attempt: run.attempt + 1,
                after: Some(finished),
            }),
        }
        Next::Busy
    }
}

#[cfg(test)]
mod tests;
