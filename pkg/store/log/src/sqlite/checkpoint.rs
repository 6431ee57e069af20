//! `Checkpoint`: copies the write-ahead log into the database, so that the log stays small and restarts stay fast.
//!
//! The copy runs on a short-lived thread with its own connection, beside the writer. Under constant load it never sees
//! the end of a log that keeps growing; then the writer copies the short rest itself and starts the log over.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use edgek_base_telemetry::Chain;
use rusqlite::Connection;
use tracing::warn;

use super::{open, table};

/// Frames of 4 KiB after which a copy starts: 4 MiB, about what a slow card writes in a second.
const START_FRAMES: i64 = 1000;

/// Frames after which the writer copies what is left of them, if that is little: 16 MiB.
const HELP_FRAMES: i64 = 4000;

/// Frames after which the writer waits for the copy: 32 MiB.
const STOP_FRAMES: i64 = 8000;

pub(super) struct Checkpoint {
    path: Arc<PathBuf>,
    running: Option<JoinHandle<()>>,
}

impl Checkpoint {
    pub(super) fn new(path: Arc<PathBuf>) -> Self {
        Self { path, running: None }
    }

    /// Starts a copy if the log is long enough. Called after each transaction.
    pub(super) fn after_commit(&mut self, connection: &Connection) {
        let (frames, copied) = table::wal_frames(connection).unwrap_or_default();
        if frames >= STOP_FRAMES {
            self.finish();
            return report(table::checkpoint(connection), &self.path);
        }
        let running = self.running.as_ref().is_some_and(|thread| !thread.is_finished());
        if running || frames - copied < START_FRAMES && frames < HELP_FRAMES {
            return;
        }
        if frames - copied < START_FRAMES {
            return report(table::checkpoint(connection), &self.path);
        }
        let path = self.path.clone();
        let copy = move || report(open::checkpointer(&path).and_then(|own| table::checkpoint(&own)), &path);
        match thread::Builder::new().name("store-checkpoint".to_owned()).spawn(copy) {
            Ok(thread) => self.running = Some(thread),
            Err(_) => report(table::checkpoint(connection), &self.path),
        }
    }

    /// Waits for a running copy.
    pub(super) fn finish(&mut self) {
        if let Some(thread) = self.running.take() {
            // Its panic would have been logged by the process's panic hook.
            let _ = thread.join();
        }
    }
}

/// A failed copy loses nothing: the log is still there, and is copied after a later commit.
fn report(outcome: rusqlite::Result<()>, path: &Path) {
    if let Err(error) = outcome {
        warn!(path = %path.display(), error = %Chain(&error), "copying the write-ahead log into the database failed");
    }
}
