//! `Containers`: the table of this node's containers and every change to one of them.
//!
//! Containers of one pod share a shim process, so that creating, starting, ending and removing them take turns.
//! The table is true at all times: `monitor` keeps it so when containers end by themselves.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use containerd_client::types::Mount;
use edgek_base_lifecycle::Scope;
use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::sync::{OwnedMutexGuard, broadcast, watch};
use tracing::{debug, warn};

use super::Config;
use super::calls::Calls;
use super::cgroup::Cgroup;
use super::client::Client;
use super::exec::{self, OnLeave, Process};
use super::holder::{self, Holder};
use super::host::Host;
use super::images::Images;
use super::log::LogFile;
use super::manifest::Manifest;
use super::output::Hub;
use super::pipes::{Kind, PipePaths};
use super::pod::PodShared;
use super::record::{Exit, Record};
use super::spec::{self, ImageConfig, Joined, Pid};
use super::{layers, users};
use crate::{
    Container, ContainerId, ContainerSpec, Error, Event, ExecSpec, ExitReason, IpcNamespace, PidNamespace,
    Resources, Result, Session, Signal, State, Stats, Stdin,
};

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
    pub(super) calls: Calls,
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
            calls: Calls::new(client.clone(), config.clone()),
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
        let mounts = self.calls.prepare_snapshot(&spec.id, &manifest.chain_id).await?;
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
        self.calls.store(&spec.id, &record, &oci).await?;
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
                self.calls.delete_task(&id).await?;
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
        self.calls.create_task(&entry.id, entry.record.tty, &entry.pipes).await?;
        *entry.hub.lock() = Hub::start(&self.scope, outputs, self.log(&entry.record));
        self.calls.start_task(&entry.id).await
    }

    /// Records the end of a container whose first process has exited. Safe to call twice.
    pub(super) async fn finish(&self, entry: &Arc<Entry>, seen: Option<(u32, Timestamp)>) -> Result<()> {
        let _turn = self.turn(&entry.record.pod.uid).await;
        let started_at = match &*entry.state.borrow() {
            State::Running { started_at, .. } => started_at.to_string(),
            State::Exited { .. } | State::Created => return Ok(()),
        };
        let oom = Cgroup::new(&entry.record.cgroup, self.host.unified_cgroup).was_oom_killed();
        let deleted = self.calls.delete_task(&entry.id).await?;
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
        self.calls.update_record(&entry.id, &record).await?;
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
        self.calls.kill(id, signal).await
    }

    pub(super) async fn remove(&self, id: &ContainerId) -> Result<()> {
        let Some(entry) = self.find(id) else { return Ok(()) };
        let running = entry.state.borrow().is_running();
        if running {
            self.calls.kill(id, Signal::KILL).await?;
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
        self.calls.delete_task(id).await?;
        self.calls.remove_record(id).await?;
        self.calls.remove_snapshot(id).await?;
        entry.pipes.remove();
        self.table.lock().remove(id);
        self.notify(&entry);
        Ok(())
    }

    pub(super) async fn update(&self, id: &ContainerId, resources: &Resources) -> Result<()> {
        self.running(id)?;
        self.calls.update_task(id, resources).await
    }

    pub(super) async fn stats(&self, id: &ContainerId) -> Result<Stats> {
        let entry = self.running(id)?;
        let writable = self.calls.snapshot_usage(id).await?;
        let cgroup = Cgroup::new(&entry.record.cgroup, self.host.unified_cgroup);
        cgroup.stats(writable).ok_or_else(|| Error::NotRunning(id.clone()))
    }

    pub(super) async fn exec(&self, id: &ContainerId, exec: ExecSpec) -> Result<Session> {
        self.running(id)?;
        let template = self.calls.process_spec(id).await?;
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

    /// Takes back what a failed creation left.
    async fn discard(&self, id: &ContainerId) {
        let task = self.calls.delete_task(id).await.map(drop);
        let container = self.calls.remove_record(id).await;
        let snapshot = self.calls.remove_snapshot(id).await;
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
