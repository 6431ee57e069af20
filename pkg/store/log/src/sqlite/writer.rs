//! `Writer`: the one thread that changes the database. It takes all requests that have gathered, acknowledges the lazy
//! ops from memory and commits the durable ones in one transaction, so that many writers share one sync of the disk.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::{mem, thread};

use edgek_base_telemetry::Chain;
use edgek_base_telemetry::metrics::Histogram;
use rusqlite::{Connection, TransactionBehavior};
use tokio::time::Instant;
use tracing::{info, warn};

use super::checkpoint::Checkpoint;
use super::open::{self, FolderLock, Opened};
use super::overlay::Overlay;
use super::queue::{Pending, Queue, Reply, Request, Serving};
use super::{Options, table};
use crate::{CommitError, Conflict, Durability, Error, OpenError, Revision};

/// How many revisions are reserved at once. A crash skips at most so many; heartbeats use them up in a day.
const BLOCK: u64 = 10_000;

static COMMITS: Histogram =
    Histogram::new("edgek_store_commit_seconds", "Transactions of the store, with their sync.");

struct Writer {
    connection: Connection,
    path: Arc<PathBuf>,
    queue: Arc<Queue>,
    overlay: Overlay,
    checkpoint: Checkpoint,
    /// The last revision given out, and where readers see it.
    last: Revision,
    published: Arc<AtomicU64>,
    /// The database promises that no revision above this one was given out.
    reserved: Revision,
    health: Health,
    /// Released last, when the database is closed.
    lock: FolderLock,
}

/// Whether the last transaction succeeded, so that the log tells of changes only.
#[derive(PartialEq, Eq)]
enum Health {
    Writing,
    Failing,
}

/// What each op of a transaction led to.
type Outcomes = Vec<Result<Revision, Conflict>>;

/// Requests other than commits that were taken with a batch.
#[derive(Default)]
struct Asked {
    flush: Vec<Reply>,
    compact: Vec<Reply>,
    check: Vec<Reply>,
}

pub(super) fn start(
    opened: Opened,
    options: Options,
    queue: Arc<Queue>,
    published: Arc<AtomicU64>,
) -> Result<(), OpenError> {
    let Opened { connection, path, reserved, lock } = opened;
    let writer = Writer {
        connection,
        queue,
        overlay: Overlay::new(options.flush_after),
        checkpoint: Checkpoint::new(path.clone()),
        last: reserved,
        published,
        reserved,
        health: Health::Writing,
        lock,
        path: path.clone(),
    };
    let run = move || {
        let _serving = Serving(writer.queue.clone());
        writer.run();
    };
    let spawned = thread::Builder::new().name("store-writer".to_owned()).spawn(run);
    spawned.map(drop).map_err(|error| Error::Io { path, source: Arc::new(error) }.into())
}

impl Writer {
    fn run(mut self) {
        let mut closing = Vec::new();
        while let Some(requests) = self.queue.take(self.overlay.deadline()) {
            let timed_out = requests.is_empty();
            let (mut lazy, mut durable, mut asked) = (Vec::new(), Vec::new(), Asked::default());
            for request in requests {
                match request {
                    Request::Commit(pending) if pending.op.durability == Durability::Lazy => {
                        lazy.push(pending)
                    }
                    Request::Commit(pending) => durable.push(pending),
                    Request::Flush(reply) => asked.flush.push(reply),
                    Request::Compact(reply) => asked.compact.push(reply),
                    Request::Check(reply) => asked.check.push(reply),
                    Request::Close(reply) => {
                        self.queue.close();
                        closing.push(reply);
                    }
                }
            }
            self.acknowledge(lazy);
            if !durable.is_empty() {
                self.commit(durable);
            }
            self.answer(asked);
            if timed_out && self.flush().is_err() {
                self.overlay.postpone();
            }
        }
        let outcome = self.finish();
        answer(closing, &outcome);
    }

    /// Takes lazy ops into memory. They come before the durable ops of their batch, whose transaction may fail.
    fn acknowledge(&mut self, lazy: Vec<Pending>) {
        if lazy.is_empty() {
            return;
        }
        let needed = self.last.0 + lazy.len() as u64;
        if (self.overlay.is_full() || needed > self.reserved.0)
            && let Err(error) = self.transact(&[], lazy.len())
        {
            return reject(lazy, &error);
        }
        for Pending { op, done, room } in lazy {
            let known = self.overlay.revision(&op.key);
            let current = known.map_or_else(|| table::revision(&self.connection, &op.key), Ok);
            let judged = match current {
                Ok(current) => op.change.judge(current).map_err(CommitError::from),
                Err(error) => Err(open::explain(error, &self.path).into()),
            };
            if judged.is_ok() {
                self.last = self.last.next();
                self.overlay.put(op.key, self.last, op.change);
                self.publish(self.last);
            }
            done(judged.map(|()| self.last));
            drop(room);
        }
    }

