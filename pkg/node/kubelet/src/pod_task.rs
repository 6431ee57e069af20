//! `PodTask`: one pod on this node from its arrival to its end. Woken by changes of the pod, by the runtime's events, by
//! probes and by deadlines; each time it looks at everything anew and does what the plan says.

mod end;
mod limits;
mod observe;
mod work;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use edgek_base_lifecycle::{Backoff, Scope, sleep};
use edgek_node_runtime::{Container as Run, ContainerId};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::Instant;
use tracing::warn;

use crate::context::Context;
use crate::events::{PodEvents, full_name};
use crate::plan::{Start, plan};
use crate::probe::Report;
use crate::record::Records;
use crate::report::{self, Sent};
use crate::restart::RestartBackoff;
use crate::sandbox::{self, Sandbox};
use crate::start::Started;
use crate::static_pods;
use crate::status::{self, Ending};
use crate::view::{Health, View, Waiting};

/// Probe reports that wait for the task.
const REPORTS: usize = 16;

/// The pod as the API last had it.
#[derive(Debug, Clone)]
pub struct Update {
    /// The pod.
    pub pod: Arc<Pod>,
    /// Whether the API has it no more.
    pub gone: bool,
    /// Why the node has no room for it any more.
    pub evicted: Option<String>,
}

/// What a piece of work the task has going brings.
enum Done {
    Started(Start, Started),
    Stopped,
}

/// What was done, with the name of the container.
type Work = (String, Done);

/// One pod on this node.
pub struct PodTask {
    context: Arc<Context>,
    records: Records,
    /// Owns this task's own tasks; renewed when all of them are ended.
    scope: Scope,
    owner: Scope,
    uid: String,
    spec: PodSpec,
    updates: watch::Receiver<Update>,
    wake: Arc<Notify>,
    events: PodEvents,
    pod: Arc<Pod>,
    runs: Vec<Run>,
    health: BTreeMap<ContainerId, Health>,
    probers: BTreeMap<ContainerId, Scope>,
    reports: (mpsc::Sender<Report>, mpsc::Receiver<Report>),
    running: (mpsc::Sender<ContainerId>, mpsc::Receiver<ContainerId>),
    waiting: BTreeMap<String, Waiting>,
    retries: BTreeMap<String, Instant>,
    /// Names of containers that are being started, and ids of those that are being stopped.
    busy: BTreeSet<String>,
    work: (mpsc::Sender<Work>, mpsc::Receiver<Work>),
    restarts: RestartBackoff,
    trouble: Backoff,
    sandbox: Option<Sandbox>,
    ending: Ending,
}

impl PodTask {
    /// The task of the pod in `updates`; `wake` tells that its containers changed.
    pub fn new(
        context: Arc<Context>,
        records: Records,
        scope: &Scope,
        updates: watch::Receiver<Update>,
        wake: Arc<Notify>,
    ) -> Self {
        let pod = updates.borrow().pod.clone();
        Self {
            records,
            scope: scope.child(),
            owner: scope.clone(),
            uid: pod.metadata.uid.clone().unwrap_or_default(),
            spec: pod.spec.clone().unwrap_or_default(),
            updates,
            wake,
            events: PodEvents::new(context.recorder.clone(), &pod),
            context,
            pod,
            runs: Vec::new(),
            health: BTreeMap::new(),
            probers: BTreeMap::new(),
            reports: mpsc::channel(REPORTS),
            running: mpsc::channel(REPORTS),
            waiting: BTreeMap::new(),
            retries: BTreeMap::new(),
            busy: BTreeSet::new(),
            work: mpsc::channel(REPORTS),
            restarts: RestartBackoff::default(),
            trouble: Backoff::new(Duration::from_secs(1), Duration::from_secs(60)),
            sandbox: None,
            ending: Ending::No,
        }
    }

    /// Runs until the pod has ended and is gone from the API.
    pub async fn run(mut self) {
        while !self.is_to_end() {
            let next = match self.sync().await {
                Ok(next) => {
                    self.trouble.reset();
                    next
                }
                Err(problem) => {
                    warn!(pod = full_name(&self.pod), problem, "the pod is looked at again later");
                    Some(self.trouble.next_delay())
                }
            };
            self.wait(next).await;
        }
        self.end().await;
        self.records.remove(&self.uid);
    }

    fn is_to_end(&self) -> bool {
        let update = self.updates.borrow();
        update.gone || update.pod.metadata.deletion_timestamp.is_some()
    }

    /// Looks at everything and does what is needed. The time tells when to look again without being woken.
    async fn sync(&mut self) -> Result<Option<Duration>, String> {
        self.observe().await?;
        if self.is_final() {
            self.finish().await?;
            return Ok(None);
        }
        self.admit();
        self.check_deadline();
        self.check_eviction();
        if let Ending::Failed(..) | Ending::Evicted(_) = self.ending {
            self.stop_all(self.grace()).await;
            self.observe().await?;
            self.send_status().await?;
            return Ok(Some(Duration::ZERO));
        }
        if self.sandbox.is_none() {
            self.set_up().await?;
        }
        let plan = self.with_view(|view| plan(view, &self.restarts));
        let next = self.follow(&plan);
        self.send_status().await?;
        if plan.end.is_some() {
            self.stop_all(self.grace()).await;
            self.observe().await?;
            self.send_status().await?;
            return Ok(Some(Duration::ZERO));
        }
        Ok(self.earliest(next))
    }

