//! `FakeRuntime`: a [`Runtime`] in memory for tests of the kubelet. Containers start at once and run until the test
//! ends them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::sync::{broadcast, mpsc, oneshot};

use crate::{
    Container, ContainerId, ContainerSpec, Credentials, Error, Event, Events, ExecSpec, ExitReason, Image,
    ImageFilesystem, Output, Resources, Result, Runtime, Session, Signal, State, Stats, Usage, User, Version,
};

/// What a command run by [`Runtime::exec`] does.
#[derive(Debug, Clone, Default)]
pub struct FakeExec {
    /// What it writes to standard output.
    pub stdout: String,
    /// What it writes to standard error.
    pub stderr: String,
    /// Its exit code.
    pub code: i32,
}

type ExecHandler = Arc<dyn Fn(&ContainerSpec, &ExecSpec) -> FakeExec + Send + Sync>;

/// A runtime in memory. Shared by reference: the test keeps one `Arc`, the kubelet another.
pub struct FakeRuntime {
    inner: Mutex<Inner>,
    events: broadcast::Sender<Event>,
}

struct Inner {
    images: BTreeMap<String, Image>,
    pullable: BTreeSet<String>,
    pull_error: Option<String>,
    start_error: Option<String>,
    containers: BTreeMap<ContainerId, (ContainerSpec, Container)>,
    signals: Vec<(ContainerId, Signal)>,
    ignores_term: bool,
    exec: ExecHandler,
    calls: Vec<String>,
}

impl Default for FakeRuntime {
    fn default() -> Self {
        let inner = Inner {
            images: BTreeMap::new(),
            pullable: BTreeSet::new(),
            pull_error: None,
            start_error: None,
            containers: BTreeMap::new(),
            signals: Vec::new(),
            ignores_term: false,
            exec: Arc::new(|_, _| FakeExec::default()),
            calls: Vec::new(),
        };
        Self { inner: Mutex::new(inner), events: broadcast::channel(1024).0 }
    }
}

impl FakeRuntime {
    /// A runtime with these images on the node.
    pub fn with_images(references: &[&str]) -> Arc<Self> {
        let fake = Self::default();
        for reference in references {
            fake.add_image(reference);
        }
        Arc::new(fake)
    }

    /// Puts an image on the node.
    pub fn add_image(&self, reference: &str) {
        self.inner.lock().images.insert(reference.to_owned(), image(reference));
    }

    /// Lets pulls of this reference succeed.
    pub fn add_pullable(&self, reference: &str) {
        self.inner.lock().pullable.insert(reference.to_owned());
    }

    /// Makes all pulls fail with this text, or work again.
    pub fn fail_pulls(&self, problem: Option<&str>) {
        self.inner.lock().pull_error = problem.map(str::to_owned);
    }

    /// Makes all starts fail with this text, or work again.
    pub fn fail_starts(&self, problem: Option<&str>) {
        self.inner.lock().start_error = problem.map(str::to_owned);
    }

    /// Makes containers go on after SIGTERM, until SIGKILL.
    pub fn ignore_term(&self) {
        self.inner.lock().ignores_term = true;
    }

    /// Decides what commands run in containers do; without it they exit with 0 and no output.
    pub fn on_exec(&self, handler: impl Fn(&ContainerSpec, &ExecSpec) -> FakeExec + Send + Sync + 'static) {
        self.inner.lock().exec = Arc::new(handler);
    }

    /// Ends a running container with this exit code.
    pub fn exit(&self, id: &ContainerId, code: i32) {
        let reason = if code == 0 { ExitReason::Completed } else { ExitReason::Error };
        self.end(id, code, reason);
    }

    /// Ends a running container as the kernel's OOM killer does.
    pub fn oom_kill(&self, id: &ContainerId) {
        self.end(id, 137, ExitReason::OomKilled);
    }

    /// The spec of the newest container of this name in this pod.
    pub fn spec(&self, pod_name: &str, container_name: &str) -> Option<ContainerSpec> {
        let inner = self.inner.lock();
        let specs = inner.containers.values().map(|(spec, _)| spec);
        specs
            .filter(|s| s.pod.name == pod_name && s.name == container_name)
            .max_by_key(|s| s.attempt)
            .cloned()
    }

    /// The signals sent so far.
    pub fn signals(&self) -> Vec<(ContainerId, Signal)> {
        self.inner.lock().signals.clone()
    }

