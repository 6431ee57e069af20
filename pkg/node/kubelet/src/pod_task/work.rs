//! What a pod's task does about its containers: it starts and ends them beside itself, and is told how that went.

use std::time::Duration;

use edgek_node_runtime::{Container as Run, ContainerId};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Container;
use tokio::sync::watch;
use tokio::time::Instant;

use super::{Done, PodTask, container_of};
use crate::events::full_name;
use crate::plan::{Plan, Start};
use crate::probe::Prober;
use crate::restart::back_off_message;
use crate::start::{Started, Starter};
use crate::stop::Stopper;
use crate::view::{Health, Waiting, ephemeral_containers};

impl PodTask {
    /// Does what the plan says. The time tells when the next container may start.
    pub(super) fn follow(&mut self, plan: &Plan) -> Option<Duration> {
        let now = Instant::now();
        for start in &plan.start {
            let later = self.retries.get(&start.name).is_some_and(|at| *at > now);
            if !later && !self.busy.contains(&start.name) {
                self.start(start.clone());
            }
        }
        for id in &plan.kill {
            self.kill(id);
        }
        for back_off in &plan.back_off {
            let meta = &self.pod.metadata;
            let text = |value: &Option<String>| value.clone().unwrap_or_default();
            let (pod, namespace) = (text(&meta.name), text(&meta.namespace));
            let message = back_off_message(back_off.delay, &back_off.name, &pod, &namespace, &self.uid);
            let wait = Waiting::new("CrashLoopBackOff", message);
            if self.waiting.insert(back_off.name.clone(), wait.clone()) != Some(wait) {
                let message = format!(
                    "Back-off restarting failed container {} in pod {}",
                    back_off.name,
                    full_name(&self.pod)
                );
                self.events.container_warning(&back_off.name, "BackOff", message);
            }
        }
        plan.back_off.iter().map(|back_off| back_off.left).min()
    }

    /// A container to be made, of any kind.
    fn container(&self, name: &str) -> Option<Container> {
        let ephemeral = || ephemeral_containers(&self.spec).into_iter().find(|c| c.name == name);
        container_of(&self.spec, name).cloned().or_else(ephemeral)
    }

    /// The run whose processes an ephemeral container sees.
    fn target_of(&self, name: &str) -> Option<ContainerId> {
        let mut ephemeral = self.spec.ephemeral_containers.iter().flatten();
        let target = ephemeral.find(|c| c.name == name)?.target_container_name.clone()?;
        self.runs.iter().find(|run| run.name == target && run.state.is_running()).map(|run| run.id.clone())
    }

    fn start(&mut self, start: Start) {
        let (Some(sandbox), Some(container)) = (self.sandbox.clone(), self.container(&start.name)) else {
            return;
        };
        self.retries.remove(&start.name);
        let starter = Starter {
            context: self.context.clone(),
            pod: self.pod.clone(),
            sandbox,
            target: self.target_of(&start.name),
            events: self.events.clone(),
            scope: self.scope.clone(),
            running: self.running.0.clone(),
        };
        let before: Vec<Run> = self.runs.iter().filter(|run| run.name == start.name).cloned().collect();
        self.busy.insert(start.name.clone());
        let name = start.name.clone();
        self.work(async move {
            let started = starter.start(&container, &start, &before).await;
            (name, Done::Started(start, started))
        });
    }

    /// Ends a container whose probe or hook failed; it starts again by the pod's policy.
    fn kill(&mut self, id: &ContainerId) {
        let Some(run) = self.runs.iter().find(|run| run.id == *id).cloned() else { return };
        if !self.busy.insert(run.name.clone()) {
            return;
        }
        let container = container_of(&self.spec, &run.name).cloned();
        let own = container.as_ref().and_then(|c| {
            let probe = if self.health.get(id).is_some_and(|h| h.started) {
                &c.liveness_probe
            } else {
                &c.startup_probe
            };
            probe.as_ref().and_then(|probe| probe.termination_grace_period_seconds)
        });
        let grace = own.and_then(|s| u64::try_from(s).ok()).map_or(self.grace(), Duration::from_secs);
        let message = match self.health.get(id) {
            Some(health) if !health.hooked => "FailedPostStartHook".to_owned(),
            Some(health) if !health.started => {
                format!("Container {} failed startup probe, will be restarted", run.name)
            }
            _ => format!("Container {} failed liveness probe, will be restarted", run.name),
        };
        let stopper = self.stopper(watch::channel(Instant::now() + grace).1);
        self.work(async move {
            stopper.stop(&run, container.as_ref(), &message, std::future::ready(())).await;
            (run.name, Done::Stopped)
        });
    }

    /// Does something beside the task, which is told when it is done. It is not cut short with the pod: what is made
    /// must be known. Its container is among the busy ones until then.
    fn work(&self, work: impl Future<Output = (String, Done)> + Send + 'static) {
        let sender = self.work.0.clone();
        self.owner.spawn("container", async move {
            // The task waits for all its work before it ends.
            let _ = sender.send(work.await).await;
        });
    }

    pub(super) fn stopper(&self, deadline: watch::Receiver<Instant>) -> Stopper {
        Stopper {
            context: self.context.clone(),
            events: self.events.clone(),
            ip: self.context.probe_ip(&self.pod_ips()),
            deadline,
        }
    }

    pub(super) fn take_running(&mut self, id: &ContainerId) {
        tracing::debug!(container = %id, "started");
        // Its name is among the busy ones until its hook has returned; it waits for nothing else.
        let busy = self.busy.clone();
        self.waiting.retain(|name, _| !busy.contains(name));
    }

    pub(super) fn take_done(&mut self, name: &str, done: Done) {
        self.busy.remove(name);
        let Done::Started(start, started) = done else { return };
        if let (Some(finished), false) = (start.after, matches!(started, Started::Waiting(..))) {
            self.restarts.restarted(name, finished, Timestamp::now());
        }
        match started {
            Started::Running(id) => {
                self.waiting.remove(name);
                // The container may not have been looked at since it was started.
                let container = container_of(&self.spec, name);
                if let Some(container) = container {
                    self.health.entry(id.clone()).or_insert_with(|| Health::at_start(container)).hooked =
                        true;
                }
                if let (Some(container), false) = (container, self.probers.contains_key(&id))
                    && Prober::is_needed(container)
                {
                    self.health.remove(&id);
                }
            }
            Started::HookFailed(id) => {
                if let Some(container) = container_of(&self.spec, name) {
                    self.health.entry(id).or_insert_with(|| Health::at_start(container)).failed = true;
                }
            }
            Started::Exited => {
                self.waiting.remove(name);
            }
            Started::Waiting(waiting, retry) => {
                self.waiting.insert(name.to_owned(), waiting);
                self.retries.insert(name.to_owned(), Instant::now() + retry);
            }
            Started::Cancelled => {}
        }
    }
}