    fn is_final(&self) -> bool {
        has_ended(&self.pod)
    }

    /// The pod has ended by itself: what it shared is given back, its containers' logs stay until it is deleted.
    async fn finish(&mut self) -> Result<(), String> {
        self.stop_all(self.grace()).await;
        if self.sandbox.take().is_some() || self.context.network.status(&self.uid).is_some() {
            sandbox::tear_down(&self.context, &self.uid).await.map_err(|error| error.to_string())?;
        }
        self.observe().await?;
        self.send_status().await
    }

    async fn set_up(&mut self) -> Result<(), String> {
        // What runs since before this process keeps the status it has until it was looked at.
        if !self.runs.iter().any(|run| run.state.is_running()) {
            self.send_status().await?;
        }
        match sandbox::set_up(&self.context, &self.pod).await {
            Ok(sandbox) => {
                self.sandbox = Some(sandbox);
                self.context.volumes.follow(&self.scope, &self.updates);
            }
            Err(error) => {
                let message = match &error {
                    sandbox::Error::Volume(_) => error.to_string(),
                    error => format!("Failed to create pod sandbox: {error}"),
                };
                let reason = if matches!(error, sandbox::Error::Volume(_)) {
                    "FailedMount"
                } else {
                    "FailedCreatePodSandBox"
                };
                self.events.warning(reason, &*message);
                return Err(message);
            }
        }
        self.publish();
        Ok(())
    }

    /// How long the pod's containers get to end.
    fn grace(&self) -> Duration {
        // What the node runs out of is needed now.
        if let Ending::Evicted(_) = self.ending {
            return Duration::from_secs(1);
        }
        let wanted = self.pod.metadata.deletion_grace_period_seconds;
        let seconds = wanted.or(self.spec.termination_grace_period_seconds).unwrap_or(30);
        Duration::from_secs(u64::try_from(seconds).unwrap_or(0).max(1))
    }

    /// The pod's addresses. What runs since before this process has them although its sandbox was not looked at yet.
    fn pod_ips(&self) -> Vec<IpAddr> {
        if let Some(sandbox) = &self.sandbox {
            return sandbox.ips.clone();
        }
        if self.spec.host_network == Some(true) && !self.runs.is_empty() {
            return self.context.config.node_ips.clone();
        }
        self.context.network.status(&self.uid).map(|network| network.ips).unwrap_or_default()
    }

    fn earliest(&self, next: Option<Duration>) -> Option<Duration> {
        let now = Instant::now();
        let retries = self.retries.values().map(|at| at.saturating_duration_since(now));
        retries.chain(next).chain(self.deadline_left()).min()
    }

    fn with_view<T>(&self, use_it: impl FnOnce(&View<'_>) -> T) -> T {
        use_it(&View {
            pod: &self.pod,
            spec: &self.spec,
            runs: &self.runs,
            health: &self.health,
            waiting: &self.waiting,
            now: Timestamp::now(),
        })
    }

    /// Sends the status, if it has changed.
    async fn send_status(&mut self) -> Result<(), String> {
        let sandbox = if self.sandbox.is_some() { status::Sandbox::Ready } else { status::Sandbox::Missing };
        let node = status::Node {
            host_ips: &self.context.config.node_ips,
            pod_ips: &self.pod_ips(),
            sandbox,
            ending: self.ending.clone(),
        };
        let build = |pod: &Pod| self.with_view(|view| status::build(&View { pod, ..view.clone() }, &node));
        if static_pods::is_static(&self.pod) {
            let status = build(&self.pod);
            if self.pod.status.as_ref() != Some(&status) {
                Arc::make_mut(&mut self.pod).status = Some(status.clone());
                self.publish();
            }
            self.context.mirrors.show(&self.pod, status);
            return Ok(());
        }
        match report::status(&self.context.client, &self.pod, build).await {
            Ok(Sent::Current(pod)) => {
                self.pod = pod;
                self.publish();
                Ok(())
            }
            // The end of the pod comes through `updates`.
            Ok(Sent::Gone) => Ok(()),
            Err(error) => Err(format!("the status is not sent: {error}")),
        }
    }

    /// Waits until there is something to look at.
    async fn wait(&mut self, next: Option<Duration>) {
        let timer = async {
            match next {
                Some(delay) => sleep(delay).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            // The dispatcher lives as long as its tasks.
            _ = self.updates.changed() => {}
            () = self.wake.notified() => {}
            () = timer => {}
            Some(report) = self.reports.1.recv() => self.take_report(&report),
            Some(id) = self.running.1.recv() => self.take_running(&id),
            Some((name, done)) = self.work.1.recv() => self.take_done(&name, done),
        }
    }
}

/// A container of the pod by its name.
fn container_of<'a>(spec: &'a PodSpec, name: &str) -> Option<&'a Container> {
    spec.init_containers.iter().flatten().chain(&spec.containers).find(|container| container.name == name)
}

/// Whether the pod's phase is final.
fn has_ended(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

fn revision(pod: &Pod) -> u64 {
    pod.metadata.resource_version.as_deref().and_then(|text| text.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests;