    /// The changing calls made so far, as `create web/nginx`, `start web/nginx`, `pull busybox`, `remove web/nginx`,
    /// `remove-pod <uid>`.
    pub fn calls(&self) -> Vec<String> {
        self.inner.lock().calls.clone()
    }

    fn end(&self, id: &ContainerId, code: i32, reason: ExitReason) {
        let mut inner = self.inner.lock();
        let Some((_, container)) = inner.containers.get_mut(id) else { return };
        let State::Running { started_at, .. } = container.state else { return };
        container.state = State::Exited {
            code,
            reason,
            message: String::new(),
            started_at: Some(started_at),
            finished_at: Timestamp::now(),
        };
        let event = Event::Container { id: id.clone(), pod_uid: container.pod.uid.clone() };
        drop(inner);
        // No subscriber is no fault.
        let _ = self.events.send(event);
    }

    fn notify(&self, id: &ContainerId, pod_uid: &str) {
        let _ = self.events.send(Event::Container { id: id.clone(), pod_uid: pod_uid.to_owned() });
    }
}

impl Inner {
    fn running(&self, id: &ContainerId) -> Result<&ContainerSpec> {
        let (spec, container) =
            self.containers.get(id).ok_or_else(|| Error::ContainerNotFound(id.clone()))?;
        if container.state.is_running() { Ok(spec) } else { Err(Error::NotRunning(id.clone())) }
    }
}

#[async_trait]
impl Runtime for FakeRuntime {
    async fn version(&self) -> Result<Version> {
        Ok(Version { name: "fake".to_owned(), version: "1.0.0".to_owned(), details: BTreeMap::new() })
    }

    async fn images(&self) -> Result<Vec<Image>> {
        Ok(self.inner.lock().images.values().cloned().collect())
    }

    async fn image(&self, reference: &str) -> Result<Option<Image>> {
        let inner = self.inner.lock();
        let by_id = || inner.images.values().find(|image| image.id == reference);
        Ok(inner.images.get(reference).or_else(by_id).cloned())
    }

    async fn pull_image(&self, reference: &str, _credentials: Option<&Credentials>) -> Result<Image> {
        let mut inner = self.inner.lock();
        inner.calls.push(format!("pull {reference}"));
        let problem = inner.pull_error.clone();
        let missing = (!inner.pullable.contains(reference)).then(|| "not found".to_owned());
        if let Some(problem) = problem.or(missing) {
            return Err(Error::Pull { reference: reference.to_owned(), problem });
        }
        Ok(inner.images.entry(reference.to_owned()).or_insert_with(|| image(reference)).clone())
    }

    /// An archive holds one image, named as its file.
    async fn import_images(&self, archive: &Path) -> Result<Vec<Image>> {
        let name = archive.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut inner = self.inner.lock();
        inner.calls.push(format!("import {name}"));
        let image = image(&name);
        inner.images.insert(name, image.clone());
        Ok(vec![image])
    }

    async fn remove_image(&self, reference: &str) -> Result<()> {
        self.inner.lock().images.retain(|name, image| name != reference && image.id != reference);
        Ok(())
    }

    async fn image_filesystem(&self) -> Result<ImageFilesystem> {
        Ok(ImageFilesystem { path: "/".into(), used_bytes: 0 })
    }

    async fn containers(&self) -> Result<Vec<Container>> {
        Ok(self.inner.lock().containers.values().map(|(_, container)| container.clone()).collect())
    }

    async fn container(&self, id: &ContainerId) -> Result<Container> {
        let inner = self.inner.lock();
        let found = inner.containers.get(id).map(|(_, container)| container.clone());
        found.ok_or_else(|| Error::ContainerNotFound(id.clone()))
    }

    async fn create_container(&self, spec: &ContainerSpec) -> Result<()> {
        let mut inner = self.inner.lock();
        inner.calls.push(format!("create {}/{}", spec.pod.name, spec.name));
        let image = inner.images.get(&spec.image).ok_or_else(|| Error::ImageNotFound(spec.image.clone()))?;
        let container = Container {
            id: spec.id.clone(),
            pod: spec.pod.clone(),
            name: spec.name.clone(),
            attempt: spec.attempt,
            labels: spec.labels.clone(),
            image: spec.image.clone(),
            image_id: image.reference().to_owned(),
            user: User {
                uid: spec.security.uid.unwrap_or(0),
                gid: spec.security.gid.unwrap_or(0),
                groups: Vec::new(),
            },
            stop_signal: Signal::TERM,
            log: spec.log.clone(),
            created_at: Timestamp::now(),
            state: State::Created,
        };
        inner.containers.insert(spec.id.clone(), (spec.clone(), container));
        Ok(())
    }

