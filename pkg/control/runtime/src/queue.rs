//! `Queue`: keys that wait for a reconcile. A key waits once however often it is added, is never handled twice at the
//! same time, and comes back with a growing delay after a failure (as client-go's rate-limited work queue).

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

const FIRST_RETRY: Duration = Duration::from_millis(5);
const LAST_RETRY: Duration = Duration::from_secs(1000);

/// Keys that wait. Clones share the same queue.
#[derive(Debug)]
pub struct Queue<K>(Arc<Shared<K>>);

impl<K> Clone for Queue<K> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

#[derive(Debug)]
struct Shared<K> {
    state: Mutex<State<K>>,
    changed: Notify,
}

#[derive(Debug)]
struct State<K> {
    ready: VecDeque<K>,
    /// Keys that wait or must be handled again when their present run ends.
    dirty: BTreeSet<K>,
    running: BTreeSet<K>,
    later: BTreeMap<Instant, BTreeSet<K>>,
    /// When each key of `later` comes.
    due: HashMap<K, Instant>,
    failures: HashMap<K, u32>,
}

impl<K: Ord + Clone + Hash> Default for Queue<K> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: Ord + Clone + Hash> Queue<K> {
    /// An empty queue.
    pub fn new() -> Self {
        let state = State {
            ready: VecDeque::new(),
            dirty: BTreeSet::new(),
            running: BTreeSet::new(),
            later: BTreeMap::new(),
            due: HashMap::new(),
            failures: HashMap::new(),
        };
        Self(Arc::new(Shared { state: Mutex::new(state), changed: Notify::new() }))
    }

    /// Adds a key.
    pub fn add(&self, key: K) {
        self.0.state.lock().add(key);
        self.0.changed.notify_one();
    }

    /// Adds a key after a while. A key that is already to come earlier comes then, once.
    pub fn add_after(&self, key: K, delay: Duration) {
        self.0.state.lock().add_at(key, Instant::now() + delay);
        self.0.changed.notify_one();
    }

    /// Adds a key after a delay that doubles with each failure in a row.
    pub fn retry(&self, key: K) {
        let mut state = self.0.state.lock();
        let failures = state.failures.entry(key.clone()).or_default();
        let delay = FIRST_RETRY.saturating_mul(1 << (*failures).min(18)).min(LAST_RETRY);
        *failures += 1;
        state.add_at(key, Instant::now() + delay);
        drop(state);
        self.0.changed.notify_one();
    }

    /// The key is well again: its next failure is the first one.
    pub fn forget(&self, key: &K) {
        self.0.state.lock().failures.remove(key);
    }

    /// The next key, once there is one. [`Self::done`] must be called for it.
    pub async fn next(&self) -> K {
        loop {
            let changed = self.0.changed.notified();
            let due = match self.0.state.lock().take() {
                Ok(key) => return key,
                Err(due) => due,
            };
            match due {
                Some(at) => {
                    // Either way the state is looked at again.
                    let _ = tokio::time::timeout_at(at, changed).await;
                }
                None => changed.await,
            }
        }
    }

    /// The key's run has ended; if it was added meanwhile it waits again.
    pub fn done(&self, key: &K) {
        let mut state = self.0.state.lock();
        state.running.remove(key);
        if state.dirty.contains(key) {
            state.ready.push_back(key.clone());
            drop(state);
            self.0.changed.notify_one();
        }
    }
}

impl<K: Ord + Clone + Hash> State<K> {
    fn add_at(&mut self, key: K, at: Instant) {
        if let Some(due) = self.due.get(&key).copied() {
            if due <= at {
                return;
            }
            if let Some(keys) = self.later.get_mut(&due) {
                keys.remove(&key);
            }
        }
        self.due.insert(key.clone(), at);
        self.later.entry(at).or_default().insert(key);
    }

    fn add(&mut self, key: K) {
        if self.dirty.insert(key.clone()) && !self.running.contains(&key) {
            self.ready.push_back(key);
        }
    }

    /// The next key that is ready, or when to look again.
    fn take(&mut self) -> Result<K, Option<Instant>> {
        let now = Instant::now();
        while let Some(entry) = self.later.first_entry().filter(|entry| *entry.key() <= now) {
            for key in entry.remove() {
                self.due.remove(&key);
                self.add(key);
            }
        }
        let Some(key) = self.ready.pop_front() else {
            return Err(self.later.first_key_value().map(|(at, _)| *at));
        };
        self.dirty.remove(&key);
        self.running.insert(key.clone());
        Ok(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_key_waits_once_and_never_runs_twice_at_the_same_time() {
        let queue = Queue::new();
        queue.add("a");
        queue.add("a");
        assert_eq!(queue.next().await, "a");
        queue.add("a");
        queue.add("b");
        assert_eq!(queue.next().await, "b");
        queue.done(&"a");
        assert_eq!(queue.next().await, "a");
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_that_is_to_come_twice_comes_once_at_the_earlier_time() {
        let (queue, before) = (Queue::new(), Instant::now());
        for seconds in [20, 10, 30] {
            queue.add_after("a", Duration::from_secs(seconds));
        }
        queue.add_after("b", Duration::from_secs(60));
        for (key, seconds) in [("a", 10), ("b", 60)] {
            assert_eq!(queue.next().await, key);
            queue.done(&key);
            assert_eq!(before.elapsed().as_secs(), seconds);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn failures_double_the_delay_until_they_are_forgotten() {
        let queue = Queue::new();
        for expected in [5, 10, 20] {
            let before = Instant::now();
            queue.retry("a");
            queue.next().await;
            queue.done(&"a");
            assert_eq!(before.elapsed().as_millis(), expected);
        }
        queue.forget(&"a");
        let before = Instant::now();
        queue.retry("a");
        queue.next().await;
        assert_eq!(before.elapsed().as_millis(), 5);
    }
}
