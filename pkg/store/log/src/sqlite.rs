//! `SqliteLog`: the store of a single server (design D3). One table of current values, one writer thread, group commit.
//!
//! - `open` prepares the folder and the database and names what is wrong with them.
//! - `queue` carries requests to the writer, bounded in bytes.
//! - `writer` is the thread that owns the connection: it commits whatever has gathered in one transaction.
//! - `table` holds the SQL.
//! - `overlay` keeps acknowledged lazy ops until the next transaction.
//! - `checkpoint` copies the write-ahead log into the database beside the writer.

mod checkpoint;
mod open;
mod overlay;
mod queue;
mod table;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::oneshot;

use crate::{CommitError, Done, Error, Log, Op, OpenError, Revision, Visit};
use queue::{Queue, Request};

/// How a [`SqliteLog`] behaves.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// How long an acknowledged lazy op may stay in memory when nothing durable is written meanwhile.
    pub flush_after: Duration,
}

impl Default for Options {
    /// Five minutes: a heartbeat every ten seconds then costs some 3 MB of writes a day instead of 100 MB.
    fn default() -> Self {
        Self { flush_after: Duration::from_secs(300) }
    }
}

/// A log in a SQLite database.
#[derive(Debug)]
pub struct SqliteLog {
    path: Arc<PathBuf>,
    queue: Arc<Queue>,
    revision: Arc<AtomicU64>,
}

impl SqliteLog {
    /// Opens the store in `folder`, which is made if missing and locked against other processes.
    ///
    /// # Errors
    /// [`OpenError`] says what is wrong and what to do.
    pub fn open(folder: &Path, options: Options) -> Result<Self, OpenError> {
        let opened = open::open(folder)?;
        let path = opened.path.clone();
        let queue = Arc::new(Queue::new());
        let revision = Arc::new(AtomicU64::new(opened.reserved.0));
        writer::start(opened, options, queue.clone(), revision.clone())?;
        Ok(Self { path, queue, revision })
    }

    async fn ask(
        &self,
        request: impl FnOnce(oneshot::Sender<Result<(), Error>>) -> Request,
    ) -> Result<(), Error> {
        let (reply, outcome) = oneshot::channel();
        if self.queue.push(request(reply)).is_err() {
            return Err(Error::Closed);
        }
        outcome.await.unwrap_or(Err(Error::Closed))
    }
}

#[async_trait]
impl Log for SqliteLog {
    async fn load(&self, visit: Visit<'_>) -> Result<(), Error> {
        self.flush().await?;
        let read = open::reader(&self.path).and_then(|connection| table::scan(&connection, visit));
        match read.map_err(|error| open::explain(error, &self.path)) {
            // Damage seems to be met: say where, as far as SQLite can tell.
            Err(error @ Error::Corrupt { .. }) => Err(self.check().await.err().unwrap_or(error)),
            outcome => outcome,
        }
    }

    async fn submit(&self, op: Op, done: Done) {
        let Some(room) = self.queue.room(op.key.len() + op.change.size()).await else {
            return done(Err(Error::Closed.into()));
        };
        if let Err(Request::Commit(refused)) =
            self.queue.push(Request::Commit(queue::Pending { op, done, room }))
        {
            (refused.done)(Err(CommitError::Failed(Error::Closed)));
        }
    }

    fn revision(&self) -> Revision {
        Revision(self.revision.load(Ordering::Acquire))
    }

    async fn flush(&self) -> Result<(), Error> {
        self.ask(Request::Flush).await
    }

    async fn compact(&self) -> Result<(), Error> {
        self.ask(Request::Compact).await
    }

    async fn check(&self) -> Result<(), Error> {
        self.ask(Request::Check).await
    }

    async fn close(&self) -> Result<(), Error> {
        self.ask(Request::Close).await
    }
}

impl Drop for SqliteLog {
    fn drop(&mut self) {
        // Unless `close` came before, the writer flushes and ends on its own.
        self.queue.close();
    }
}