    fn commit(&mut self, durable: Vec<Pending>) {
        match self.transact(&durable, 0) {
            Err(error) => reject(durable, &error),
            Ok(outcomes) => {
                for (Pending { done, .. }, outcome) in durable.into_iter().zip(outcomes) {
                    if let Ok(revision) = outcome {
                        self.publish(revision);
                    }
                    done(outcome.map_err(CommitError::from));
                }
            }
        }
    }

    /// Writes the overlay, then `ops`, in one transaction that also keeps enough revisions reserved for them and for
    /// `more` ops. When it fails, nothing has happened.
    fn transact(&mut self, ops: &[Pending], more: usize) -> Result<Outcomes, Error> {
        let start = Instant::now();
        let result = self.try_transact(ops, more).map_err(|error| open::explain(error, &self.path));
        COMMITS.observe(start.elapsed());
        self.note(result.as_ref().err());
        result
    }

    fn try_transact(&mut self, ops: &[Pending], more: usize) -> rusqlite::Result<Outcomes> {
        let (mut last, mut reserved) = (self.last, self.reserved);
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let needed = last.0 + (ops.len() + more) as u64;
        if needed > reserved.0 {
            reserved = Revision(needed + BLOCK);
            table::reserve(&transaction, reserved)?;
        }
        for (key, revision, value) in self.overlay.rows() {
            table::put(&transaction, key, revision, value.map(|value| &**value))?;
        }
        let mut outcomes = Vec::with_capacity(ops.len());
        for Pending { op, .. } in ops {
            let outcome = table::apply(&transaction, op, last.next())?;
            outcomes.push(outcome.map(|()| {
                last = last.next();
                last
            }));
        }
        transaction.commit()?;
        (self.last, self.reserved) = (last, reserved);
        self.overlay.clear();
        self.checkpoint.after_commit(&self.connection);
        Ok(outcomes)
    }

    fn flush(&mut self) -> Result<(), Error> {
        if self.overlay.is_empty() { Ok(()) } else { self.transact(&[], 0).map(drop) }
    }

    fn answer(&mut self, asked: Asked) {
        if !asked.flush.is_empty() {
            answer(asked.flush, &self.flush());
        }
        if !asked.compact.is_empty() {
            let outcome = self.connection.execute_batch("VACUUM; PRAGMA wal_checkpoint(TRUNCATE);");
            answer(asked.compact, &outcome.map_err(|error| open::explain(error, &self.path)));
        }
        if !asked.check.is_empty() {
            answer(asked.check, &self.check());
        }
    }

    fn check(&self) -> Result<(), Error> {
        let faults = table::faults(&self.connection).map_err(|error| open::explain(error, &self.path))?;
        if faults.is_empty() {
            return Ok(());
        }
        Err(Error::Corrupt { path: self.path.clone(), detail: faults.join("; ") })
    }

    /// Leaves a database that needs no recovery: no lazy ops in memory, no reserved block, no write-ahead log.
    fn finish(mut self) -> Result<(), Error> {
        let outcome = self.flush();
        if outcome.is_ok() && self.reserved != self.last {
            // A block that stays reserved only skips revisions.
            let _ = table::reserve(&self.connection, self.last);
        }
        self.checkpoint.finish();
        let Self { connection, path, lock, .. } = self;
        let closed = connection.close().map_err(|(_, error)| open::explain(error, &path));
        drop(lock);
        outcome.and(closed)
    }

    fn publish(&self, revision: Revision) {
        self.published.store(revision.0, Ordering::Release);
    }

    /// Tells the log when writing begins to fail, and when it works again.
    fn note(&mut self, error: Option<&Error>) {
        let health = if error.is_some() { Health::Failing } else { Health::Writing };
        if mem::replace(&mut self.health, health) == self.health {
            return;
        }
        match error {
            Some(error) => {
                warn!(error = %Chain(error), "the store cannot write: changes are refused until it can")
            }
            None => info!("the store writes again"),
        }
    }
}

fn reject(ops: Vec<Pending>, error: &Error) {
    for Pending { done, .. } in ops {
        done(Err(error.clone().into()));
    }
}

fn answer(replies: Vec<Reply>, outcome: &Result<(), Error>) {
    for reply in replies {
        // Whoever asked may have gone.
        let _ = reply.send(outcome.clone());
    }
}
