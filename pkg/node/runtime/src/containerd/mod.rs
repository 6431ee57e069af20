//! `Containerd`: the [`Runtime`] on containerd's native API (2.0 and later), without its CRI plugin.
//!
//! | file | owns |
//! |---|---|
//! | `daemon` | the embedded containerd as a child process |
//! | `client` | the connection |
//! | `monitor` | what is heard: ends of containers, reconnection, adoption |
//! | `containers`, `calls` | the table of containers, and every change to one |
//! | `exec`, `output`, `pipes`, `log` | streams |
//! | `images`, `manifest`, `transfer`, `registries` | images |
//! | `spec`, `seccomp`, `users`, `layers`, `host`, `runc` | how a container is made |
//! | `pod`, `holder` | what the containers of a pod share |
//! | `cgroup`, `record` | usage, what survives restarts |

mod calls;
mod cgroup;
mod client;
mod containers;
mod daemon;
mod exec;
mod holder;
mod host;
mod images;
mod layers;
mod log;
mod manifest;
mod monitor;
mod output;
mod pipes;
mod pod;
mod record;
mod registries;
mod runc;
mod seccomp;
mod spec;
mod transfer;
mod users;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use edgek_base_lifecycle::Scope;
use tokio::sync::watch;

pub use self::daemon::{Daemon, DaemonConfig};
pub use self::log::LogLimits;
pub use self::registries::{Auth, HostConfig, Mirror, Registries, Tls};

use self::client::{Client, failed};
use self::containers::Containers;
use crate::{
    Container, ContainerId, ContainerSpec, Credentials, Error, Events, ExecSpec, Image, ImageFilesystem,
    Resources, Result, Runtime, Session, Signal, Stats, Version,
};

/// How long a call waits for containerd to come (back) before it fails with [`Error::Unavailable`].
const PATIENCE: Duration = Duration::from_secs(10);

/// Where containerd is and where this node keeps what belongs to running containers.
#[derive(Debug, Clone)]
pub struct Config {
    /// containerd's gRPC socket.
    pub socket: PathBuf,
    /// For pipes, shared namespaces and runc's state; on a tmpfs, since it belongs to running containers.
    pub state_dir: PathBuf,
    /// containerd's root directory: images and writable layers.
    pub root_dir: PathBuf,
    /// Where runc is; `None` for the one in containerd's `PATH`.
    pub runc: Option<PathBuf>,
    /// Mirrors, TLS settings and logins of image registries.
    pub registries: Registries,
    /// How large container logs grow.
    pub log_limits: LogLimits,
    /// What holds a shared PID namespace.
    pub holder: Program,
}

impl Config {
    /// Where containerd finds the settings of registries.
    fn hosts_dir(&self) -> PathBuf {
        self.state_dir.join("hosts")
    }
}

/// A static program of the host that runs inside a container of its own: `edgek pause`, which calls
/// [`crate::hold_pid_namespace`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// Its path on the host.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
}

/// The runtime on containerd.
pub struct Containerd {
    client: Client,
    containers: Arc<Containers>,
    ready: watch::Receiver<bool>,
    root_dir: PathBuf,
}

impl Containerd {
    /// Connects in the background, now and whenever containerd comes back; calls wait for it.
    ///
    /// # Errors
    /// When the settings of the registries cannot be written for containerd.
    pub fn start(scope: &Scope, config: Config) -> Result<Arc<Self>> {
        config.registries.write(&config.hosts_dir())?;
        let client = Client::new(&config.socket);
        let root_dir = config.root_dir.clone();
        let containers = Arc::new(Containers::new(scope.clone(), client.clone(), config));
        let (sender, ready) = watch::channel(false);
        scope.spawn("containerd monitor", monitor::run(containers.clone(), sender));
        Ok(Arc::new(Self { client, containers, ready, root_dir }))
    }

