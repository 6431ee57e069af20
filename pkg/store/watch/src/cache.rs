//! `Cache`: the objects of one resource, their history and their watchers, behind one lock. Writes come from the log's
//! thread only, in revision order over all caches of a store.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use edgek_api::resource::Resource;
use edgek_store_log::{Durability, Log};
use parking_lot::{Mutex, RwLock};
use tokio::time::Instant;

use crate::history::{Change, History};
use crate::list::{self, Objects};
use crate::watch::{Backlog, Mark, Watchers, bookmark};
use crate::{
    Bookmarks, Filter, List, ListOptions, Object, ReadError, Revision, Start, Watch, WatchEvent,
    WatchOptions, Window,
};

/// How often all histories of a store are looked through for what is too old.
const TRIM_EVERY: Duration = Duration::from_secs(60);

/// What the caches of a store share.
pub(crate) struct Core {
    pub(crate) log: Arc<dyn Log>,
    pub(crate) window: Window,
    /// All changes up to this revision are in the caches.
    current: AtomicU64,
    /// For trimming.
    caches: Mutex<Trimmed>,
}

#[derive(Default)]
struct Trimmed {
    caches: Vec<Weak<Cache>>,
    at: Option<Instant>,
    /// Which revision was the last one when, as far back as the window reaches.
    revisions: VecDeque<(Instant, Revision)>,
}

pub(crate) struct Cache {
    resource: Arc<Resource>,
    prefix: String,
    durability: Durability,
    core: Arc<Core>,
    state: RwLock<State>,
}

pub(crate) struct State {
    objects: Objects,
    history: History,
    watchers: Watchers,
}

impl Core {
    pub(crate) fn new(log: Arc<dyn Log>, window: Window) -> Arc<Self> {
        let current = AtomicU64::new(log.revision().0);
        Arc::new(Self { log, window, current, caches: Mutex::default() })
    }

    pub(crate) fn revision(&self) -> Revision {
        Revision(self.current.load(Ordering::Acquire))
    }

    /// Leases and events come all the time and heal by themselves; the disk sees them later (design D3).
    fn durability(resource: &Resource) -> Durability {
        match (&*resource.group, &*resource.plural) {
            ("coordination.k8s.io", "leases") | ("" | "events.k8s.io", "events") => Durability::Lazy,
            _ => Durability::Durable,
        }
    }

    /// Forgets old history everywhere. Changes come often enough (heartbeats) to do without a timer.
    fn trim(&self, now: Instant) {
        let mut trimmed = self.caches.lock();
        if now - *trimmed.at.get_or_insert(now) < TRIM_EVERY {
            return;
        }
        trimmed.at = Some(now);
        trimmed.revisions.push_back((now, self.revision()));
        let old = trimmed.revisions.partition_point(|(at, _)| now - *at >= self.window.age);
        let compacted = trimmed.revisions.drain(..old).next_back().map(|(_, revision)| revision);
        trimmed.caches.retain(|cache| {
            let cache = cache.upgrade();
            cache.inspect(|cache| cache.state.write().history.compact(now, compacted)).is_some()
        });
    }
}

impl Cache {
    /// A cache with the objects found at start.
    pub(crate) fn new(
        core: &Arc<Core>,
        resource: Arc<Resource>,
        prefix: String,
        objects: Objects,
    ) -> Arc<Self> {
        let history = History::new(core.window, core.revision());
        let state = RwLock::new(State { objects, history, watchers: Watchers::default() });
        let durability = Core::durability(&resource);
        let cache = Arc::new(Self { resource, prefix, durability, core: core.clone(), state });
        core.caches.lock().caches.push(Arc::downgrade(&cache));
        cache
    }

    pub(crate) fn resource(&self) -> &Arc<Resource> {
        &self.resource
    }

    pub(crate) fn prefix(&self) -> &str {
        &self.prefix
    }

    pub(crate) fn durability(&self) -> Durability {
        self.durability
    }

    pub(crate) fn log(&self) -> &Arc<dyn Log> {
        &self.core.log
    }

    pub(crate) fn get(&self, key: &str) -> Option<Arc<Object>> {
        self.state.read().objects.get(key).map(|kept| kept.object.clone())
    }

