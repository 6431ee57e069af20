//! `Containers`: the table of this node's containers and every change to one of them.
//!
//! Containers of one pod share a shim process, so that creating, starting, ending and removing them take turns.
//! The table is true at all times: `monitor` keeps it so when containers end by themselves.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use containerd_client::services::v1 as api;
use containerd_client::services::v1::snapshots as snapshot_api;
use containerd_client::tonic::{Code, Status};
use containerd_client::types::Mount;
use edgek_base_lifecycle::Scope;
use jiff::Timestamp;
use parking_lot::Mutex;
use prost_types::{Any, FieldMask};
use serde_json::Value;
use tokio::sync::{OwnedMutexGuard, broadcast, watch};
use tracing::{debug, warn};

use super::Config;
use super::cgroup::Cgroup;
use super::client::{Client, failed, found};
use super::exec::{self, OnLeave, Process};
use super::holder::{self, Holder};
use super::host::Host;
use super::images::{Images, SNAPSHOTTER};
use super::log::LogFile;
use super::manifest::Manifest;
use super::output::Hub;
use super::pipes::{Kind, PipePaths};
use super::pod::PodShared;
use super::record::{EXTENSION, Exit, Record};
use super::runc;
use super::spec::{self, ImageConfig, Joined, Pid};
use super::{layers, users};
use crate::{
    Container, ContainerId, ContainerSpec, Error, Event, ExecSpec, ExitReason, IpcNamespace, PidNamespace,
    Resources, Result, Session, Signal, State, Stats, Stdin, Usage,
};

/// Marks edgek's containers among those of the namespace.
pub(super) const MANAGED: &str = "edgek.io/managed";

pub(super) const SPEC_TYPE: &str = "types.containerd.io/opencontainers/runtime-spec/1/Spec";
const RESOURCES_TYPE: &str = "types.containerd.io/opencontainers/runtime-spec/1/LinuxResources";

/// How long a killed container may take to end before its removal fails.
const KILL_PATIENCE: Duration = Duration::from_secs(30);

/// Events a slow subscriber may lag behind before it is told to look at everything.
const EVENT_QUEUE: usize = 256;

/// One container.
pub(super) struct Entry {
    pub(super) id: ContainerId,
    pub(super) record: Record,
    pub(super) pipes: PipePaths,
    pub(super) state: watch::Sender<State>,
    /// Of its process, once that is made.
    hub: Mutex<Arc<Hub>>,
}

/// This node's containers.
pub(super) struct Containers {
    pub(super) scope: Scope,
    pub(super) client: Client,
    pub(super) images: Images,
    config: Config,
    host: Host,
    table: Mutex<BTreeMap<ContainerId, Arc<Entry>>>,
    turns: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
    events: broadcast::Sender<Event>,
}

impl Containers {
    pub(super) fn new(scope: Scope, client: Client, config: Config) -> Self {
        Self {
            images: Images::new(scope.clone(), client.clone(), &config),
            scope,
            client,
            config,
            host: Host::read(),
            table: Mutex::default(),
            turns: Mutex::default(),
            events: broadcast::channel(EVENT_QUEUE).0,
        }
    }

    pub(super) fn subscribe(&self) -> broadcast::Receiver<Event> {
        self.events.subscribe()
    }

    pub(super) fn list(&self) -> Vec<Container> {
        self.entries().iter().map(|entry| entry.container()).collect()
    }

    pub(super) fn entries(&self) -> Vec<Arc<Entry>> {
        self.table.lock().values().cloned().collect()
    }

    pub(super) fn find(&self, id: &ContainerId) -> Option<Arc<Entry>> {
        self.table.lock().get(id).cloned()
    }

    pub(super) fn get(&self, id: &ContainerId) -> Result<Arc<Entry>> {
        self.find(id).ok_or_else(|| Error::ContainerNotFound(id.clone()))
    }

    fn running(&self, id: &ContainerId) -> Result<Arc<Entry>> {
        let entry = self.get(id)?;
        let running = entry.state.borrow().is_running();
        if running { Ok(entry) } else { Err(Error::NotRunning(id.clone())) }
    }

