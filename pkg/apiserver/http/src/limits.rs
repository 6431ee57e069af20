//! The in-flight limit: how many requests are worked on at a time. Those that stream have no place in it.

use std::sync::Arc;

use edgek_api::status::Status;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::Rejection;
use crate::info::RequestInfo;

/// As upstream's `--max-requests-inflight` and `--max-mutating-requests-inflight`.
const READS: usize = 400;
const WRITES: usize = 200;

/// The free places for reads and writes.
#[derive(Debug, Clone)]
pub(crate) struct Limits {
    reads: Arc<Semaphore>,
    writes: Arc<Semaphore>,
}

impl Default for Limits {
    fn default() -> Self {
        Self { reads: Arc::new(Semaphore::new(READS)), writes: Arc::new(Semaphore::new(WRITES)) }
    }
}

impl Limits {
    /// A place for this request until the permit is dropped; none is needed for long-running ones.
    pub(crate) fn enter(&self, info: &RequestInfo) -> Result<Option<OwnedSemaphorePermit>, Rejection> {
        if info.is_long_running() {
            return Ok(None);
        }
        let places = if info.is_read_only() { &self.reads } else { &self.writes };
        match places.clone().try_acquire_owned() {
            Ok(permit) => Ok(Some(permit)),
            Err(_) => Err(Status::too_many_requests("Too many requests, please try again later.", 1).into()),
        }
    }
}
