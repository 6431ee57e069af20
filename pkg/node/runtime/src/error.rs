//! `Error`: why a runtime call failed, in the distinctions the kubelet acts on.

use std::time::Duration;

use crate::ContainerId;

/// The result of a runtime call.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a runtime call failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No container has this id.
    #[error("container {0} not found")]
    ContainerNotFound(ContainerId),
    /// The container is not running, so it cannot be signalled, entered or attached to.
    #[error("container {0} is not running")]
    NotRunning(ContainerId),
    /// The image is not on this node.
    #[error("image {0} not found")]
    ImageNotFound(String),
    /// The text is not an image reference.
    #[error("couldn't parse image name {reference:?}: {problem}")]
    InvalidReference {
        /// What was given.
        reference: String,
        /// Which rule it breaks.
        problem: String,
    },
    /// The registry, or what it sent, prevented the pull.
    #[error("failed to pull and unpack image {reference:?}: {problem}")]
    Pull {
        /// The reference in full.
        reference: String,
        /// What the registry or the unpacker said.
        problem: String,
    },
    /// The archive could not be imported.
    #[error("failed to import {archive}: {problem}")]
    Import {
        /// The archive's path.
        archive: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The spec cannot be turned into a container: an unknown user name, a relative path and the like.
    #[error("invalid container: {0}")]
    InvalidSpec(String),
    /// The container's process could not be started; it has ended with `StartError`.
    #[error("{problem}")]
    Start {
        /// Which container.
        id: ContainerId,
        /// What the low-level runtime said.
        problem: String,
    },
    /// The container could not be changed; the text is the low-level runtime's.
    #[error("failed to {step} container {id}: {problem}")]
    Container {
        /// The step that failed: remove, update.
        step: &'static str,
        /// Which container.
        id: ContainerId,
        /// What the low-level runtime said.
        problem: String,
    },
    /// The command could not be started in the container (no such file, not executable).
    #[error("failed to exec in container {id}: {problem}")]
    Exec {
        /// Which container.
        id: ContainerId,
        /// What the low-level runtime said.
        problem: String,
    },
    /// The command ran longer than allowed and was killed.
    #[error("timeout {0:?} exceeded")]
    ExecTimeout(Duration),
    /// The container runtime cannot be reached now; a later call may succeed.
    #[error("container runtime is not available: {0}")]
    Unavailable(String),
    /// A file of the node could not be read or written.
    #[error("failed to {action} {path}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which path.
        path: String,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// An answer of the runtime that fits none of the above.
    #[error("{call}: {problem}")]
    Call {
        /// The call that was made.
        call: &'static str,
        /// Its answer.
        problem: String,
    },
}

impl Error {
    pub(crate) fn io(action: &'static str, path: &std::path::Path, source: std::io::Error) -> Self {
        Self::Io { action, path: path.display().to_string(), source }
    }
}