    /// Adds a container found after a restart.
    pub(super) fn adopt(&self, id: ContainerId, record: Record, state: State) {
        let pipes = self.pipes(&id, &record);
        let open = state.is_running() && pipes.exist();
        let hub = match open.then(|| pipes.reopen_output()) {
            Some(Ok(outputs)) => Hub::start(&self.scope, outputs, self.log(&record)),
            Some(Err(error)) => {
                warn!(container = %id, %error, "the container's output is lost");
                Hub::ended()
            }
            None => Hub::ended(),
        };
        self.insert(id, record, pipes, state, hub);
    }

    fn insert(&self, id: ContainerId, record: Record, pipes: PipePaths, state: State, hub: Arc<Hub>) {
        let state = watch::Sender::new(state);
        let entry = Entry { id: id.clone(), record, pipes, state, hub: Mutex::new(hub) };
        self.table.lock().insert(id, Arc::new(entry));
    }

    pub(super) async fn create(&self, spec: &ContainerSpec) -> Result<()> {
        let resolved = self.images.resolve(&spec.image).await?;
        let (_, manifest) = resolved.ok_or_else(|| Error::ImageNotFound(spec.image.clone()))?;
        let image_id = self.images.find(&manifest.id).await?.map(|image| image.reference().to_owned());
        let joined = self.join(spec).await?;
        let _turn = self.turn(&spec.pod.uid).await;
        let mounts = self.prepare_snapshot(&spec.id, &manifest).await?;
        let made = self.create_in(spec, &manifest, image_id, &joined, &mounts).await;
        if made.is_err() {
            self.discard(&spec.id).await;
        }
        made
    }

    async fn create_in(
        &self,
        spec: &ContainerSpec,
        manifest: &Manifest,
        image_id: Option<String>,
        joined: &Joined,
        mounts: &[Mount],
    ) -> Result<()> {
        let (passwd, group) = (layers::read(mounts, "etc/passwd"), layers::read(mounts, "etc/group"));
        let user = users::resolve(&spec.security, &manifest.config.user, &passwd, &group)?;
        let input = spec::Input { spec, image: &manifest.config, user: &user, joined, host: &self.host };
        let oci = spec::build(&input)?;
        let record = Record {
            pod: spec.pod.clone(),
            name: spec.name.clone(),
            attempt: spec.attempt,
            labels: spec.labels.clone(),
            image: spec.image.clone(),
            image_id: image_id.unwrap_or_else(|| manifest.id.clone()),
            user,
            stop_signal: stop_signal(&manifest.config),
            log: spec.log.clone(),
            tty: spec.tty,
            stdin: spec.stdin,
            cgroup: spec::cgroup_path(spec),
            created_at: Timestamp::now(),
            exit: None,
        };
        self.store(&spec.id, &record, &oci).await?;
        let pipes = self.pipes(&spec.id, &record);
        pipes.create()?;
        self.insert(spec.id.clone(), record, pipes, State::Created, Hub::ended());
        Ok(())
    }

    /// Starts the container; when that fails it has ended with `StartError`.
    pub(super) async fn start(&self, id: &ContainerId) -> Result<()> {
        let entry = self.get(id)?;
        let _turn = self.turn(&entry.record.pod.uid).await;
        if *entry.state.borrow() != State::Created {
            return Ok(());
        }
        match self.start_task(&entry).await {
            Ok(pid) => {
                let started_at = Timestamp::now();
                entry.pipes.note_start(started_at);
                entry.state.send_replace(State::Running { pid, started_at });
                self.notify(&entry);
                Ok(())
            }
            Err(Error::Start { id, problem }) => {
                self.delete_task(&id).await?;
                let exit = Exit {
                    code: 128,
                    reason: ExitReason::StartError,
                    message: problem.clone(),
                    started_at: String::new(),
                    finished_at: Timestamp::now(),
                };
                self.end(&entry, exit).await?;
                Err(Error::Start { id, problem })
            }
            Err(error) => Err(error),
        }
    }

    /// Makes the container's process and lets it run; returns its number.
    async fn start_task(&self, entry: &Entry) -> Result<u32> {
        let outputs = entry.pipes.open_output()?;
        self.create_task(entry).await?;
        *entry.hub.lock() = Hub::start(&self.scope, outputs, self.log(&entry.record));
        let request = api::StartRequest { container_id: entry.id.to_string(), exec_id: String::new() };
        let started = self.client.tasks().start(request).await;
        started.map(|response| response.into_inner().pid).map_err(not_started(&entry.id, "start"))
    }