    /// Runs a change to its end even when the caller stops waiting: half a start must not stay half.
    async fn change<F>(&self, change: impl FnOnce(Arc<Containers>) -> F) -> Result<()>
    where
        F: Future<Output = Result<()>> + Send + 'static,
    {
        let containers = self.ready().await?.clone();
        let ended = containers.scope.spawn("container change", change(containers.clone())).join().await;
        ended.unwrap_or_else(|| Err(Error::Unavailable("edgek is stopping".to_owned())))
    }

    async fn ready(&self) -> Result<&Arc<Containers>> {
        let mut ready = self.ready.clone();
        let waited = tokio::time::timeout(PATIENCE, ready.wait_for(|ready| *ready)).await;
        match waited {
            Ok(Ok(_)) => Ok(&self.containers),
            _ => Err(Error::Unavailable("containerd does not answer".to_owned())),
        }
    }
}

#[async_trait]
impl Runtime for Containerd {
    async fn version(&self) -> Result<Version> {
        self.ready().await?;
        let answer = self.client.version().version(()).await.map_err(failed("version"))?.into_inner();
        let version = answer.version.trim_start_matches('v').to_owned();
        let details = BTreeMap::from([("revision".to_owned(), answer.revision)]);
        Ok(Version { name: "containerd".to_owned(), version, details })
    }

    async fn images(&self) -> Result<Vec<Image>> {
        self.ready().await?.images.list().await
    }

    async fn image(&self, reference: &str) -> Result<Option<Image>> {
        self.ready().await?.images.find(reference).await
    }

    async fn pull_image(&self, reference: &str, credentials: Option<&Credentials>) -> Result<Image> {
        self.ready().await?.images.pull(reference, credentials).await
    }

    async fn import_images(&self, archive: &Path) -> Result<Vec<Image>> {
        self.ready().await?.images.import(archive).await
    }

    async fn remove_image(&self, reference: &str) -> Result<()> {
        self.ready().await?.images.remove(reference).await
    }

    async fn image_filesystem(&self) -> Result<ImageFilesystem> {
        let images = self.ready().await?.images.list().await?;
        Ok(ImageFilesystem {
            path: self.root_dir.clone(),
            used_bytes: images.iter().map(|image| image.size).sum(),
        })
    }

    async fn containers(&self) -> Result<Vec<Container>> {
        Ok(self.ready().await?.list())
    }

    async fn container(&self, id: &ContainerId) -> Result<Container> {
        Ok(self.ready().await?.get(id)?.container())
    }

    async fn create_container(&self, spec: &ContainerSpec) -> Result<()> {
        let spec = spec.clone();
        self.change(|containers| async move { containers.create(&spec).await }).await
    }

    async fn start_container(&self, id: &ContainerId) -> Result<()> {
        let id = id.clone();
        self.change(|containers| async move { containers.start(&id).await }).await
    }

    async fn signal_container(&self, id: &ContainerId, signal: Signal) -> Result<()> {
        self.ready().await?.signal(id, signal).await
    }

    async fn remove_container(&self, id: &ContainerId) -> Result<()> {
        let id = id.clone();
        self.change(|containers| async move { containers.remove(&id).await }).await
    }

    async fn update_container(&self, id: &ContainerId, resources: &Resources) -> Result<()> {
        self.ready().await?.update(id, resources).await
    }

    async fn container_stats(&self, id: &ContainerId) -> Result<Stats> {
        self.ready().await?.stats(id).await
    }

    async fn exec(&self, id: &ContainerId, exec: ExecSpec) -> Result<Session> {
        self.ready().await?.exec(id, exec).await
    }

    async fn attach(&self, id: &ContainerId) -> Result<Session> {
        self.ready().await?.attach(id)
    }

    async fn remove_pod(&self, pod_uid: &str) -> Result<()> {
        let pod_uid = pod_uid.to_owned();
        self.change(|containers| async move { containers.remove_pod(&pod_uid).await }).await
    }

    fn events(&self) -> Events {
        Events::new(self.containers.subscribe())
    }
}
