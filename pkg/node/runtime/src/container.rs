//! `ContainerSpec`, everything that decides how a container is made, and `Container`, what is known about one.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{Security, User};

/// A container's identity: unique on the node and never reused.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ContainerId(String);

impl ContainerId {
    /// A new identity: 64 random hexadecimal digits, as users know them from other runtimes.
    pub fn random() -> Self {
        Self(format!("{}{}", uuid::Uuid::new_v4().simple(), uuid::Uuid::new_v4().simple()))
    }

    /// The identity as text (without the `containerd://` of a container status).
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for ContainerId {
    fn from(id: &str) -> Self {
        Self(id.to_owned())
    }
}

impl From<String> for ContainerId {
    fn from(id: String) -> Self {
        Self(id)
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The pod a container belongs to. Containers of one pod uid share an IPC namespace, `/dev/shm` and a shim process.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PodRef {
    /// `metadata.uid`.
    pub uid: String,
    /// `metadata.namespace`.
    pub namespace: String,
    /// `metadata.name`.
    pub name: String,
}

/// Everything that decides how a container is made.
///
/// The image's config fills what is left open, in [`crate::Runtime::create_container`] and nowhere else:
/// entrypoint and command (`command` replaces both, `args` replaces the command), environment (the spec's wins),
/// working directory, user, stop signal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerSpec {
    /// The identity, chosen by the caller.
    pub id: ContainerId,
    /// The pod it belongs to.
    pub pod: PodRef,
    /// The container's name in the pod.
    pub name: String,
    /// How often a container of this name was started in this pod before.
    pub attempt: u32,
    /// Kept with the container and given back by [`crate::Runtime::containers`]; the runtime does not read them.
    /// The caller puts here what it needs to adopt the container after a restart.
    pub labels: BTreeMap<String, String>,
    /// The image: a reference in any form, or an image id. It must be on the node.
    pub image: String,
    /// Replaces the image's entrypoint (and then its command counts no more).
    pub command: Vec<String>,
    /// Replaces the image's command.
    pub args: Vec<String>,
    /// Environment, later entries winning.
    pub env: Vec<(String, String)>,
    /// Replaces the image's working directory.
    pub working_dir: Option<PathBuf>,
    /// In this order, after the runtime's own (`/proc`, `/dev`, `/dev/pts`, `/dev/mqueue`, `/sys`, `/sys/fs/cgroup`,
    /// `/dev/shm`). `/etc/hosts`, `/etc/hostname`, `/etc/resolv.conf` and the termination message are the caller's.
    pub mounts: Vec<Mount>,
    /// Devices of the host to show in the container.
    pub devices: Vec<Device>,
    /// The host name; ignored in the host's network namespace, where the host's name counts.
    pub hostname: String,
    /// Which network namespace.
    pub network: NetworkNamespace,
    /// Which IPC namespace.
    pub ipc: IpcNamespace,
    /// Which PID namespace.
    pub pid: PidNamespace,
    /// Namespaced kernel parameters by name (`net.core.somaxconn`).
    pub sysctls: BTreeMap<String, String>,
    /// Who it runs as and what it may do.
    pub security: Security,
    /// The cgroup the container's own cgroup is made in, from the hierarchy's root: `/kubepods/burstable/pod…`.
    pub cgroup_parent: String,
    /// Limits.
    pub resources: Resources,
    /// -1000 to 1000; raised to the node process's own value where lowering is not permitted.
    pub oom_score_adj: i32,
    /// Limits per process.
    pub rlimits: Vec<Rlimit>,
    /// Whether the first process gets a terminal.
    pub tty: bool,
    /// Whether it gets standard input.
    pub stdin: Stdin,
    /// Where its output is written in CRI log format; `None` discards it (attach still sees it).
    pub log: Option<Log>,
}

impl ContainerSpec {
    /// A spec of `image` for the container `name` of `pod` that leaves everything else to the image and the defaults.
    pub fn new(pod: PodRef, name: impl Into<String>, image: impl Into<String>) -> Self {
        Self {
            id: ContainerId::random(),
            hostname: pod.name.clone(),
            pod,
            name: name.into(),
            attempt: 0,
            labels: BTreeMap::new(),
            image: image.into(),
            command: Vec::new(),
            args: Vec::new(),
            env: Vec::new(),
            working_dir: None,
            mounts: Vec::new(),
            devices: Vec::new(),
            network: NetworkNamespace::Host,
            ipc: IpcNamespace::Pod,
            pid: PidNamespace::Container,
            sysctls: BTreeMap::new(),
            security: Security::default(),
            cgroup_parent: "/kubepods".to_owned(),
            resources: Resources::default(),
            oom_score_adj: 0,
            rlimits: Vec::new(),
            tty: false,
            stdin: Stdin::Closed,
            log: None,
        }
    }
}

/// Something mounted into the container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// What.
    pub source: MountSource,
    /// Absolute path in the container.
    pub target: PathBuf,
    /// Whether it cannot be written through this mount.
    pub read_only: bool,
    /// Whether mounts below it are read-only too (`recursiveReadOnly`).
    pub recursive_read_only: bool,
    /// How mounts made below it travel.
    pub propagation: Propagation,
}

impl Mount {
    /// A private, writable bind mount of the host's `source` on `target`.
    pub fn bind(source: impl Into<PathBuf>, target: impl Into<PathBuf>) -> Self {
        Self {
            source: MountSource::Bind(source.into()),
            target: target.into(),
            read_only: false,
            recursive_read_only: false,
            propagation: Propagation::Private,
        }
    }