    /// Records the end of a container whose first process has exited. Safe to call twice.
    pub(super) async fn finish(&self, entry: &Arc<Entry>, seen: Option<(u32, Timestamp)>) -> Result<()> {
        let _turn = self.turn(&entry.record.pod.uid).await;
        let started_at = match &*entry.state.borrow() {
            State::Running { started_at, .. } => started_at.to_string(),
            State::Exited { .. } | State::Created => return Ok(()),
        };
        let oom = Cgroup::new(&entry.record.cgroup, self.host.unified_cgroup).was_oom_killed();
        let deleted = self.delete_task(&entry.id).await?;
        // Its output is complete before its end is known.
        let hub = entry.hub.lock().clone();
        hub.wait_ended().await;
        let (code, finished_at) =
            seen.or(deleted).map_or((255, Timestamp::now()), |(code, at)| (code as i32, at));
        let reason = match (seen.or(deleted), oom, code) {
            (None, ..) => ExitReason::Unknown,
            (_, true, _) => ExitReason::OomKilled,
            (_, _, 0) => ExitReason::Completed,
            _ => ExitReason::Error,
        };
        self.end(entry, Exit { code, reason, message: String::new(), started_at, finished_at }).await
    }

    async fn end(&self, entry: &Arc<Entry>, exit: Exit) -> Result<()> {
        let state = exit.state();
        let record = Record { exit: Some(exit), ..entry.record.clone() };
        let container = api::Container {
            id: entry.id.to_string(),
            extensions: HashMap::from([(EXTENSION.to_owned(), record.to_any())]),
            ..api::Container::default()
        };
        let mask = FieldMask { paths: vec!["extensions".to_owned()] };
        let request = api::UpdateContainerRequest { container: Some(container), update_mask: Some(mask) };
        found("update container", self.client.containers().update(request).await)?;
        entry.pipes.remove();
        entry.state.send_replace(state);
        self.notify(entry);
        Ok(())
    }

    pub(super) async fn signal(&self, id: &ContainerId, signal: Signal) -> Result<()> {
        let entry = self.get(id)?;
        if !entry.state.borrow().is_running() {
            return Ok(());
        }
        self.kill(id, signal).await
    }

    async fn kill(&self, id: &ContainerId, signal: Signal) -> Result<()> {
        let request = api::KillRequest {
            container_id: id.to_string(),
            exec_id: String::new(),
            signal: signal.0.unsigned_abs(),
            all: signal == Signal::KILL,
        };
        match self.client.tasks().kill(request).await {
            Err(status) if !matches!(status.code(), Code::NotFound | Code::FailedPrecondition) => {
                Err(failed("signal container")(status))
            }
            _ => Ok(()),
        }
    }

    pub(super) async fn remove(&self, id: &ContainerId) -> Result<()> {
        let Some(entry) = self.find(id) else { return Ok(()) };
        let running = entry.state.borrow().is_running();
        if running {
            self.kill(id, Signal::KILL).await?;
            let mut state = entry.state.subscribe();
            let ended = tokio::time::timeout(KILL_PATIENCE, state.wait_for(State::is_exited)).await;
            let problem = || format!("it did not end within {KILL_PATIENCE:?} after SIGKILL");
            ended.map(drop).map_err(|_| Error::Container {
                step: "remove",
                id: id.clone(),
                problem: problem(),
            })?;
        }
        let _turn = self.turn(&entry.record.pod.uid).await;
        self.delete_task(id).await?;
        let request = api::DeleteContainerRequest { id: id.to_string() };
        found("remove container", self.client.containers().delete(request).await)?;
        self.remove_snapshot(id).await?;
        entry.pipes.remove();
        self.table.lock().remove(id);
        self.notify(&entry);
        Ok(())
    }

