//! Volumes of pods: made before the first container, taken away after the last. Called by the pod's task.
//!
//! A pod's volumes lie in `<pod folder>/volumes/<kind>/<name>`, where monitoring tools look for them. All calls may be
//! repeated: mounting what is mounted changes nothing, so that a restart of edgek adopts what it finds.

mod atomic;
mod payload;
mod sources;
mod trust_bundle;

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use edgek_base_lifecycle::{Scope, sleep, until};
use edgek_client::Client;
use edgek_node_runtime::{Mount, MountSource, Propagation};
use k8s_openapi::api::core::v1::{
    Container, EmptyDirVolumeSource, HostPathVolumeSource, Pod, Volume, VolumeMount, VolumeProjection,
};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use tokio::sync::{Notify, watch};
use tracing::warn;

use crate::config::Config;
use crate::env::expand;
use crate::node::status::Allocatable;
use crate::objects::Objects;
use crate::pod_task::Update;
use atomic::Payload;
use payload::{DEFAULT_MODE, Gatherer, Selection};
use sources::{Source, Sources};

const CONFIG_MAP: &str = "kubernetes.io~configmap";
/// The least time between two attempts to renew a token.
const RETRY: Duration = Duration::from_secs(10);

/// A volume that containers can be given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountedVolume {
    /// Where it is on the node.
    pub host_path: PathBuf,
    /// Whether no container may write to it, as for secrets.
    pub read_only: bool,
}

/// A pod's volumes by name.
pub type Mounted = BTreeMap<String, MountedVolume>;

/// Why a volume is not there; the text of a `FailedMount` event, in upstream's words.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// One of the pod's volumes could not be made.
    #[error("MountVolume.SetUp failed for volume {volume:?} : {problem}")]
    SetUp {
        /// The volume's name.
        volume: String,
        /// Why not.
        problem: String,
    },
    /// Its files could not be taken away.
    #[error("failed to remove {path}")]
    Remove {
        /// What.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A container's mount asks for what cannot be (`CreateContainerConfigError`).
    #[error("{0}")]
    Mount(String),
}

/// Makes volumes and takes them away. Clones share what is known.
#[derive(Clone)]
pub struct Volumes {
    config: Arc<Config>,
    gatherer: Arc<Gatherer>,
    sources: Arc<Sources>,
}

impl Volumes {
    /// The volumes of the pods of this node. What they are made from is watched until the scope ends.
    pub fn new(
        scope: &Scope,
        config: Arc<Config>,
        client: Client,
        objects: Objects,
        allocatable: Allocatable,
    ) -> Self {
        let gatherer = Arc::new(Gatherer::new(objects, client.clone(), allocatable));
        Self { config, gatherer, sources: Sources::new(scope.clone(), client) }
    }

