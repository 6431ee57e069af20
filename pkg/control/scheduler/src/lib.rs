//! The scheduler: it gives every pending pod a node.
//!
//! `cmd/edgek` starts it with [`start`]. A [`snapshot`] of nodes and their pods follows the informers change by change;
//! [`filter`] and [`score`] are pure functions over it; the loop in [`scheduler`] assumes a pod on its node in the
//! snapshot and binds it at once. Nothing runs while nothing changes.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::needless_pass_by_value, reason = "tests"))]

pub mod affinity;
pub mod filter;
pub mod pod;
pub mod queue;
pub mod resources;
pub mod scheduler;
pub mod score;
pub mod snapshot;
pub mod spread;

#[cfg(test)]
mod fixture;

pub use scheduler::start;