    pub(super) async fn update(&self, id: &ContainerId, resources: &Resources) -> Result<()> {
        self.running(id)?;
        let value = spec::resources(resources).to_string().into_bytes();
        let request = api::UpdateTaskRequest {
            container_id: id.to_string(),
            resources: Some(Any { type_url: RESOURCES_TYPE.to_owned(), value }),
            ..api::UpdateTaskRequest::default()
        };
        let updated = self.client.tasks().update(request).await;
        updated.map(drop).map_err(|status| Error::Container {
            step: "update",
            id: id.clone(),
            problem: status.message().to_owned(),
        })
    }

    pub(super) async fn stats(&self, id: &ContainerId) -> Result<Stats> {
        let entry = self.running(id)?;
        let request = snapshot_api::UsageRequest { snapshotter: SNAPSHOTTER.to_owned(), key: id.to_string() };
        let usage =
            self.client.snapshots().usage(request).await.map_err(failed("read snapshot usage"))?.into_inner();
        let writable = Usage { bytes: usage.size.unsigned_abs(), inodes: usage.inodes.unsigned_abs() };
        let cgroup = Cgroup::new(&entry.record.cgroup, self.host.unified_cgroup);
        cgroup.stats(writable).ok_or_else(|| Error::NotRunning(id.clone()))
    }

    pub(super) async fn exec(&self, id: &ContainerId, exec: ExecSpec) -> Result<Session> {
        self.running(id)?;
        let request = api::GetContainerRequest { id: id.to_string() };
        let answer = found("get container", self.client.containers().get(request).await)?;
        let stored = answer.and_then(|response| response.container).and_then(|container| container.spec);
        let spec: Option<Value> = stored.and_then(|any| serde_json::from_slice(&any.value).ok());
        let template = spec.ok_or_else(|| Error::ContainerNotFound(id.clone()))?["process"].take();
        let exec_id = format!("exec-{}", uuid::Uuid::new_v4().simple());
        let pipes = exec::pipes(&self.config.state_dir, &exec_id, &exec);
        let process = Process { client: self.client.clone(), container: id.clone(), exec_id };
        exec::start(&self.scope, process, pipes, exec, template).await
    }

    pub(super) fn attach(&self, id: &ContainerId) -> Result<Session> {
        let entry = self.running(id)?;
        let on_leave = if entry.record.stdin == Stdin::Once { OnLeave::Close } else { OnLeave::KeepOpen };
        let stdin = entry.pipes.open_stdin()?.map(|pipe| (pipe, on_leave));
        let process = Process { client: self.client.clone(), container: id.clone(), exec_id: String::new() };
        let output = entry.hub.lock().attach();
        Ok(exec::attach(&self.scope, process, output, stdin, entry.state.subscribe()))
    }

    pub(super) async fn remove_pod(&self, pod_uid: &str) -> Result<()> {
        let turn = self.turn(pod_uid).await;
        holder::remove(&self.client, pod_uid).await?;
        let shared = PodShared::new(&self.config.state_dir, pod_uid);
        blocking(move || shared.remove()).await?;
        drop(turn);
        self.turns.lock().remove(pod_uid);
        Ok(())
    }

    /// The namespaces of a new container, made ready.
    async fn join(&self, spec: &ContainerSpec) -> Result<Joined> {
        let shared = PodShared::new(&self.config.state_dir, &spec.pod.uid);
        let dir = shared.dir().to_owned();
        let mut joined = match spec.ipc {
            IpcNamespace::Host => Joined { ipc: None, shm: "/dev/shm".into(), pid: Pid::New },
            IpcNamespace::Pod => Joined { ipc: Some(shared.ipc()), shm: shared.shm(), pid: Pid::New },
        };
        let _turn = self.turn(&spec.pod.uid).await;
        if spec.ipc == IpcNamespace::Pod {
            blocking(move || shared.ensure()).await?;
        }
        let of = |pid: u32| Pid::Path(format!("/proc/{pid}/ns/pid").into());
        joined.pid = match &spec.pid {
            PidNamespace::Container => Pid::New,
            PidNamespace::Host => Pid::Host,
            PidNamespace::Pod => {
                let holder = Holder { client: &self.client, config: &self.config, host: &self.host };
                of(holder.ensure(spec, &joined, &dir).await?)
            }
            PidNamespace::Target(target) => match *self.get(target)?.state.borrow() {
                State::Running { pid, .. } => of(pid),
                _ => return Err(Error::NotRunning(target.clone())),
            },
        };
        Ok(joined)
    }

