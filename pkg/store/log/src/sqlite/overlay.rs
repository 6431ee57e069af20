//! `Overlay`: acknowledged lazy ops that are not in the database yet.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use crate::{Change, Revision};

/// Above this the overlay is flushed before it takes more.
const MAX_BYTES: usize = 1 << 20;

/// What a row costs besides its key and value.
const ROW_BYTES: usize = 96;

/// The last lazy change of each key since the last flush; a row without a value is one to remove.
#[derive(Debug)]
pub(super) struct Overlay {
    rows: BTreeMap<Box<str>, (Revision, Option<Bytes>)>,
    bytes: usize,
    flush_after: Duration,
    deadline: Option<Instant>,
}

impl Overlay {
    pub(super) fn new(flush_after: Duration) -> Self {
        Self { rows: BTreeMap::new(), bytes: 0, flush_after, deadline: None }
    }

    /// The key's revision, `Some(None)` when it was removed; `None` when only the database knows.
    pub(super) fn revision(&self, key: &str) -> Option<Option<Revision>> {
        self.rows.get(key).map(|(revision, value)| value.is_some().then_some(*revision))
    }

    pub(super) fn put(&mut self, key: Box<str>, revision: Revision, change: Change) {
        self.deadline.get_or_insert_with(|| Instant::now() + self.flush_after);
        let (key_bytes, value) = (key.len(), change.into_value());
        self.bytes += value.as_ref().map_or(0, Bytes::len);
        match self.rows.insert(key, (revision, value)) {
            Some((_, old)) => self.bytes -= old.map_or(0, |old| old.len()),
            None => self.bytes += key_bytes + ROW_BYTES,
        }
    }

    pub(super) fn rows(&self) -> impl Iterator<Item = (&str, Revision, Option<&Bytes>)> {
        self.rows.iter().map(|(key, (revision, value))| (&**key, *revision, value.as_ref()))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    pub(super) fn is_full(&self) -> bool {
        self.bytes >= MAX_BYTES
    }

    /// When the rows have to be flushed.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Tries again later, after a flush that failed.
    pub(super) fn postpone(&mut self) {
        self.deadline = (!self.is_empty()).then(|| Instant::now() + self.flush_after);
    }

    /// Forgets the rows: they are in the database now.
    pub(super) fn clear(&mut self) {
        self.rows.clear();
        self.bytes = 0;
        self.deadline = None;
    }
}
