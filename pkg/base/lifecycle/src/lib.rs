//! The task tree, staged shutdown and child processes.
//!
//! Every task of edgek is spawned through a [`Scope`], so that it has an owner, a name and an end. `cmd/edgek`
//! creates one root scope and one child per stage; a stage ends with [`Scope::close`], which cancels the scope,
//! waits for its tasks and names those that are still running when the grace period is over.
//! All crates except `edgek-api` may use this crate; it is the only one that calls `tokio::spawn`.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "tests"))]

mod backoff;
mod scope;
mod wall_clock;

pub use backoff::Backoff;
pub use scope::{Scope, StillRunning, Task};
pub use wall_clock::until;

use std::time::Duration;

/// Waits for `duration` on the runtime's clock (which tests can pause).
///
/// Product code waits for events; a sleep is only right for a period or a back-off.
#[expect(clippy::disallowed_methods, reason = "the one place that may sleep")]
pub async fn sleep(duration: Duration) {
    tokio::time::sleep(duration).await;
}
