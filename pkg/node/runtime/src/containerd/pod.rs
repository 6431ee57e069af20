//! What the containers of a pod share besides its network: an IPC namespace and `/dev/shm`, kept by mounts, so that no
//! process is needed to hold them. Called by `containers`.

use std::fs::File;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};

use crate::{Error, Result};

/// The size of `/dev/shm`, as on an upstream node.
const SHM_OPTIONS: &str = "mode=1777,size=64m";

/// The shared parts of one pod, in a directory of its own.
#[derive(Debug, Clone)]
pub(super) struct PodShared {
    dir: PathBuf,
}

impl PodShared {
    /// Those of the pod with this uid, below the runtime's state directory.
    pub(super) fn new(state_dir: &Path, pod_uid: &str) -> Self {
        Self { dir: state_dir.join("pods").join(pod_uid) }
    }

    /// The pod's directory.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The file that keeps the IPC namespace.
    pub(super) fn ipc(&self) -> PathBuf {
        self.dir.join("ipc")
    }

    /// The tmpfs that is `/dev/shm`.
    pub(super) fn shm(&self) -> PathBuf {
        self.dir.join("shm")
    }

    /// Makes both unless they are there. Blocks.
    pub(super) fn ensure(&self) -> Result<()> {
        let shm = self.shm();
        std::fs::create_dir_all(&shm).map_err(|source| Error::io("create", &shm, source))?;
        if !is_mount_point(&shm) {
            let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
            mount(Some("shm"), &shm, Some("tmpfs"), flags, Some(SHM_OPTIONS))
                .map_err(|errno| Error::io("mount", &shm, errno.into()))?;
        }
        let ipc = self.ipc();
        if !is_mount_point(&ipc) {
            File::create(&ipc).map_err(|source| Error::io("create", &ipc, source))?;
            pin_new_ipc(&ipc).map_err(|source| Error::io("pin IPC namespace", &ipc, source))?;
        }
        Ok(())
    }

    /// Releases both. Blocks.
    pub(super) fn remove(&self) -> Result<()> {
        for path in [self.ipc(), self.shm()] {
            if is_mount_point(&path) {
                umount2(&path, MntFlags::MNT_DETACH)
                    .map_err(|errno| Error::io("unmount", &path, errno.into()))?;
            }
        }
        match std::fs::remove_dir_all(&self.dir) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(Error::io("remove", &self.dir, error))
            }
            _ => Ok(()),
        }
    }
}

/// A thread of its own enters a new namespace, binds it to the file and ends.
fn pin_new_ipc(file: &Path) -> std::io::Result<()> {
    let file = file.to_owned();
    let thread = std::thread::Builder::new().name("ipc namespace".to_owned()).spawn(move || {
        unshare(CloneFlags::CLONE_NEWIPC)?;
        mount(Some("/proc/thread-self/ns/ipc"), &file, None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
        Ok(())
    })?;
    thread.join().unwrap_or_else(|_| Err(std::io::Error::other("thread ended")))
}

/// A mount of a file or directory shows as another filesystem than its parent's.
fn is_mount_point(path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let device = |path: &Path| std::fs::metadata(path).map(|metadata| metadata.dev()).ok();
    match (device(path), path.parent().and_then(device)) {
        (Some(own), Some(parent)) => own != parent,
        _ => false,
    }
}