    async fn prepare_snapshot(&self, id: &ContainerId, manifest: &Manifest) -> Result<Vec<Mount>> {
        // A root of its own until the container refers to it, so that a collection in between spares it.
        let labels = HashMap::from([
            ("containerd.io/gc.root".to_owned(), Timestamp::now().to_string()),
            (MANAGED.to_owned(), "true".to_owned()),
        ]);
        let request = snapshot_api::PrepareSnapshotRequest {
            snapshotter: SNAPSHOTTER.to_owned(),
            key: id.to_string(),
            parent: manifest.chain_id.clone(),
            labels,
        };
        let prepared = self.client.snapshots().prepare(request).await;
        Ok(prepared.map_err(failed("prepare snapshot"))?.into_inner().mounts)
    }

    async fn store(&self, id: &ContainerId, record: &Record, oci: &Value) -> Result<()> {
        let label = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let container = api::Container {
            id: id.to_string(),
            labels: HashMap::from([
                label(MANAGED, "true"),
                label("io.kubernetes.pod.uid", &record.pod.uid),
                label("io.kubernetes.pod.namespace", &record.pod.namespace),
                label("io.kubernetes.pod.name", &record.pod.name),
                label("io.kubernetes.container.name", &record.name),
            ]),
            image: record.image.clone(),
            runtime: Some(runc::runtime(&self.config)),
            spec: Some(Any { type_url: SPEC_TYPE.to_owned(), value: oci.to_string().into_bytes() }),
            snapshotter: SNAPSHOTTER.to_owned(),
            snapshot_key: id.to_string(),
            extensions: HashMap::from([(EXTENSION.to_owned(), record.to_any())]),
            ..api::Container::default()
        };
        let request = api::CreateContainerRequest { container: Some(container) };
        self.client.containers().create(request).await.map(drop).map_err(failed("create container"))
    }

    async fn create_task(&self, entry: &Entry) -> Result<()> {
        let key =
            snapshot_api::MountsRequest { snapshotter: SNAPSHOTTER.to_owned(), key: entry.id.to_string() };
        let mounts =
            self.client.snapshots().mounts(key).await.map_err(failed("mount snapshot"))?.into_inner().mounts;
        let text =
            |path: Option<&PathBuf>| path.map(|p| p.to_string_lossy().into_owned()).unwrap_or_default();
        let request = api::CreateTaskRequest {
            container_id: entry.id.to_string(),
            rootfs: mounts,
            stdin: text(entry.pipes.stdin.as_ref()),
            stdout: text(Some(&entry.pipes.stdout)),
            stderr: text(entry.pipes.stderr.as_ref()),
            terminal: entry.record.tty,
            options: Some(runc::options(&self.config)),
            ..api::CreateTaskRequest::default()
        };
        let mut created = self.client.tasks().create(request.clone()).await;
        if matches!(&created, Err(status) if status.code() == Code::AlreadyExists) {
            // An earlier start was cut short.
            self.delete_task(&entry.id).await?;
            created = self.client.tasks().create(request).await;
        }
        created.map(drop).map_err(not_started(&entry.id, "create"))
    }

    /// Ends the shim's part of a container; tells how its process ended.
    async fn delete_task(&self, id: &ContainerId) -> Result<Option<(u32, Timestamp)>> {
        let request = api::DeleteTaskRequest { container_id: id.to_string() };
        let answer = found("delete task", self.client.tasks().delete(request).await)?;
        Ok(answer.map(|exit| (exit.exit_status, timestamp(exit.exited_at.as_ref()))))
    }

    async fn remove_snapshot(&self, id: &ContainerId) -> Result<()> {
        let request =
            snapshot_api::RemoveSnapshotRequest { snapshotter: SNAPSHOTTER.to_owned(), key: id.to_string() };
        found("remove snapshot", self.client.snapshots().remove(request).await).map(drop)
    }

