//! What runs containers: the [`Runtime`] trait the kubelet is written against, its containerd implementation, and a
//! fake for tests. The only crate that speaks to containerd.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "tests"))]

mod container;
mod error;
mod hold;
mod image;
mod reference;
mod runtime;
mod security;
mod session;
mod stats;

pub mod containerd;
pub mod fake;

pub use container::{
    Container, ContainerId, ContainerSpec, Device, ExitReason, IpcNamespace, Log, Mount, MountSource,
    NetworkNamespace, PidNamespace, PodRef, Propagation, Resources, Rlimit, State, Stdin,
};
pub use error::{Error, Result};
pub use hold::hold_pid_namespace;
pub use image::{Credentials, Image, ImageFilesystem};
pub use reference::{Reference, Version as ImageVersion};
pub use runtime::{Event, Events, Runtime, Signal, Version};
pub use security::{Capabilities, GroupsPolicy, ProcMount, Seccomp, Security, User};
pub use session::{ExecSpec, Output, Session, TerminalSize};
pub use stats::{Stats, Usage};
