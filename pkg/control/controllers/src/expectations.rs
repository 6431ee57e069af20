//! `Expectations`: the creations and deletions that a controller has asked for and not seen yet.
//!
//! The informer is behind the controller's own writes; who counted what it shows would create the same replica twice
//! (upstream: `ControllerExpectations`).

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use edgek_control_runtime::Key;
use parking_lot::Mutex;
use tokio::time::Instant;

/// An event that has not come by then never will.
const PATIENCE: Duration = Duration::from_secs(5 * 60);

/// What is expected, by the key of the owner. Clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Expectations(Arc<Mutex<HashMap<Key, Expected>>>);

#[derive(Debug)]
struct Expected {
    creations: usize,
    /// The uids of what is to go.
    deletions: BTreeSet<String>,
    since: Instant,
}

impl Expectations {
    /// From now on these are expected. To be called before the requests are sent.
    pub(crate) fn expect(&self, owner: &Key, creations: usize, deletions: impl IntoIterator<Item = String>) {
        let deletions = deletions.into_iter().collect();
        self.0.lock().insert(owner.clone(), Expected { creations, deletions, since: Instant::now() });
    }

    /// A creation was seen, or will not happen.
    pub(crate) fn created(&self, owner: &Key) {
        if let Some(expected) = self.0.lock().get_mut(owner) {
            expected.creations = expected.creations.saturating_sub(1);
        }
    }

    /// A deletion was seen, or will not happen.
    pub(crate) fn deleted(&self, owner: &Key, uid: &str) {
        if let Some(expected) = self.0.lock().get_mut(owner) {
            expected.deletions.remove(uid);
        }
    }

    /// The owner is gone.
    pub(crate) fn forget(&self, owner: &Key) {
        self.0.lock().remove(owner);
    }

    /// How long to wait at most until everything expected has been seen; `None` when it has.
    pub(crate) fn outstanding(&self, owner: &Key) -> Option<Duration> {
        let all = self.0.lock();
        let expected = all.get(owner).filter(|it| it.creations > 0 || !it.deletions.is_empty())?;
        PATIENCE.checked_sub(expected.since.elapsed()).filter(|rest| !rest.is_zero())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_owner_waits_until_everything_was_seen_or_patience_ends() {
        let (expectations, owner) = (Expectations::default(), Key::new("a", "web"));
        assert_eq!(expectations.outstanding(&owner), None);
        expectations.expect(&owner, 2, ["x".to_owned()]);
        expectations.created(&owner);
        expectations.deleted(&owner, "x");
        assert_eq!(expectations.outstanding(&owner), Some(PATIENCE));
        expectations.created(&owner);
        assert_eq!(expectations.outstanding(&owner), None);
        expectations.expect(&owner, 1, []);
        tokio::time::advance(PATIENCE).await;
        assert_eq!(expectations.outstanding(&owner), None);
    }
}
