//! `Pending`: the pods that wait for a node. A pod is ready, or rests after a failure, or waits until the cluster
//! changes, or is gated. Pure: time is an argument.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use edgek_control_runtime::Key;
use tokio::time::Instant;

const FIRST_REST: Duration = Duration::from_secs(1);
const LAST_REST: Duration = Duration::from_secs(10);

/// How ready pods stand in line: by priority, then by age.
type Place = (Reverse<i32>, u64, Key);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Ready,
    /// Until then.
    Resting(Instant),
    /// No node could take it since then.
    Unschedulable(Instant),
    Gated,
    /// It has been taken out by [`Pending::pop`] and nobody has said yet how it went.
    Taken,
}

#[derive(Debug)]
struct Waiting {
    state: State,
    priority: i32,
    number: u64,
    failures: u32,
}

impl Waiting {
    fn place(&self, key: &Key) -> Place {
        (Reverse(self.priority), self.number, key.clone())
    }

    fn rest(&self) -> Duration {
        FIRST_REST.saturating_mul(1 << self.failures.saturating_sub(1).min(8)).min(LAST_REST)
    }
}

/// The pods that wait for a node.
#[derive(Debug, Default)]
pub struct Pending {
    pods: BTreeMap<Key, Waiting>,
    ready: BTreeSet<Place>,
    next_number: u64,
}

/// Whether a pod may be scheduled at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gate {
    /// It may.
    Open,
    /// Its scheduling gates hold it back.
    Closed,
}

impl Pending {
    /// A pod waits for a node, or has changed in a way that may help it.
    pub fn add(&mut self, key: &Key, priority: i32, gate: Gate) {
        self.next_number += 1;
        let fresh = Waiting { state: State::Gated, priority, number: self.next_number, failures: 0 };
        let waiting = self.pods.entry(key.clone()).or_insert(fresh);
        self.ready.remove(&waiting.place(key));
        waiting.priority = priority;
        waiting.state = match gate {
            Gate::Open => State::Ready,
            Gate::Closed => State::Gated,
        };
        if gate == Gate::Open {
            self.ready.insert(waiting.place(key));
        }
    }

    /// A pod waits no more.
    pub fn remove(&mut self, key: &Key) {
        if let Some(waiting) = self.pods.remove(key) {
            self.ready.remove(&waiting.place(key));
        }
    }

    /// The pod whose turn it is.
    ///
    /// # Errors
    /// When none is ready: the time at which one will have rested.
    pub fn pop(&mut self, now: Instant) -> Result<Key, Option<Instant>> {
        let mut due = None;
        for (key, waiting) in &mut self.pods {
            let State::Resting(until) = waiting.state else { continue };
            if until <= now {
                waiting.state = State::Ready;
                self.ready.insert(waiting.place(key));
            } else if due.is_none_or(|due| until < due) {
                due = Some(until);
            }
        }
        let (.., key) = self.ready.pop_first().ok_or(due)?;
        if let Some(waiting) = self.pods.get_mut(&key) {
            waiting.state = State::Taken;
        }
        Ok(key)
    }

    /// No node can take the pod: it waits until the cluster changes.
    pub fn unschedulable(&mut self, key: &Key, now: Instant) {
        if let Some(waiting) = self.pods.get_mut(key) {
            waiting.failures += 1;
            waiting.state = State::Unschedulable(now);
        }
    }

    /// Something went wrong that may go well next time.
    pub fn failed(&mut self, key: &Key, now: Instant) {
        if let Some(waiting) = self.pods.get_mut(key) {
            waiting.failures += 1;
            waiting.state = State::Resting(now + waiting.rest());
        }
    }

    /// The cluster has changed: pods that nobody could take may try again, once they have rested.
    pub fn stir(&mut self) {
        for waiting in self.pods.values_mut() {
            if let State::Unschedulable(since) = waiting.state {
                waiting.state = State::Resting(since + waiting.rest());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Key {
        Key::new("default", name)
    }

    #[test]
    fn the_highest_priority_goes_first_and_then_the_oldest() {
        let (mut pending, now) = (Pending::default(), Instant::now());
        for (name, priority) in [("a", 0), ("b", 5), ("c", 0), ("d", 5)] {
            pending.add(&key(name), priority, Gate::Open);
        }
        pending.add(&key("gated"), 9, Gate::Closed);
        let order: Vec<_> = std::iter::from_fn(|| pending.pop(now).ok()).map(|key| key.name).collect();
        assert_eq!(order, ["b", "d", "a", "c"]);
    }

    #[test]
    fn a_pod_that_fits_nowhere_waits_for_a_change_and_rests_longer_each_time() {
        let (mut pending, start) = (Pending::default(), Instant::now());
        pending.add(&key("a"), 0, Gate::Open);
        for seconds in [1, 2, 4, 8, 10, 10] {
            pending.pop(start + Duration::from_secs(60)).unwrap();
            pending.unschedulable(&key("a"), start);
            assert_eq!(pending.pop(start + Duration::from_secs(60)), Err(None), "nothing has changed");
            pending.stir();
            assert_eq!(pending.pop(start), Err(Some(start + Duration::from_secs(seconds))));
        }
    }

    #[test]
    fn an_open_gate_lets_the_pod_in() {
        let mut pending = Pending::default();
        pending.add(&key("a"), 0, Gate::Closed);
        pending.stir();
        assert_eq!(pending.pop(Instant::now()), Err(None));
        pending.add(&key("a"), 0, Gate::Open);
        assert_eq!(pending.pop(Instant::now()), Ok(key("a")));
    }
}