    /// Makes all volumes of a pod.
    ///
    /// # Errors
    /// The first volume that cannot be made.
    pub async fn mount(&self, pod: &Pod) -> Result<Mounted, Error> {
        let mut mounted = Mounted::new();
        for volume in pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten()) {
            let made = self.set_up(pod, volume).await;
            let made = made.map_err(|problem| Error::SetUp { volume: volume.name.clone(), problem })?;
            mounted.insert(volume.name.clone(), made);
        }
        Ok(mounted)
    }

    async fn set_up(&self, pod: &Pod, volume: &Volume) -> Result<MountedVolume, String> {
        if let Some(source) = &volume.host_path {
            host_path(source)?;
            return Ok(MountedVolume { host_path: PathBuf::from(&source.path), read_only: false });
        }
        if let Some(source) = &volume.empty_dir {
            let path = self.folder(pod, "kubernetes.io~empty-dir", &volume.name);
            empty_dir(source, &path, group(pod)).map_err(|error| error.to_string())?;
            return Ok(MountedVolume { host_path: path, read_only: false });
        }
        let (kind, payload) = self.payload(pod, volume).await?;
        let path = self.folder(pod, kind, &volume.name);
        let medium = if kind == CONFIG_MAP { Medium::Disk } else { Medium::Memory };
        let written =
            make_folder(&path, medium, None).and_then(|()| atomic::write(&path, &payload, group(pod)));
        written.map_err(|error| error.to_string())?;
        Ok(MountedVolume { host_path: path, read_only: true })
    }

    /// The kind and the files of a volume made from objects.
    async fn payload(&self, pod: &Pod, volume: &Volume) -> Result<(&'static str, Payload), String> {
        let mode = |mode: Option<i32>| mode.unwrap_or(DEFAULT_MODE);
        if let Some(source) = &volume.config_map {
            let wanted = Selection::new(source.items.as_deref(), source.optional, mode(source.default_mode));
            return Ok((CONFIG_MAP, self.gatherer.config_map(pod, &source.name, wanted).await?));
        }
        if let Some(source) = &volume.secret {
            let name = source.secret_name.as_deref().unwrap_or_default();
            let wanted = Selection::new(source.items.as_deref(), source.optional, mode(source.default_mode));
            return Ok(("kubernetes.io~secret", self.gatherer.secret(pod, name, wanted).await?));
        }
        if let Some(source) = &volume.downward_api {
            let items = source.items.as_deref().unwrap_or_default();
            let payload = self.gatherer.downward(&self.config, pod, items, mode(source.default_mode))?;
            return Ok(("kubernetes.io~downward-api", payload));
        }
        if let Some(source) = &volume.projected {
            return Ok((
                "kubernetes.io~projected",
                self.gatherer.projected(&self.config, pod, source).await?,
            ));
        }
        Err("no volume plugin matched".to_owned())
    }

    fn folder(&self, pod: &Pod, kind: &str, name: &str) -> PathBuf {
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        self.config.pod_dir(uid).join("volumes").join(kind).join(name)
    }

    /// Takes the volumes of a pod away, and the rest of its folder with them.
    ///
    /// # Errors
    /// When a file system is still in use.
    pub async fn unmount(&self, uid: &str) -> Result<(), Error> {
        self.gatherer.forget(uid);
        let folder = self.config.pod_dir(uid);
        let failed = |source| Error::Remove { path: folder.clone(), source };
        for point in mounts_below(&folder).map_err(failed)? {
            umount2(&point, MntFlags::MNT_DETACH)
                .map_err(|error| Error::Remove { path: point.clone(), source: error.into() })?;
        }
        match std::fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(error)),
            _ => Ok(()),
        }
    }

    /// Keeps the files of a pod's volumes true until the scope ends: when a config map or secret changes, and when a
    /// token is to be renewed, and when labels or annotations of the pod change.
    pub fn follow(&self, scope: &Scope, updates: &watch::Receiver<Update>) {
        scope.spawn("volumes", self.clone().keep_fresh(updates.clone()));
    }

    async fn keep_fresh(self, mut updates: watch::Receiver<Update>) {
        let mut pod = updates.borrow_and_update().pod.clone();
        let changed = Arc::new(Notify::new());
        let _following = self.sources.follow(Source::of(&pod), changed.clone());
        loop {
            let uid = pod.metadata.uid.as_deref().unwrap_or_default();
            let renew = self.gatherer.renew_at(uid);
            let due = async {
                let Some(renew) = renew else { return std::future::pending().await };
                sleep(RETRY).await;
                if let Err(error) = until(renew.into()).await {
                    warn!(pod = pod.metadata.name, %error, "waiting for a token's renewal failed");
                }
            };
            tokio::select! {
                () = due => {}
                () = changed.notified() => {}
                Ok(()) = updates.changed() => {
                    let new = updates.borrow_and_update().pod.clone();
                    let same = new.metadata.labels == pod.metadata.labels
                        && new.metadata.annotations == pod.metadata.annotations;
                    pod = new;
                    if same {
                        continue;
                    }
                }
            }
            if let Err(error) = self.mount(&pod).await {
                warn!(pod = pod.metadata.name, %error, "refreshing volumes failed");
            }
        }
    }
}

/// The parts of a pod's projected volumes.
fn projections(pod: &Pod) -> impl Iterator<Item = &VolumeProjection> {
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    volumes.flat_map(|volume| &volume.projected).flat_map(|source| source.sources.iter().flatten())
}

fn group(pod: &Pod) -> Option<u32> {
    let group = pod.spec.as_ref()?.security_context.as_ref()?.fs_group?;
    u32::try_from(group).ok()
}

/// The mounts of a container, in the order of its specification; `env` expands `subPathExpr`.
///
/// # Errors
/// [`Error::Mount`].
pub fn container_mounts(
    container: &Container,
    mounted: &Mounted,
    env: &BTreeMap<String, String>,
) -> Result<Vec<Mount>, Error> {
    let mounts = container.volume_mounts.iter().flatten();
    mounts.map(|wanted| container_mount(container, mounted, env, wanted)).collect()
}

fn container_mount(
    container: &Container,
    mounted: &Mounted,
    env: &BTreeMap<String, String>,
    wanted: &VolumeMount,
) -> Result<Mount, Error> {
    let volume = mounted.get(&wanted.name).ok_or_else(|| {
        Error::Mount(format!(
            "cannot find volume {:?} to mount into container {:?}",
            wanted.name, container.name
        ))
    })?;
    let sub_path = match (&wanted.sub_path, &wanted.sub_path_expr) {
        (Some(path), _) if !path.is_empty() => path.clone(),
        (_, Some(text)) if !text.is_empty() => expand(text, |name| env.get(name).cloned()),
        _ => String::new(),
    };
    let source = sub_path_of(&volume.host_path, &sub_path)?;
    let read_only = wanted.read_only == Some(true) || volume.read_only;
    Ok(Mount {
        source: MountSource::Bind(source),
        target: PathBuf::from(&wanted.mount_path),
        read_only,
        recursive_read_only: read_only
            && matches!(wanted.recursive_read_only.as_deref(), Some("Enabled" | "IfPossible")),
        propagation: match wanted.mount_propagation.as_deref() {
            Some("HostToContainer") => Propagation::HostToContainer,
            Some("Bidirectional") => Propagation::Bidirectional,
            _ => Propagation::Private,
        },
    })
}

