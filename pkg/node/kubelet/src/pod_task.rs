//! `PodTask`: one pod on this node from its arrival to its end. Woken by changes of the pod, by the runtime's events, by
//! probes and by deadlines; each time it looks at everything anew and does what the plan says.

mod end;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use edgek_base_lifecycle::{Backoff, Scope, sleep};
use edgek_node_runtime::{Container as Run, ContainerId, State};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::Instant;
use tracing::warn;

use crate::admit::admit;
use crate::config::{MESSAGE_LIMIT, read_tail};
use crate::context::Context;
use crate::events::{PodEvents, full_name};
use crate::plan::{Plan, Start, plan};
use crate::probe::{Kind, Prober, Report, Verdict};
use crate::record::{Record, Records};
use crate::report::{self, Sent};
use crate::restart::{RestartBackoff, back_off_message};
use crate::sandbox::{self, Sandbox};
use crate::start::{Started, Starter};
use crate::static_pods;
use crate::status::{self, Ending};
use crate::stop::Stopper;
use crate::view::{Health, View, Waiting, ephemeral_containers};

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

    /// Takes in what the API and the runtime have now.
    async fn observe(&mut self) -> Result<(), String> {
        let update = self.updates.borrow_and_update().pod.clone();
        if revision(&update) > revision(&self.pod) {
            self.pod = update;
        }
        self.spec = self.pod.spec.clone().unwrap_or_default();
        self.runs = self.context.runs(&self.uid).await.map_err(|error| error.to_string())?;
        for run in &mut self.runs {
            if let State::Exited { message, code, .. } = &mut run.state
                && message.is_empty()
            {
                let fallback = (*code != 0).then_some(run.log.as_ref()).flatten();
                *message = last_words(&self.context, &self.uid, &self.spec, &run.name, run.attempt, fallback);
            }
        }
        self.follow_runs();
        self.publish();
        Ok(())
    }

    fn publish(&self) {
        let record = Record { pod: self.pod.clone(), runs: self.runs.clone(), sandbox: self.sandbox.clone() };
        self.records.put(&self.uid, record);
    }

    /// Begins to probe what has begun to run and stops probing what has ended.
    fn follow_runs(&mut self) {
        let running: BTreeSet<ContainerId> =
            self.runs.iter().filter(|run| run.state.is_running()).map(|run| run.id.clone()).collect();
        self.probers.retain(|id, scope| {
            let keep = running.contains(id);
            if !keep {
                scope.cancel();
            }
            keep
        });
        self.health.retain(|id, _| running.contains(id));
        let ip = self.context.probe_ip(self.pod_ips());
        for run in self.runs.iter().filter(|run| run.state.is_running()) {
            if self.health.contains_key(&run.id) {
                continue;
            }
            let Some(container) = container_of(&self.spec, &run.name) else { continue };
            let health = self.health_at_first_sight(container, run);
            self.health.insert(run.id.clone(), health);
            if Prober::is_needed(container) {
                let prober = Prober {
                    runtime: self.context.runtime.clone(),
                    id: run.id.clone(),
                    container: container.clone(),
                    ip,
                    started: health.started,
                    age: age(run),
                    reports: self.reports.0.clone(),
                };
                let scope = self.scope.child();
                scope.spawn("prober", prober.run());
                self.probers.insert(run.id.clone(), scope);
            }
        }
    }

    /// The health of a run that was not looked at before. One that nobody here is starting is from before this process:
    /// the API remembers it, and nobody waits for its hook.
    fn health_at_first_sight(&self, container: &Container, run: &Run) -> Health {
        let begin = Health::at_start(container);
        if self.busy.contains(&run.name) {
            return begin;
        }
        let known = status::of_run(&self.pod, run);
        known.map_or(Health { hooked: true, ..begin }, |known| Health::resumed(container, known))
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

    /// Refuses a new pod that does not fit beside those that are here already or came before it.
    fn admit(&mut self) {
        let is_new = self.sandbox.is_none() && self.runs.is_empty() && !was_started(&self.pod);
        if !is_new || self.ending != Ending::No {
            return;
        }
        // A node that is not known yet has no pods bound to it by the scheduler.
        let Some(node) = self.context.node.object() else { return };
        let age = |pod: &Pod| (pod.metadata.creation_timestamp.clone(), pod.metadata.uid.clone());
        let records = self.records.all();
        let others = records.iter().map(|record| &*record.pod).filter(|other| {
            other.metadata.uid != self.pod.metadata.uid
                && !has_ended(other)
                && (was_started(other) || age(other) < age(&self.pod))
        });
        if let Err(rejected) = admit(&node, &others.collect::<Vec<_>>(), &self.pod) {
            self.events.warning(&rejected.reason, &*rejected.message);
            let message = format!("Pod was rejected: {}", rejected.message);
            self.ending = Ending::Failed(rejected.reason, message);
        }
    }

    fn check_deadline(&mut self) {
        let Some(left) = self.deadline_left().filter(Duration::is_zero) else { return };
        tracing::debug!(pod = full_name(&self.pod), ?left, "deadline exceeded");
        let message = "Pod was active on the node longer than the specified deadline";
        self.events.normal("DeadlineExceeded", message);
        self.ending = Ending::Failed("DeadlineExceeded".to_owned(), message.to_owned());
    }

    fn check_eviction(&mut self) {
        let Some(message) = self.updates.borrow().evicted.clone() else { return };
        if self.ending == Ending::No {
            self.events.warning("Evicted", &*message);
            self.ending = Ending::Evicted(message);
        }
    }

    /// How long the pod may still run, if that is limited.
    fn deadline_left(&self) -> Option<Duration> {
        let limit = u64::try_from(self.spec.active_deadline_seconds?).unwrap_or(0);
        let started = self.pod.status.as_ref()?.start_time.as_ref()?.0;
        let age = Duration::try_from(Timestamp::now().duration_since(started)).unwrap_or_default();
        Some(Duration::from_secs(limit).saturating_sub(age))
    }

    async fn set_up(&mut self) -> Result<(), String> {
        self.send_status().await?;
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

    /// Does what the plan says. The time tells when the next container may start.
    fn follow(&mut self, plan: &Plan) -> Option<Duration> {
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
            stopper.stop(&run, container.as_ref(), &message).await;
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

    fn stopper(&self, deadline: watch::Receiver<Instant>) -> Stopper {
        Stopper {
            context: self.context.clone(),
            events: self.events.clone(),
            ip: self.context.probe_ip(self.pod_ips()),
            deadline,
        }
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

    fn pod_ips(&self) -> &[IpAddr] {
        self.sandbox.as_ref().map_or(&[], |sandbox| &sandbox.ips)
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
            pod_ips: self.pod_ips(),
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

    fn take_running(&mut self, id: &ContainerId) {
        tracing::debug!(container = %id, "started");
        // Its name is among the busy ones until its hook has returned; it waits for nothing else.
        let busy = self.busy.clone();
        self.waiting.retain(|name, _| !busy.contains(name));
    }

    fn take_done(&mut self, name: &str, done: Done) {
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

    fn take_report(&mut self, report: &Report) {
        match &report.verdict {
            Verdict::Attempt(text) => {
                return self.events.container_warning(&report.container, "Unhealthy", text.clone());
            }
            Verdict::Odd(text) => {
                return self.events.container_warning(&report.container, "ProbeWarning", text.clone());
            }
            Verdict::Passed | Verdict::Failed => {}
        }
        let passed = report.verdict == Verdict::Passed;
        let Some(health) = self.health.get_mut(&report.id) else { return };
        match report.kind {
            Kind::Readiness => health.ready = passed,
            Kind::Startup if passed => health.started = true,
            Kind::Startup | Kind::Liveness => health.failed |= !passed,
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

/// Whether a kubelet has begun with the pod.
fn was_started(pod: &Pod) -> bool {
    pod.status.as_ref().is_some_and(|status| status.start_time.is_some())
}

/// How long a run has gone on.
fn age(run: &Run) -> Duration {
    let State::Running { started_at, .. } = run.state else { return Duration::ZERO };
    Duration::try_from(Timestamp::now().duration_since(started_at)).unwrap_or_default()
}

fn revision(pod: &Pod) -> u64 {
    pod.metadata.resource_version.as_deref().and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// The termination message of a run: its file, else, where that is asked for, the end of its log.
fn last_words(
    context: &Context,
    uid: &str,
    spec: &PodSpec,
    name: &str,
    attempt: u32,
    log: Option<&edgek_node_runtime::Log>,
) -> String {
    /// `FallbackToLogsOnError` takes less of a log than of the file.
    const LOG_LIMIT: usize = 2048;
    const LOG_LINES: usize = 80;
    let message = read_tail(&context.config.termination_message(uid, name, attempt), MESSAGE_LIMIT);
    let policy = container_of(spec, name).and_then(|c| c.termination_message_policy.as_deref());
    let Some(log) = log.filter(|_| message.is_empty() && policy == Some("FallbackToLogsOnError")) else {
        return message;
    };
    let text = read_tail(&log.path, 4 * LOG_LIMIT);
    // A line is `<time> <stream> <F or P> <text>`.
    let lines: Vec<&str> = text.lines().filter_map(|line| line.splitn(4, ' ').nth(3)).collect();
    let mut words = lines[lines.len().saturating_sub(LOG_LINES)..].join("\n");
    words.push('\n');
    let mut from = words.len().saturating_sub(LOG_LIMIT);
    while !words.is_char_boundary(from) {
        from += 1;
    }
    if words.trim().is_empty() { String::new() } else { words.split_off(from) }
}

#[cfg(test)]
mod tests;
