//! What can go wrong with a store, each with what to do about it.

use std::path::PathBuf;
use std::sync::Arc;

/// Reading or writing an open store failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The file system has no space left.
    #[error("no space left to write {path}: free some, writing then resumes by itself", path = path.display())]
    DiskFull {
        /// The database.
        path: Arc<PathBuf>,
    },
    /// The file system or the file became read-only.
    #[error("{path} is read-only: a failing disk may have been remounted so; make it writable and restart edgek", path = path.display())]
    ReadOnly {
        /// The database.
        path: Arc<PathBuf>,
    },
    /// The contents are damaged.
    #[error("{path} is damaged ({detail}): stop edgek and restore a backup of it, or move it away to start empty", path = path.display())]
    Corrupt {
        /// The database.
        path: Arc<PathBuf>,
        /// What was found.
        detail: String,
    },
    /// The device failed in another way.
    #[error("reading or writing {path} failed: check the disk and the system log", path = path.display())]
    Io {
        /// The database.
        path: Arc<PathBuf>,
        /// What the backend says.
        source: Arc<dyn std::error::Error + Send + Sync>,
    },
    /// The store is closed, because edgek is stopping.
    #[error("the store is closed")]
    Closed,
}

/// A store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it.
    #[error("{path} is in use by another edgek{holder}: stop it, or choose another data directory", path = path.display())]
    Locked {
        /// The folder.
        path: PathBuf,
        /// ` (process 123)`, or empty when the holder is unknown.
        holder: String,
    },
    /// A newer edgek wrote it.
    #[error("{path} has schema version {found}, this edgek knows up to {known}: start the newer edgek, or restore a backup made before the upgrade", path = path.display())]
    NewerVersion {
        /// The database.
        path: PathBuf,
        /// Its schema version.
        found: i64,
        /// The newest version this program reads.
        known: i64,
    },
    /// It is a database of some other program.
    #[error("{path} is not a database of edgek: choose another data directory, or move it away", path = path.display())]
    Foreign {
        /// The database.
        path: PathBuf,
    },
    /// The folder cannot be made or written.
    #[error("{path} cannot be written: make it writable for edgek, or choose another data directory", path = path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The database cannot be read or written.
    #[error(transparent)]
    Store(#[from] Error),
}