    pub(crate) fn len(&self) -> usize {
        self.state.read().objects.len()
    }

    pub(crate) fn watchers(&self) -> usize {
        self.state.read().watchers.len()
    }

    /// Reads the state, which holds all changes up to the revision that is passed, and none after it.
    pub(crate) fn read<R>(&self, read: impl FnOnce(&State, Revision) -> R) -> R {
        let state = self.state.read();
        let current = self.core.revision();
        read(&state, current)
    }

    pub(crate) fn list(&self, options: &ListOptions) -> Result<List, ReadError> {
        self.read(|state, current| {
            list::read(&state.objects, &state.history, options, current, &self.resource)
        })
    }

    /// Puts a committed change into the cache and hands it to the watchers. `after` is `None` for a deletion.
    pub(crate) fn publish(
        &self,
        key: Arc<str>,
        revision: Revision,
        after: Option<Arc<Object>>,
    ) -> Arc<Change> {
        let now = Instant::now();
        let mut state = self.state.write();
        let before = match &after {
            Some(object) => state.objects.insert(key.clone(), object.clone().into()),
            None => state.objects.remove(&key),
        };
        let before = before.map(|kept| kept.object);
        let change = Arc::new(Change::new(key, revision, before, after, now));
        state.history.push(change.clone());
        state.watchers.publish(&change, &self.resource, now);
        // Still under the lock: who holds it sees a state and its revision.
        self.core.current.store(revision.0, Ordering::Release);
        drop(state);
        self.core.trim(now);
        change
    }

    pub(crate) fn watch(self: &Arc<Self>, options: WatchOptions) -> Result<Watch, ReadError> {
        let WatchOptions { filter, start, bookmarks } = options;
        let mut state = self.state.write();
        let current = self.core.revision();
        let (backlog, sent) = state.backlog(&filter, start, current, &self.resource)?;
        let backlog = match (backlog, start, bookmarks) {
            (Backlog::Objects(objects, _), Start::InitialEvents { .. }, Bookmarks::Allowed) => {
                let end = bookmark(&self.resource, current, Mark::InitialEventsEnd);
                Backlog::Objects(objects, Some(end))
            }
            (backlog, ..) => backlog,
        };
        let (id, queue) = state.watchers.add(filter, bookmarks);
        drop(state);
        Ok(Watch::new(self.clone(), id, backlog, queue, sent))
    }

    pub(crate) fn forget_watcher(&self, id: u64) {
        self.state.write().watchers.remove(id);
    }

    pub(crate) fn end_watches(&self) {
        self.state.write().watchers.clear();
    }
}

impl State {
    /// The events that a watch starts with, and the revision up to which its reader then knows everything.
    fn backlog(
        &self,
        filter: &Filter,
        start: Start,
        current: Revision,
        resource: &Resource,
    ) -> Result<(Backlog, Revision), ReadError> {
        match start {
            Start::Now => Ok((Backlog::Changes(Vec::new().into_iter()), current)),
            Start::Objects => Ok((self.select(filter, resource), current)),
            Start::InitialEvents { not_older_than } => {
                list::check(Some(not_older_than), current)?;
                Ok((self.select(filter, resource), current))
            }
            Start::After(requested) => {
                list::check(Some(requested), current)?;
                let too_old = ReadError::TooOld { requested, oldest: self.history.floor() };
                let changes = self.history.after(requested).ok_or(too_old)?;
                let events: Vec<_> = changes.filter_map(|change| WatchEvent::seen(change, filter)).collect();
                Ok((Backlog::Changes(events.into_iter()), requested))
            }
        }
    }

    fn select(&self, filter: &Filter, resource: &Resource) -> Backlog {
        let nothing = list::Undone::new();
        let objects = list::select(&self.objects, &nothing, filter, resource, "");
        let objects: Vec<_> = objects.map(|(_, object)| object.clone()).collect();
        Backlog::Objects(objects.into_iter(), None)
    }
}

impl std::fmt::Debug for Cache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cache")
            .field("prefix", &self.prefix)
            .field("objects", &self.len())
            .finish_non_exhaustive()
    }
}

/// Rows found at start, by key.
pub(crate) type Rows = BTreeMap<Box<str>, (Revision, bytes::Bytes)>;