/// A path inside a volume, made if it is missing; it must not lead out of the volume.
fn sub_path_of(volume: &Path, sub_path: &str) -> Result<PathBuf, Error> {
    if sub_path.is_empty() {
        return Ok(volume.to_owned());
    }
    let relative = Path::new(sub_path);
    let leaves = |c: std::path::Component<'_>| {
        !matches!(c, std::path::Component::Normal(_) | std::path::Component::CurDir)
    };
    if relative.components().any(leaves) {
        return Err(Error::Mount(format!(
            "unable to provision SubPath `{sub_path}`: it leads out of the volume"
        )));
    }
    let failed = |error: io::Error| Error::Mount(format!("failed to prepare subPath {sub_path:?}: {error}"));
    let outside =
        || Error::Mount(format!("unable to provision SubPath `{sub_path}`: it leads out of the volume"));
    let root = volume.canonicalize().map_err(failed)?;
    let mode = std::fs::metadata(&root).map_err(failed)?.permissions();
    let mut path = root.clone();
    // Part by part: a symbolic link that a pod has made must not make folders elsewhere on the node.
    for part in relative {
        path.push(part);
        path = match path.canonicalize() {
            Ok(real) if real.starts_with(&root) => real,
            Ok(_) => return Err(outside()),
            Err(error) if error.kind() == io::ErrorKind::NotFound && path.is_symlink() => {
                return Err(outside());
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                std::fs::create_dir(&path).map_err(failed)?;
                std::fs::set_permissions(&path, mode.clone()).map_err(failed)?;
                path
            }
            Err(error) => return Err(failed(error)),
        };
    }
    Ok(path)
}

/// Checks, or makes, what a hostPath asks for (`type`).
fn host_path(source: &HostPathVolumeSource) -> Result<(), String> {
    use std::os::unix::fs::FileTypeExt as _;
    let path = Path::new(&source.path);
    let kind = source.type_.as_deref().unwrap_or_default();
    let failed = |error: io::Error| error.to_string();
    match kind {
        "DirectoryOrCreate" => return std::fs::create_dir_all(path).map_err(failed),
        "FileOrCreate" => {
            return std::fs::OpenOptions::new()
                .create(true)
                .append(true)
                .open(path)
                .map(|_| ())
                .map_err(failed);
        }
        "" => {
            // Without a type a missing path becomes a folder, as container runtimes have it.
            return if path.exists() { Ok(()) } else { std::fs::create_dir_all(path).map_err(failed) };
        }
        _ => {}
    }
    let found = std::fs::metadata(path).ok().map(|meta| meta.file_type());
    let (fits, words) = match kind {
        "Directory" => (found.is_some_and(|f| f.is_dir()), "a directory"),
        "File" => (found.is_some_and(|f| f.is_file()), "a file"),
        "Socket" => (found.is_some_and(|f| f.is_socket()), "a socket file"),
        "CharDevice" => (found.is_some_and(|f| f.is_char_device()), "a character device"),
        "BlockDevice" => (found.is_some_and(|f| f.is_block_device()), "a block device"),
        other => return Err(format!("{other} is an invalid volume type")),
    };
    if fits { Ok(()) } else { Err(format!("hostPath type check failed: {} is not {words}", source.path)) }
}

/// Where a volume's files are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Medium {
    Disk,
    Memory,
}

fn empty_dir(source: &EmptyDirVolumeSource, path: &Path, group: Option<u32>) -> io::Result<()> {
    let medium = if source.medium.as_deref() == Some("Memory") { Medium::Memory } else { Medium::Disk };
    let limit = source.size_limit.as_ref().and_then(|q| q.0.parse::<edgek_api::quantity::Quantity>().ok());
    make_folder(path, medium, limit.map(|q| q.value()).filter(|bytes| *bytes > 0))?;
    let mut mode = 0o777;
    if group.is_some() {
        std::os::unix::fs::chown(path, None, group)?;
        mode |= 0o2000;
    }
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
}

/// Makes a volume's folder; in memory it is a file system of its own.
fn make_folder(path: &Path, medium: Medium, limit: Option<i64>) -> io::Result<()> {
    std::fs::create_dir_all(path)?;
    if medium == Medium::Memory && !mounts_below(path)?.iter().any(|point| point == path) {
        let size = limit.map_or(String::new(), |bytes| format!("size={bytes},"));
        mount(
            Some("tmpfs"),
            path,
            Some("tmpfs"),
            MsFlags::empty(),
            Some(format!("{size}mode=0777").as_str()),
        )?;
    }
    Ok(())
}

/// Mount points at and below a folder, the innermost first.
fn mounts_below(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let table = std::fs::read_to_string("/proc/self/mountinfo")?;
    let points =
        table.lines().filter_map(|line| line.split(' ').nth(4)).map(|text| PathBuf::from(unescape(text)));
    let mut below: Vec<PathBuf> = points.filter(|point| point.starts_with(folder)).collect();
    below.sort_by_key(|point| std::cmp::Reverse(point.as_os_str().len()));
    Ok(below)
}

/// Undoes the octal escapes of mountinfo (space, tab, newline, backslash).
fn unescape(text: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .into_iter()
        .fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
}

#[cfg(test)]
mod tests;