    /// The same mount, read-only.
    #[must_use]
    pub fn read_only(mut self) -> Self {
        self.read_only = true;
        self
    }
}

/// What is mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MountSource {
    /// A file or directory of the host, with what is mounted below it. It must exist.
    Bind(PathBuf),
    /// A new tmpfs of at most this many bytes (`None`: half of the memory).
    Tmpfs(Option<u64>),
}

/// `mountPropagation`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Propagation {
    /// `None`.
    #[default]
    Private,
    /// `HostToContainer`.
    HostToContainer,
    /// `Bidirectional`.
    Bidirectional,
}

/// A device of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// The device file on the host.
    pub host_path: PathBuf,
    /// Where it appears in the container.
    pub container_path: PathBuf,
    /// Some of `r`, `w`, `m`.
    pub permissions: String,
}

/// The network namespace of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NetworkNamespace {
    /// The host's (with the host's name).
    Host,
    /// The namespace pinned at this path.
    Path(PathBuf),
}

/// The IPC namespace (and `/dev/shm`) of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IpcNamespace {
    /// Shared by the containers of the pod; made with the first of them, ended by
    /// [`crate::Runtime::remove_pod`].
    Pod,
    /// The host's.
    Host,
}

/// The PID namespace of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PidNamespace {
    /// Its own.
    Container,
    /// Shared by the containers of the pod, whose first process is a holder that reaps orphans
    /// (`shareProcessNamespace`); ended by [`crate::Runtime::remove_pod`].
    Pod,
    /// The host's.
    Host,
    /// That of another, running container (an ephemeral container's target).
    Target(ContainerId),
}

/// cgroup limits; `None` and empty leave the kernel's defaults.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resources {
    /// Relative weight, 2 to 262144 (`requests.cpu` × 1024 / 1000).
    pub cpu_shares: Option<u64>,
    /// CPU time per period, in microseconds; -1 for no limit.
    pub cpu_quota_us: Option<i64>,
    /// Length of the period, in microseconds.
    pub cpu_period_us: Option<u64>,
    /// Bytes; -1 for no limit.
    pub memory_limit: Option<i64>,
    /// Memory plus swap in bytes; -1 for no limit.
    pub memory_swap_limit: Option<i64>,
    /// Processes and threads; -1 for no limit.
    pub pids_limit: Option<i64>,
    /// `cpuset.cpus`.
    pub cpuset_cpus: Option<String>,
    /// `cpuset.mems`.
    pub cpuset_mems: Option<String>,
    /// Bytes by page size (`2MB`, `1GB`).
    pub hugepage_limits: BTreeMap<String, u64>,
    /// cgroup v2 files by name (`memory.high`, `memory.min`); ignored on v1.
    pub unified: BTreeMap<String, String>,
}

/// A limit per process (`RLIMIT_NOFILE`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rlimit {
    /// The kernel's name: `RLIMIT_…`.
    pub kind: String,
    /// What applies.
    pub soft: u64,
    /// What the process may raise it to.
    pub hard: u64,
}

/// Standard input of a container.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stdin {
    /// `/dev/null`.
    #[default]
    Closed,
    /// Open as long as the container runs (`stdin`).
    Open,
    /// Closed when the first attached client that sent input leaves (`stdinOnce`).
    Once,
}

/// Where a container's output goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Log {
    /// The current file; older ones stand beside it with the time of rotation as suffix. Its directory must exist.
    pub path: PathBuf,
}

/// What is known about a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// Its identity.
    pub id: ContainerId,
    /// The pod it belongs to.
    pub pod: PodRef,
    /// Its name in the pod.
    pub name: String,
    /// How often a container of this name was started in this pod before.
    pub attempt: u32,
    /// The labels of its spec.
    pub labels: BTreeMap<String, String>,
    /// The image reference of its spec.
    pub image: String,
    /// What a container status shows as `imageID`.
    pub image_id: String,
    /// Who its first process runs as.
    pub user: User,
    /// The signal that asks it to stop (the image's `STOPSIGNAL`, else `SIGTERM`).
    pub stop_signal: crate::Signal,
    /// Where its output is written.
    pub log: Option<Log>,
    /// When it was created.
    pub created_at: Timestamp,
    /// Where it stands.
    pub state: State,
}

/// Where a container stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Made, not started.
    Created,
    /// Running.
    Running {
        /// The first process, in the host's PID namespace.
        pid: u32,
        /// When it was started.
        started_at: Timestamp,
    },
    /// Ended; it never starts again.
    Exited {
        /// The exit code; 128 + signal when killed by one.
        code: i32,
        /// Why.
        reason: ExitReason,
        /// The error of a failed start, otherwise empty.
        message: String,
        /// When it was started, if it was.
        started_at: Option<Timestamp>,
        /// When it ended.
        finished_at: Timestamp,
    },
}

impl State {
    /// Whether its processes run.
    pub fn is_running(&self) -> bool {
        matches!(self, Self::Running { .. })
    }

    /// Whether it has ended.
    pub fn is_exited(&self) -> bool {
        matches!(self, Self::Exited { .. })
    }
}

/// Why a container ended, as its status says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExitReason {
    /// Exit code 0.
    Completed,
    /// Another exit code.
    Error,
    /// The kernel killed one of its processes for want of memory.
    OomKilled,
    /// It could not be started (code 128).
    StartError,
    /// It ended while nobody watched, as in a reboot (code 255).
    Unknown,
}

impl ExitReason {
    /// The reason's text in a container status.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "Completed",
            Self::Error => "Error",
            Self::OomKilled => "OOMKilled",
            Self::StartError => "StartError",
            Self::Unknown => "Unknown",
        }
    }
}
