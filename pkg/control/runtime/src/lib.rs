//! Informers, the dedup and delay queue, the reconcile driver and the event recorder.
//!
//! Controllers, the scheduler and the kubelet are made of these: an [`Informer`] keeps the objects of one resource,
//! its handlers put keys into a [`Queue`], and workers started by [`run`] take keys out and reconcile. Nothing here
//! polls: an idle cluster causes no requests.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "tests"))]

mod driver;
mod informer;
mod informers;
mod queue;
mod recorder;
mod toleration;

pub use driver::{Next, run};
pub use informer::{Change, Informer, Item, Key};
pub use informers::Informers;
pub use queue::Queue;
pub use recorder::{Involved, Kind, Recorder};
pub use toleration::tolerates;
