//! `Host`: what of this machine decides how containers are made, read once at start.

use std::collections::BTreeSet;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tracing::warn;

use crate::{Error, Result};

const CAP_SYS_RESOURCE: u32 = 24;

/// Capability names by their number.
const CAPABILITIES: [&str; 41] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

/// What of this machine decides how containers are made.
#[derive(Debug, Clone, Default)]
pub(super) struct Host {
    /// The machine's host name.
    pub(super) name: String,
    /// What this process may pass on.
    pub(super) capabilities: BTreeSet<String>,
    /// The lowest `oom_score_adj` a container may get.
    pub(super) min_oom_score_adj: i32,
    /// Whether cgroup v2 is the only hierarchy.
    pub(super) unified_cgroup: bool,
    /// Whether `/dev/mqueue` exists.
    pub(super) has_mqueue: bool,
}

impl Host {
    /// Reads it; says once what this process may not do.
    pub(super) fn read() -> Self {
        let bits = effective_capabilities();
        let name = |(bit, name): (usize, &&str)| (bits & (1 << bit) != 0).then(|| (*name).to_owned());
        let capabilities = CAPABILITIES.iter().enumerate().filter_map(name).collect();
        let may_lower = bits & (1 << CAP_SYS_RESOURCE) != 0;
        let min_oom_score_adj = if may_lower { -1000 } else { own_oom_score_adj() };
        if !may_lower {
            warn!(
                floor = min_oom_score_adj,
                "without CAP_SYS_RESOURCE the oom_score_adj of containers cannot go below this process's own"
            );
        }
        Self {
            name: nix::unistd::gethostname().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default(),
            capabilities,
            min_oom_score_adj,
            unified_cgroup: Path::new("/sys/fs/cgroup/cgroup.controllers").exists(),
            has_mqueue: Path::new("/dev/mqueue").exists(),
        }
    }

    /// One device in the specification's form.
    #[expect(clippy::unused_self, reason = "a fact about this machine, as the others are")]
    pub(super) fn device(&self, from: &Path, to: &Path) -> Result<Value> {
        let metadata = std::fs::metadata(from).map_err(|source| Error::io("look at device", from, source))?;
        let kind = metadata.file_type();
        let kind = match (kind.is_block_device(), kind.is_char_device()) {
            (true, _) => "b",
            (_, true) => "c",
            _ => return Err(Error::InvalidSpec(format!("{} is not a device", from.display()))),
        };
        Ok(json!({
            "path": to,
            "type": kind,
            "major": nix::sys::stat::major(metadata.rdev()),
            "minor": nix::sys::stat::minor(metadata.rdev()),
            "fileMode": metadata.permissions().mode() & 0o777,
            "uid": metadata.uid(),
            "gid": metadata.gid(),
        }))
    }

    /// All devices of the machine, for privileged containers; not those every container has of its own.
    #[expect(clippy::unused_self, reason = "a fact about this machine, as the others are")]
    pub(super) fn devices(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        collect_devices(Path::new("/dev"), &mut found);
        found.sort();
        found
    }
}

fn collect_devices(dir: &Path, found: &mut Vec<PathBuf>) {
    const OWN: [&str; 6] = ["pts", "shm", "fd", "mqueue", ".lxc", "console"];
    let Ok(entries) = std::fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        let Ok(kind) = entry.file_type() else { continue };
        if OWN.iter().any(|name| entry.file_name() == *name) {
            continue;
        }
        if kind.is_dir() {
            collect_devices(&entry.path(), found);
        } else if kind.is_block_device() || kind.is_char_device() {
            found.push(entry.path());
        }
    }
}

fn effective_capabilities() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    line.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0)
}

fn own_oom_score_adj() -> i32 {
    let text = std::fs::read_to_string("/proc/self/oom_score_adj").unwrap_or_default();
    text.trim().parse().unwrap_or(0)
}
