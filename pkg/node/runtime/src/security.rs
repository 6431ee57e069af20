//! `Security`: what a container's processes may do, as the kubelet has decided it.

use std::path::PathBuf;

/// Who the container's first process runs as, and what it may do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Security {
    /// `runAsUser`; without it the image's user counts.
    pub uid: Option<u32>,
    /// `runAsGroup`; without it the primary group of the user in the image's `/etc/passwd`, else 0.
    pub gid: Option<u32>,
    /// `fsGroup` and `supplementalGroups`.
    pub supplemental_groups: Vec<u32>,
    /// Whether groups of the image's `/etc/group` are added.
    pub groups_policy: GroupsPolicy,
    /// All devices, all capabilities, no masks, no seccomp.
    pub privileged: bool,
    /// Whether the root filesystem is read-only.
    pub read_only_rootfs: bool,
    /// Whether set-uid programs and file capabilities are without effect (`allowPrivilegeEscalation: false`).
    pub no_new_privileges: bool,
    /// Changes to the runtime's default capability set.
    pub capabilities: Capabilities,
    /// Which system calls are allowed.
    pub seccomp: Seccomp,
    /// How much of `/proc` and `/sys` is hidden.
    pub proc_mount: ProcMount,
}

/// `supplementalGroupsPolicy`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum GroupsPolicy {
    /// Groups the image's `/etc/group` gives the user are added.
    #[default]
    Merge,
    /// Only the groups of the spec.
    Strict,
}

/// Capabilities by name, with or without `CAP_`; `ALL` stands for all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// Added to the default set.
    pub add: Vec<String>,
    /// Removed from the default set.
    pub drop: Vec<String>,
}

/// A seccomp profile.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Seccomp {
    /// The runtime's default profile.
    RuntimeDefault,
    /// No filter: Kubernetes' default.
    #[default]
    Unconfined,
    /// The profile in this file (the JSON form of the OCI runtime specification).
    Localhost(PathBuf),
}

/// `procMount`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ProcMount {
    /// The usual paths are masked or read-only.
    #[default]
    Default,
    /// Nothing is.
    Unmasked,
}

/// Who the first process of a container runs as, once resolved (`status.containerStatuses[].user.linux`).
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct User {
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// Further groups.
    pub groups: Vec<u32>,
}
