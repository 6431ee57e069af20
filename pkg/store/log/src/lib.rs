//! Bytes by key with revisions: the durable store and its backends.
//!
//! [`Log`] keeps the current value of every key. Each change is a compare-and-swap ([`Op`]) that gets the next
//! [`Revision`] of one counter for all keys. `store/watch` loads everything once at start, serves all reads from its
//! cache, and learns of each commit through the [`Done`] of its op, in revision order. Nothing here knows what the
//! bytes mean.
//!
//! Backends: [`MemoryLog`] for tests, [`SqliteLog`] for one server. Both pass the suite in `tests/suite.rs`.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "tests"))]

mod error;
mod memory;
mod op;
mod revision;
mod sqlite;

pub use error::{Error, OpenError};
pub use memory::MemoryLog;
pub use op::{Change, CommitError, Conflict, Done, Durability, Op};
pub use revision::Revision;
pub use sqlite::{Options, SqliteLog};

use async_trait::async_trait;
use tokio::sync::oneshot;

/// A key with its value, as [`Log::load`] shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row<'a> {
    /// The key.
    pub key: &'a str,
    /// The revision of its last change.
    pub revision: Revision,
    /// Its value.
    pub value: &'a [u8],
}

/// Whoever is shown the rows of a store.
pub type Visit<'a> = &'a mut (dyn for<'row> FnMut(Row<'row>) + Send);

/// The durable store.
///
/// # Guarantees
/// - Revisions of acknowledged ops only rise, also over restarts and crashes. They may have gaps.
/// - The [`Done`]s of successful ops are called in revision order, one at a time, each before any later op of the same
///   key is judged.
/// - A [`Durability::Durable`] op that was acknowledged survives a power cut. A [`Durability::Lazy`] one survives
///   [`Self::flush`] and [`Self::close`].
/// - An op that was rejected changed nothing.
#[async_trait]
pub trait Log: Send + Sync + 'static {
    /// Shows every row, in no particular order. For the start: it may block the thread while it reads.
    ///
    /// # Errors
    /// When the store cannot be read, or is damaged.
    async fn load(&self, visit: Visit<'_>) -> Result<(), Error>;

    /// Hands `op` over, waiting while the queue is full; `done` is then called exactly once, whether or not the caller
    /// is still there. Dropping the future before it resolves may withdraw the op, and with it `done`.
    async fn submit(&self, op: Op, done: Done);

    /// The revision of the last acknowledged op; after a start, one that no earlier op exceeds.
    fn revision(&self) -> Revision;

    /// Makes every acknowledged lazy op durable.
    ///
    /// # Errors
    /// When writing failed; the ops stay in memory and are tried again.
    async fn flush(&self) -> Result<(), Error>;

    /// Gives space that deleted rows took back to the file system.
    ///
    /// # Errors
    /// When writing failed; nothing is lost.
    async fn compact(&self) -> Result<(), Error>;

    /// Reads the whole store and checks its structure.
    ///
    /// # Errors
    /// [`Error::Corrupt`] with what was found.
    async fn check(&self) -> Result<(), Error>;

    /// Ends the store: ops already submitted are done, later ones are rejected with [`Error::Closed`].
    ///
    /// # Errors
    /// When lazy ops could not be flushed and are lost.
    async fn close(&self) -> Result<(), Error>;
}

/// Commits one op and waits for its outcome.
///
/// # Errors
/// [`CommitError::Conflict`] when the key is not as the op expects, [`CommitError::Failed`] when it could not be
/// written.
pub async fn commit(log: &dyn Log, op: Op) -> Result<Revision, CommitError> {
    let (sender, outcome) = oneshot::channel();
    let done = move |result| {
        // The caller may have gone; the op is committed all the same.
        let _ = sender.send(result);
    };
    log.submit(op, Box::new(done)).await;
    outcome.await.unwrap_or(Err(CommitError::Failed(Error::Closed)))
}
