//! `Runtime`: what the kubelet asks of whatever runs containers.

use std::collections::BTreeMap;
use std::path::Path;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;

use crate::{
    Container, ContainerId, ContainerSpec, Credentials, ExecSpec, Image, ImageFilesystem, Resources, Result,
    Session, Stats,
};

/// Runs containers. Implemented by [`crate::containerd::Containerd`] and [`crate::fake::FakeRuntime`].
///
/// States are level-triggered: [`Self::containers`] is always true, answered from memory, and [`Self::events`] says
/// when to look again. Removing what is already gone succeeds.
#[async_trait]
pub trait Runtime: Send + Sync + 'static {
    /// Name and version, for `status.nodeInfo.containerRuntimeVersion`.
    async fn version(&self) -> Result<Version>;

    /// All images on the node.
    async fn images(&self) -> Result<Vec<Image>>;

    /// The image that `reference` names: in any form (`busybox`, `busybox:1.36`, `…@sha256:…`) or by image id.
    async fn image(&self, reference: &str) -> Result<Option<Image>>;

    /// Pulls and unpacks the image for this platform. Tries without credentials when there are none.
    async fn pull_image(&self, reference: &str, credentials: Option<&Credentials>) -> Result<Image>;

    /// Adds the images of an archive (OCI layout or docker save; plain, gzip or zstd) and unpacks them.
    async fn import_images(&self, archive: &Path) -> Result<Vec<Image>>;

    /// Forgets every name of the image that `reference` names, so that its content is collected.
    async fn remove_image(&self, reference: &str) -> Result<()>;

    /// Where images live and what they use.
    async fn image_filesystem(&self) -> Result<ImageFilesystem>;

    /// All containers this runtime made for edgek, also before a restart of edgek or of the runtime.
    async fn containers(&self) -> Result<Vec<Container>>;

    /// One container.
    ///
    /// # Errors
    /// [`Error::ContainerNotFound`](crate::Error::ContainerNotFound).
    async fn container(&self, id: &ContainerId) -> Result<Container>;

    /// Makes the container: its filesystem and its specification. No process runs before [`Self::start_container`].
    async fn create_container(&self, spec: &ContainerSpec) -> Result<()>;

    /// Starts a created container.
    ///
    /// # Errors
    /// [`Error::Start`](crate::Error::Start) when its process cannot be started: the container has then ended with
    /// reason `StartError` and code 128.
    async fn start_container(&self, id: &ContainerId) -> Result<()>;

    /// Sends a signal to the container's first process; SIGKILL goes to all its processes. A container that is not
    /// running is left alone.
    async fn signal_container(&self, id: &ContainerId, signal: Signal) -> Result<()>;

    /// Removes the container, killing it first if it runs. Its log stays.
    async fn remove_container(&self, id: &ContainerId) -> Result<()>;

    /// Changes the limits of a running container; what `resources` leaves open stays.
    async fn update_container(&self, id: &ContainerId, resources: &Resources) -> Result<()>;

    /// What a running container uses now.
    async fn container_stats(&self, id: &ContainerId) -> Result<Stats>;

    /// Runs a command in a running container.
    async fn exec(&self, id: &ContainerId, exec: ExecSpec) -> Result<Session>;

    /// Joins the streams of a running container: its output from now on, and its input if it has one.
    async fn attach(&self, id: &ContainerId) -> Result<Session>;

    /// Releases what the containers of a pod shared (IPC namespace, `/dev/shm`, PID holder), after its last container
    /// was removed.
    async fn remove_pod(&self, pod_uid: &str) -> Result<()>;

    /// Changes from now on. Subscribe first, then list.
    fn events(&self) -> Events;
}

/// Name and version of a runtime.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// `containerd`.
    pub name: String,
    /// `2.4.2`.
    pub version: String,
    /// Further facts by name, for the log.
    pub details: BTreeMap<String, String>,
}

/// A signal by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signal(pub i32);

impl Signal {
    /// SIGTERM.
    pub const TERM: Self = Self(15);
    /// SIGKILL.
    pub const KILL: Self = Self(9);
}

/// Something to look at again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// This container was started, ended or was removed.
    Container {
        /// Which.
        id: ContainerId,
        /// Its pod.
        pod_uid: String,
    },
    /// Events may have been missed: look at every container.
    Resync,
}

/// A subscription to the runtime's events.
#[derive(Debug)]
pub struct Events(broadcast::Receiver<Event>);

impl Events {
    /// Wraps a subscription; for implementations of [`Runtime`].
    pub fn new(receiver: broadcast::Receiver<Event>) -> Self {
        Self(receiver)
    }

    /// The next event; `None` when the runtime has been closed. A subscriber that is too slow gets
    /// [`Event::Resync`] for all it missed.
    pub async fn next(&mut self) -> Option<Event> {
        match self.0.recv().await {
            Ok(event) => Some(event),
            Err(broadcast::error::RecvError::Lagged(_)) => Some(Event::Resync),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}