    async fn start_container(&self, id: &ContainerId) -> Result<()> {
        let mut inner = self.inner.lock();
        let problem = inner.start_error.clone();
        let pid = 1000 + inner.calls.len() as u32;
        let (spec, container) =
            inner.containers.get_mut(id).ok_or_else(|| Error::ContainerNotFound(id.clone()))?;
        let call = format!("start {}/{}", spec.pod.name, spec.name);
        let pod_uid = spec.pod.uid.clone();
        let now = Timestamp::now();
        container.state = match &problem {
            None => State::Running { pid, started_at: now },
            Some(problem) => State::Exited {
                code: 128,
                reason: ExitReason::StartError,
                message: problem.clone(),
                started_at: None,
                finished_at: now,
            },
        };
        inner.calls.push(call);
        drop(inner);
        self.notify(id, &pod_uid);
        problem.map_or(Ok(()), |problem| Err(Error::Start { id: id.clone(), problem }))
    }

    async fn signal_container(&self, id: &ContainerId, signal: Signal) -> Result<()> {
        let ignored = {
            let mut inner = self.inner.lock();
            inner.signals.push((id.clone(), signal));
            inner.ignores_term
        };
        match signal {
            Signal::KILL => self.end(id, 137, ExitReason::Error),
            Signal::TERM if !ignored => self.end(id, 143, ExitReason::Error),
            _ => {}
        }
        Ok(())
    }

    async fn remove_container(&self, id: &ContainerId) -> Result<()> {
        let mut inner = self.inner.lock();
        let Some((spec, _)) = inner.containers.remove(id) else { return Ok(()) };
        inner.calls.push(format!("remove {}/{}", spec.pod.name, spec.name));
        drop(inner);
        self.notify(id, &spec.pod.uid);
        Ok(())
    }

    async fn update_container(&self, id: &ContainerId, resources: &Resources) -> Result<()> {
        let mut inner = self.inner.lock();
        inner.running(id)?;
        if let Some((spec, _)) = inner.containers.get_mut(id) {
            spec.resources = resources.clone();
        }
        Ok(())
    }

    async fn container_stats(&self, id: &ContainerId) -> Result<Stats> {
        self.inner.lock().running(id)?;
        Ok(Stats {
            at: Timestamp::now(),
            cpu_usage_ns: 1_000_000,
            memory_usage: 2 << 20,
            memory_working_set: 1 << 20,
            memory_rss: 1 << 20,
            page_faults: 0,
            major_page_faults: 0,
            processes: 1,
            writable_layer: Usage::default(),
        })
    }

    async fn exec(&self, id: &ContainerId, exec: ExecSpec) -> Result<Session> {
        let (handler, spec) = {
            let inner = self.inner.lock();
            (inner.exec.clone(), inner.running(id)?.clone())
        };
        let result = handler(&spec, &exec);
        let (session, output, exit) = session();
        for piece in [Output::Stdout(result.stdout.into()), Output::Stderr(result.stderr.into())] {
            // The queue holds both pieces, so that nobody needs to read yet.
            let _ = output.try_send(piece);
        }
        let _ = exit.send(Ok(result.code));
        Ok(session)
    }

    async fn attach(&self, id: &ContainerId) -> Result<Session> {
        self.inner.lock().running(id)?;
        let (session, _, exit) = session();
        let _ = exit.send(Ok(0));
        Ok(session)
    }

    async fn remove_pod(&self, pod_uid: &str) -> Result<()> {
        self.inner.lock().calls.push(format!("remove-pod {pod_uid}"));
        Ok(())
    }

    fn events(&self) -> Events {
        Events::new(self.events.subscribe())
    }
}

fn image(reference: &str) -> Image {
    let id = format!(
        "sha256:{:064x}",
        reference.bytes().fold(7_u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()))
    );
    Image {
        id,
        tags: vec![reference.to_owned()],
        digests: Vec::new(),
        size: 1 << 20,
        user: String::new(),
        pinned: false,
    }
}

fn session() -> (Session, mpsc::Sender<Output>, oneshot::Sender<Result<i32>>) {
    let (stdin, _) = mpsc::channel::<Bytes>(1);
    let (output_sender, output) = mpsc::channel(4);
    let (resize, _) = mpsc::channel(1);
    let (exit_sender, exit) = oneshot::channel();
    (Session { stdin: Some(stdin), output, resize, exit }, output_sender, exit_sender)
}
