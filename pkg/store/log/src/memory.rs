//! `MemoryLog`: a log that ends with the process. For tests, and for what nobody wants on disk.

use std::collections::BTreeMap;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;

use crate::{Conflict, Done, Error, Log, Op, Revision, Row, Visit};

/// A log in memory.
#[derive(Debug, Default)]
pub struct MemoryLog(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    rows: BTreeMap<Box<str>, (Revision, Bytes)>,
    revision: Revision,
    closed: bool,
}

impl MemoryLog {
    /// An empty log.
    pub fn new() -> Self {
        Self::default()
    }
}

impl State {
    fn apply(&mut self, op: Op) -> Result<Revision, Conflict> {
        op.change.judge(self.rows.get(&op.key).map(|(revision, _)| *revision))?;
        self.revision = self.revision.next();
        match op.change.into_value() {
            Some(value) => self.rows.insert(op.key, (self.revision, value)),
            None => self.rows.remove(&op.key),
        };
        Ok(self.revision)
    }
}

#[async_trait]
impl Log for MemoryLog {
    async fn load(&self, visit: Visit<'_>) -> Result<(), Error> {
        let state = self.0.lock();
        for (key, (revision, value)) in &state.rows {
            visit(Row { key, revision: *revision, value });
        }
        Ok(())
    }

    async fn submit(&self, op: Op, done: Done) {
        // `done` is called under the lock, so that outcomes are seen in revision order.
        let mut state = self.0.lock();
        let outcome =
            if state.closed { Err(Error::Closed.into()) } else { state.apply(op).map_err(Into::into) };
        done(outcome);
    }

    fn revision(&self) -> Revision {
        self.0.lock().revision
    }

    async fn flush(&self) -> Result<(), Error> {
        Ok(())
    }

    async fn compact(&self) -> Result<(), Error> {
        Ok(())
    }

    async fn check(&self) -> Result<(), Error> {
        Ok(())
    }

    async fn close(&self) -> Result<(), Error> {
        self.0.lock().closed = true;
        Ok(())
    }
}
