//! Random writers, watchers and lists at once, compared with the log of commits: a watch never misses or repeats an
//! event, and a list shows exactly the state at its revision.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;

use edgek_base_lifecycle::{Scope, Task};
use edgek_store_log::{Log, MemoryLog, Options, SqliteLog};
use edgek_store_watch::{
    At, Bookmarks, Collection, EventKind, Filter, ListOptions, Object, Revision, Start, Store, Watch,
    WatchOptions, WriteError,
};
use futures::StreamExt as _;
use parking_lot::Mutex;
use support::*;

const WRITERS: u64 = 4;
const WRITES: usize = 200;
const READERS: u64 = 4;
const READS: usize = 12;

/// Revision to the object after it, or the last state of a deleted one.
type Commits = BTreeMap<Revision, (Arc<Object>, Fate)>;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Fate {
    Lives,
    Dies,
}

/// xorshift64; a failing seed is printed by the assertion.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_memory() {
    for _ in 0..20 {
        run(Arc::new(MemoryLog::new())).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_sqlite() {
    for _ in 0..2 {
        let folder = tempfile::tempdir().unwrap();
        run(Arc::new(SqliteLog::open(folder.path(), Options::default()).unwrap())).await;
    }
}

async fn run(log: Arc<dyn Log>) {
    let seed = RandomState::new().build_hasher().finish() | 1;
    let store = store_over(log, ALL).await;
    let scope = Scope::root();
    let commits = Arc::new(Mutex::new(Commits::new()));
    let writers: Vec<Task> = (0..WRITERS)
        .map(|n| {
            scope.spawn(
                "writer",
                write(store.clone(), commits.clone(), Random(seed.rotate_left(n as u32 * 7))),
            )
        })
        .collect();
    let readers: Vec<Task<Vec<Reading>>> = (0..READERS)
        .map(|n| {
            scope.spawn(
                "reader",
                read(store.clone(), scope.clone(), Random(seed.rotate_left(31 + n as u32 * 7))),
            )
        })
        .collect();
    for writer in writers {
        writer.join().await.expect("a writer failed");
    }
    let mut readings = Vec::new();
    for reader in readers {
        readings.extend(reader.join().await.expect("a reader failed"));
    }
    store.close().await.unwrap();
    let commits = commits.lock().clone();
    assert!(commits.len() > 300, "only {} commits, seed {seed}", commits.len());
    for reading in readings {
        reading.verify(&commits, seed).await;
    }
}

async fn write(store: Store, commits: Arc<Mutex<Commits>>, mut random: Random) {
    let maps = config_maps(&store);
    for turn in 0..WRITES {
        let (namespace, name) = (["d", "e"][random.below(2) as usize], format!("{}", random.below(12)));
        let app = [Some("web"), Some("db"), None][random.below(3) as usize];
        let bytes =
            config_map(&format!("{namespace}/{name}"), &format!("{turn}-{}", random.below(1000)), app);
        let (outcome, fate) = match maps.get(namespace, &name) {
            None => (maps.create(bytes).await, Fate::Lives),
            Some(object) if random.below(4) == 0 => {
                (maps.delete(namespace, &name, object.revision()).await, Fate::Dies)
            }
            Some(object) => (maps.update(bytes, object.revision()).await, Fate::Lives),
        };
        match outcome {
            Ok(object) => {
                assert!(store.revision() >= object.revision(), "acknowledged before it was published");
                let twice = commits.lock().insert(object.revision(), (object, fate));
                assert!(twice.is_none(), "a revision was given out twice: {twice:?}");
            }
            Err(WriteError::Exists(_) | WriteError::Changed(_) | WriteError::Missing) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

/// What a reader asked for and got.
enum Reading {
    Watch { filter: Filter, start: Start, events: Task<Vec<(EventKind, Arc<Object>)>> },
    List { filter: Filter, revision: Revision, items: Vec<Arc<Object>> },
}

async fn read(store: Store, scope: Scope, mut random: Random) -> Vec<Reading> {
    let maps = config_maps(&store);
    let mut readings = Vec::new();
    for _ in 0..READS {
        let filter = [
            filter("", "", ""),
            filter("d", "", ""),
            filter("", "app=web", ""),
            filter("e", "app!=db", ""),
            filter("d", "", "metadata.name=3"),
            filter("", "app", "metadata.name!=3"),
        ][random.below(6) as usize]
            .clone();
        let past = Revision(random.below(store.revision().0 + 1));
        if random.below(2) == 0 {
            let start = [
                Start::After(past),
                Start::After(store.revision()),
                Start::InitialEvents { not_older_than: past },
            ][random.below(3) as usize];
            let options = WatchOptions { filter: filter.clone(), start, bookmarks: Bookmarks::Allowed };
            let watch = maps.watch(options).unwrap();
            readings.push(Reading::Watch { filter, start, events: scope.spawn("watcher", collect(watch)) });
        } else {
            let at = [At::Latest, At::Exact(past)][random.below(2) as usize];
            readings.push(pages(&maps, filter, at, random.below(5) as usize).await);
        }
        tokio::task::yield_now().await;
    }
    readings
}

async fn collect(watch: Watch) -> Vec<(EventKind, Arc<Object>)> {
    watch.map(|event| (event.kind, event.object().clone())).collect().await
}

async fn pages(maps: &Collection, filter: Filter, at: At, limit: usize) -> Reading {
    let mut options = ListOptions { filter, limit, token: String::new(), at };
    let first = maps.list(&options).unwrap();
    let (revision, mut items, mut token) = (first.revision, first.items, first.token);
    options.at = At::Latest;
    while let Some(next) = token {
        tokio::task::yield_now().await;
        options.token = next;
        let page = maps.list(&options).unwrap();
        assert_eq!(page.revision, revision);
        items.extend(page.items);
        token = page.token;
    }
    Reading::List { filter: options.filter, revision, items }
}

impl Reading {
    async fn verify(self, commits: &Commits, seed: u64) {
        match self {
            Self::List { filter, revision, items } => {
                assert_eq!(
                    items,
                    state(commits, &filter, revision),
                    "seed {seed}: list at {revision} of {filter:?}"
                );
            }
            Self::Watch { filter, start, events } => {
                let mut events = events.join().await.unwrap();
                let mut after = start_revision(start);
                if matches!(start, Start::InitialEvents { .. }) {
                    let end =
                        events.iter().position(|(kind, _)| *kind == EventKind::Bookmark).expect("the mark");
                    after = events[end].1.revision();
                    let initial: Vec<_> = events.drain(..=end).take(end).map(|(_, object)| object).collect();
                    assert_eq!(initial, state(commits, &filter, after), "seed {seed}: {filter:?} at {after}");
                }
                assert_eq!(events, changes(commits, &filter, after), "seed {seed}: {filter:?} after {after}");
            }
        }
    }
}

fn start_revision(start: Start) -> Revision {
    match start {
        Start::After(revision) => revision,
        _ => Revision(0),
    }
}

/// The state that the commits lead to, by key.
fn replay(commits: &Commits, upto: Revision) -> BTreeMap<String, Arc<Object>> {
    let mut state = BTreeMap::new();
    for (object, fate) in commits.range(..=upto).map(|(_, commit)| commit) {
        match fate {
            Fate::Lives => state.insert(key(object), object.clone()),
            Fate::Dies => state.remove(&key(object)),
        };
    }
    state
}

fn state(commits: &Commits, filter: &Filter, revision: Revision) -> Vec<Arc<Object>> {
    replay(commits, revision).into_values().filter(|object| filter.matches(object)).collect()
}

fn changes(commits: &Commits, filter: &Filter, after: Revision) -> Vec<(EventKind, Arc<Object>)> {
    let mut current = replay(commits, after);
    let mut events = Vec::new();
    for (object, fate) in commits.range(after.next()..).map(|(_, commit)| commit) {
        let before = current.remove(&key(object)).filter(|before| filter.matches(before));
        let matches = *fate == Fate::Lives && filter.matches(object);
        match (before, matches) {
            (None, true) => events.push((EventKind::Added, object.clone())),
            (Some(_), true) => events.push((EventKind::Modified, object.clone())),
            (Some(before), false) => events.push((EventKind::Deleted, at(&before, object.revision()))),
            (None, false) => {}
        }
        if *fate == Fate::Lives {
            current.insert(key(object), object.clone());
        }
    }
    events
}

/// The object with another revision.
fn at(object: &Object, revision: Revision) -> Arc<Object> {
    Object::stamped(object.bytes(), revision, object.meta().clone())
}
