//! `Queue`: requests on their way to the writer thread, which takes all that have gathered at once.

use std::mem;
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::Instant;

use crate::{Done, Error, Op};

/// Room for values, in units of 4 KiB: 16 MiB, five of the largest objects or 4,096 small ones.
const UNITS: usize = 4096;
const UNIT_BYTES: usize = 4096;

/// What the writer is asked to do.
pub(super) enum Request {
    Commit(Pending),
    Flush(Reply),
    Compact(Reply),
    Check(Reply),
    Close(Reply),
}

/// Where the outcome of a request goes.
pub(super) type Reply = oneshot::Sender<Result<(), Error>>;

/// An op that waits to be committed.
pub(super) struct Pending {
    pub(super) op: Op,
    pub(super) done: Done,
    /// Its place in the queue, given back when the op is dropped.
    pub(super) room: OwnedSemaphorePermit,
}

#[derive(Default)]
struct State {
    requests: Vec<Request>,
    closed: bool,
}

pub(super) struct Queue {
    state: Mutex<State>,
    ready: Condvar,
    room: Arc<Semaphore>,
}

impl Queue {
    pub(super) fn new() -> Self {
        Self { state: Mutex::default(), ready: Condvar::new(), room: Arc::new(Semaphore::new(UNITS)) }
    }

    /// Waits for room for an op of `size` bytes; `None` when the queue is closed.
    pub(super) async fn room(&self, size: usize) -> Option<OwnedSemaphorePermit> {
        let units = size.div_ceil(UNIT_BYTES).clamp(1, UNITS);
        let units = u32::try_from(units).expect("clamped above");
        self.room.clone().acquire_many_owned(units).await.ok()
    }

    /// Adds a request, or gives it back when the queue is closed.
    pub(super) fn push(&self, request: Request) -> Result<(), Request> {
        let mut state = self.state.lock();
        if state.closed {
            return Err(request);
        }
        state.requests.push(request);
        drop(state);
        self.ready.notify_one();
        Ok(())
    }

    /// Waits for requests and takes them all; nothing when `deadline` passes first, `None` when the queue is closed
    /// and empty.
    pub(super) fn take(&self, deadline: Option<Instant>) -> Option<Vec<Request>> {
        let mut state = self.state.lock();
        while state.requests.is_empty() && !state.closed {
            match deadline {
                None => self.ready.wait(&mut state),
                Some(deadline) => {
                    if self.ready.wait_until(&mut state, deadline.into_std()).timed_out() {
                        break;
                    }
                }
            }
        }
        let finished = state.closed && state.requests.is_empty();
        (!finished).then(|| mem::take(&mut state.requests))
    }

    /// Refuses further requests; those inside are still taken.
    pub(super) fn close(&self) {
        self.state.lock().closed = true;
        self.room.close();
        self.ready.notify_one();
    }
}

/// Held by the writer while it runs: should it panic, nobody waits for it in vain.
pub(super) struct Serving(pub(super) Arc<Queue>);

impl Drop for Serving {
    fn drop(&mut self) {
        self.0.close();
        let left = mem::take(&mut self.0.state.lock().requests);
        drop(left);
    }
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queue").field("waiting", &self.state.lock().requests.len()).finish_non_exhaustive()
    }
}