    /// Takes back what a failed creation left.
    async fn discard(&self, id: &ContainerId) {
        let task = self.delete_task(id).await.map(drop);
        let request = api::DeleteContainerRequest { id: id.to_string() };
        let container = found("remove container", self.client.containers().delete(request).await).map(drop);
        let snapshot = self.remove_snapshot(id).await;
        for error in [task, container, snapshot].into_iter().filter_map(Result::err) {
            debug!(container = %id, %error, "left over from a failed creation");
        }
        PipePaths::new(self.config.state_dir.join("io").join(id.as_str()), Kind { tty: false, stdin: true })
            .remove();
    }

    fn pipes(&self, id: &ContainerId, record: &Record) -> PipePaths {
        let kind = Kind { tty: record.tty, stdin: record.stdin != Stdin::Closed };
        PipePaths::new(self.config.state_dir.join("io").join(id.as_str()), kind)
    }

    fn log(&self, record: &Record) -> Option<LogFile> {
        record.log.as_ref().map(|log| LogFile::open(&log.path, self.config.log_limits))
    }

    /// Where an adopted container stands; `pid` is its running process. The runtime directory, like a process, does
    /// not outlive a reboot: a container without both may have run before it.
    pub(super) fn state_of(&self, id: &ContainerId, record: &Record, pid: Option<u32>) -> State {
        let pipes = self.pipes(id, record);
        match (&record.exit, pipes.started_at()) {
            (Some(exit), _) => exit.state(),
            (None, None) if pid.is_none() && pipes.exist() => State::Created,
            (None, noted) => {
                State::Running { pid: pid.unwrap_or(0), started_at: noted.unwrap_or(record.created_at) }
            }
        }
    }

    /// Removes the snapshot of a container that was never made.
    pub(super) async fn remove_orphan(&self, id: &ContainerId) -> Result<()> {
        self.remove_snapshot(id).await
    }

    /// Removes the pipes of commands and containers that an earlier edgek left.
    pub(super) fn remove_unknown_pipes(&self, known: &HashSet<String>) {
        let dirs = std::fs::read_dir(self.config.state_dir.join("io")).into_iter().flatten().flatten();
        for dir in dirs.filter(|dir| !known.contains(&*dir.file_name().to_string_lossy())) {
            // What cannot be removed now is found again at the next start.
            let _ = std::fs::remove_dir_all(dir.path());
        }
    }

    async fn turn(&self, pod_uid: &str) -> OwnedMutexGuard<()> {
        let turn = self.turns.lock().entry(pod_uid.to_owned()).or_default().clone();
        turn.lock_owned().await
    }

    fn notify(&self, entry: &Entry) {
        // Without a subscriber nobody needs to know.
        let _ = self
            .events
            .send(Event::Container { id: entry.id.clone(), pod_uid: entry.record.pod.uid.clone() });
    }

    pub(super) fn notify_resync(&self) {
        let _ = self.events.send(Event::Resync);
    }
}

impl Entry {
    pub(super) fn container(&self) -> Container {
        self.record.container(&self.id, self.state.borrow().clone())
    }
}

/// Tells why a container's process does not run; without containerd it may still come to run.
fn not_started(id: &ContainerId, step: &'static str) -> impl Fn(Status) -> Error {
    move |status| match status.code() {
        Code::Unavailable => Error::Unavailable(status.message().to_owned()),
        _ => {
            let problem = format!("failed to {step} containerd task: {}", status.message());
            Error::Start { id: id.clone(), problem }
        }
    }
}

/// A protobuf time; now for none.
pub(super) fn timestamp(time: Option<&prost_types::Timestamp>) -> Timestamp {
    let read = time.and_then(|time| Timestamp::new(time.seconds, time.nanos).ok());
    read.filter(|time| time.as_second() > 0).unwrap_or_else(Timestamp::now)
}

/// The image's `STOPSIGNAL` by name or number.
fn stop_signal(image: &ImageConfig) -> Signal {
    let text = image.stop_signal.trim();
    let name = if text.starts_with("SIG") { text.to_owned() } else { format!("SIG{text}") };
    let named = name.parse::<nix::sys::signal::Signal>().map(|signal| signal as i32).ok();
    text.parse().ok().or(named).map_or(Signal::TERM, Signal)
}

async fn blocking(work: impl FnOnce() -> Result<()> + Send + 'static) -> Result<()> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(Error::Call { call: "prepare pod", problem: error.to_string() }))
}
