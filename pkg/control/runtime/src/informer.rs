//! `Informer`: the objects of one resource as they are now, and who must know when they change.

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use edgek_base_lifecycle::{Backoff, Scope};
use edgek_client::{Api, Error, Event, EventKind, ListQuery, WatchQuery};
use parking_lot::RwLock;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{debug, warn};

/// Between two attempts to watch.
const LONGEST_DELAY: Duration = Duration::from_secs(30);

/// An object by namespace (empty when it has none) and name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Key {
    /// The namespace; empty for cluster resources.
    pub namespace: String,
    /// The name.
    pub name: String,
}

impl Key {
    /// The key of these two.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.namespace.is_empty() {
            f.write_str(&self.name)
        } else {
            write!(f, "{}/{}", self.namespace, self.name)
        }
    }
}

/// An object as the informer keeps it: its bytes, and what indexes need of it.
#[derive(Debug, Clone, Default)]
pub struct Item {
    /// Where it is.
    pub key: Key,
    /// `metadata.uid`.
    pub uid: String,
    /// `metadata.resourceVersion`.
    pub resource_version: String,
    /// `metadata.labels`.
    pub labels: BTreeMap<String, String>,
    /// The uid of the owner that manages it; empty when there is none.
    pub controller: String,
    /// The object in JSON.
    pub bytes: Bytes,
}

impl Item {
    /// The object in its type; `None` when it is not of that type.
    pub fn decode<K: DeserializeOwned>(&self) -> Option<K> {
        serde_json::from_slice(&self.bytes).ok()
    }
}

#[derive(Deserialize)]
struct Object {
    metadata: Metadata,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Metadata {
    name: String,
    namespace: String,
    uid: String,
    resource_version: String,
    labels: BTreeMap<String, String>,
    owner_references: Vec<Owner>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Owner {
    uid: String,
    controller: bool,
}

impl Item {
    /// What an informer of this kind keeps of it.
    fn kept(self: &Arc<Self>, keep: Keep) -> Arc<Self> {
        match keep {
            Keep::Objects => self.clone(),
            Keep::Identities => Arc::new(Self {
                key: self.key.clone(),
                uid: self.uid.clone(),
                resource_version: self.resource_version.clone(),
                ..Self::default()
            }),
        }
    }

    fn parse(bytes: Bytes) -> Result<Self, Error> {
        let Object { metadata } = serde_json::from_slice(&bytes).map_err(Error::Decode)?;
        let controller = metadata.owner_references.into_iter().find(|owner| owner.controller);
        Ok(Self {
            key: Key { namespace: metadata.namespace, name: metadata.name },
            uid: metadata.uid,
            resource_version: metadata.resource_version,
            labels: metadata.labels,
            controller: controller.map(|owner| owner.uid).unwrap_or_default(),
            bytes,
        })
    }
}

/// A change of one object. `old` is `None` when it is new, `new` when it is gone.
#[derive(Debug, Clone, Copy)]
pub struct Change<'a> {
    /// As it was.
    pub old: Option<&'a Item>,
    /// As it is.
    pub new: Option<&'a Item>,
}

impl Change<'_> {
    /// The object's key.
    pub fn key(&self) -> Key {
        self.new.or(self.old).map(|item| item.key.clone()).unwrap_or_default()
    }
}

type Handler = Box<dyn Fn(Change<'_>) + Send + Sync>;

/// The objects of one resource. Clones share them.
pub struct Informer<K> {
    shared: Arc<Shared>,
    kind: PhantomData<fn() -> K>,
}

impl<K> Clone for Informer<K> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone(), kind: PhantomData }
    }
}

/// What stays in memory of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Keep {
    Objects,
    Identities,
}

struct Shared {
    keep: Keep,
    items: RwLock<BTreeMap<Key, Arc<Item>>>,
    handlers: RwLock<Vec<Handler>>,
    synced: watch::Sender<bool>,
    /// The revision up to which the items show everything.
    revision: watch::Sender<u64>,
}

impl<K: DeserializeOwned + 'static> Informer<K> {
    /// Begins to follow the objects that match `query`, until the scope ends.
    pub fn start(scope: &Scope, api: Api<K>, query: ListQuery) -> Self {
        Self::begin(scope, api, query, Keep::Objects, Vec::new())
    }

    /// Like [`Self::start`] for many objects of which only the metadata matters, and only while `handler` (see
    /// [`Self::on_change`]) runs: what is kept is keys, uids and revisions. So is what the handler sees as old.
    pub fn start_on_metadata(
        scope: &Scope,
        api: Api<K>,
        query: ListQuery,
        handler: impl Fn(Change<'_>) + Send + Sync + 'static,
    ) -> Self {
        Self::begin(scope, api.metadata_only(), query, Keep::Identities, vec![Box::new(handler)])
    }

    fn begin(scope: &Scope, api: Api<K>, query: ListQuery, keep: Keep, handlers: Vec<Handler>) -> Self {
        let shared = Arc::new(Shared {
            keep,
            items: RwLock::default(),
            handlers: RwLock::new(handlers),
            synced: watch::Sender::new(false),
            revision: watch::Sender::new(0),
        });
        let follower = Follower { api, query, shared: shared.clone(), revision: String::new() };
        scope.spawn("informer", follower.run());
        Self { shared, kind: PhantomData }
    }

    /// Waits until the first list is complete.
    pub async fn synced(&self) {
        // The sender lives in `shared`, so waiting cannot fail.
        let _ = self.shared.synced.subscribe().wait_for(|synced| *synced).await;
    }

    /// Waits until the objects are shown as they were at a revision or later, such as the one that a write gave.
    pub async fn reached(&self, revision: &str) {
        let Ok(revision) = revision.parse::<u64>() else { return };
        // The sender lives in `shared`, so waiting cannot fail.
        let _ = self.shared.revision.subscribe().wait_for(|reached| *reached >= revision).await;
    }

    /// Calls `handler` for every object there is and for every change from now on. It runs inside the informer's own
    /// task: it must be quick and never wait; usually it adds keys to a queue.
    pub fn on_change(&self, handler: impl Fn(Change<'_>) + Send + Sync + 'static) {
        let mut handlers = self.shared.handlers.write();
        for item in self.shared.items.read().values() {
            handler(Change { old: None, new: Some(item) });
        }
        handlers.push(Box::new(handler));
    }

    /// The object at this key, as it is kept.
    pub fn item(&self, key: &Key) -> Option<Arc<Item>> {
        self.shared.items.read().get(key).cloned()
    }

    /// The object at this key.
    pub fn get(&self, key: &Key) -> Option<K> {
        self.item(key)?.decode()
    }

    /// The objects as they are kept, of one namespace or (empty) of all.
    pub fn items(&self, namespace: &str) -> Vec<Arc<Item>> {
        let items = self.shared.items.read();
        if namespace.is_empty() {
            return items.values().cloned().collect();
        }
        let first = Key::new(namespace, "");
        let of_namespace = items.range(first..).take_while(|(key, _)| key.namespace == namespace);
        of_namespace.map(|(_, item)| item.clone()).collect()
    }

    /// The objects of a namespace (empty: all) that `select` picks.
    pub fn select(&self, namespace: &str, select: impl Fn(&Item) -> bool) -> Vec<K> {
        self.items(namespace).iter().filter(|item| select(item)).filter_map(|item| item.decode()).collect()
    }

    /// The objects of a namespace (empty: all).
    pub fn list(&self, namespace: &str) -> Vec<K> {
        self.select(namespace, |_| true)
    }
}

struct Follower<K> {
    api: Api<K>,
    query: ListQuery,
    shared: Arc<Shared>,
    /// Of the last event; empty before the first list and after it has expired.
    revision: String,
}

impl<K> Follower<K> {
    /// However a watch ends, the next one waits; one that delivered something or lasted was fine, so only a server
    /// that gives nothing is asked ever less often.
    async fn run(mut self) {
        let mut backoff = Backoff::new(Duration::from_millis(100), LONGEST_DELAY);
        loop {
            let began = Instant::now();
            match self.follow(&mut backoff).await {
                Ok(()) => debug!(resource = %self.api.resource().plural, "the server ended the watch"),
                Err(error) if error.is_expired() => {
                    debug!(resource = %self.api.resource().plural, "history is gone; listing again");
                    self.revision.clear();
                }
                Err(error) => {
                    warn!(resource = %self.api.resource().plural, %error, "watching failed; it will be tried again");
                }
            }
            if began.elapsed() > LONGEST_DELAY {
                backoff.reset();
            }
            backoff.wait().await;
        }
    }

    async fn follow(&mut self, backoff: &mut Backoff) -> Result<(), Error> {
        if self.revision.is_empty() {
            self.list().await?;
        }
        let query = WatchQuery {
            labels: self.query.labels.clone(),
            fields: self.query.fields.clone(),
            resource_version: self.revision.clone(),
            initial: false,
        };
        let mut watch = self.api.watch(&query).await?;
        while let Some(event) = watch.next().await? {
            self.apply(event)?;
            backoff.reset();
        }
        Ok(())
    }

    async fn list(&mut self) -> Result<(), Error> {
        let (items, revision) = self.api.list_bytes(&self.query).await?;
        let mut fresh = BTreeMap::new();
        for bytes in items {
            let item = Item::parse(bytes)?;
            fresh.insert(item.key.clone(), Arc::new(item));
        }
        let kept = fresh.iter().map(|(key, item)| (key.clone(), item.kept(self.shared.keep))).collect();
        let old = std::mem::replace(&mut *self.shared.items.write(), kept);
        for (key, new) in &fresh {
            let old = old.get(key);
            if old.is_none_or(|old| old.resource_version != new.resource_version) {
                self.tell(Change { old: old.map(|item| &**item), new: Some(new) });
            }
        }
        for (_, gone) in old.iter().filter(|(key, _)| !fresh.contains_key(key)) {
            self.tell(Change { old: Some(gone), new: None });
        }
        self.revision = revision;
        self.shared.synced.send_replace(true);
        self.reach();
        Ok(())
    }

    fn apply(&mut self, event: Event) -> Result<(), Error> {
        let item = Arc::new(Item::parse(event.object)?);
        self.revision.clone_from(&item.resource_version);
        let key = item.key.clone();
        match event.kind {
            EventKind::Added | EventKind::Modified => {
                let old = self.shared.items.write().insert(key, item.kept(self.shared.keep));
                self.tell(Change { old: old.as_deref(), new: Some(&item) });
            }
            EventKind::Deleted => {
                self.shared.items.write().remove(&key);
                self.tell(Change { old: Some(&item), new: None });
            }
            EventKind::Bookmark | EventKind::Error => {}
        }
        self.reach();
        Ok(())
    }

    /// Tells those who wait for this revision.
    fn reach(&self) {
        if let Ok(revision) = self.revision.parse() {
            self.shared.revision.send_replace(revision);
        }
    }

    fn tell(&self, change: Change<'_>) {
        for handler in self.shared.handlers.read().iter() {
            handler(change);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use edgek_client::{Body, Client};
    use http::{Request, Response};
    use http_body_util::{BodyExt as _, Full};
    use k8s_openapi::api::core::v1::Pod;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// A server whose lists are empty and whose watches give `events` and end at once. It counts the requests, and
    /// after a thousand it answers no more.
    fn server(events: &'static str) -> (Client, Arc<AtomicUsize>) {
        let requests = Arc::new(AtomicUsize::new(0));
        let count = requests.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let number = count.fetch_add(1, Ordering::Relaxed);
            async move {
                if number > 1000 {
                    std::future::pending::<()>().await;
                }
                let watch = request.uri().query().is_some_and(|query| query.contains("watch=true"));
                let body = if watch { events } else { r#"{"metadata":{"resourceVersion":"1"},"items":[]}"# };
                let body = Full::new(Bytes::from(body)).map_err(|never| match never {}).boxed_unsync();
                Ok::<_, edgek_client::BoxError>(Response::new(body))
            }
        });
        (Client::new(service), requests)
    }

    /// How often a server is asked in ten minutes.
    async fn requests_in_ten_minutes(events: &'static str) -> usize {
        let (client, requests) = server(events);
        let scope = Scope::root();
        let _informer = Informer::<Pod>::start(&scope, client.all(), ListQuery::default());
        edgek_base_lifecycle::sleep(Duration::from_secs(600)).await;
        requests.load(Ordering::Relaxed)
    }

    #[tokio::test(start_paused = true)]
    async fn watches_that_end_at_once_are_begun_ever_less_often() {
        let requests = requests_in_ten_minutes("").await;
        assert!((15..40).contains(&requests), "{requests} requests");
    }

    #[tokio::test(start_paused = true)]
    async fn history_that_is_always_gone_is_listed_ever_less_often() {
        let gone = "{\"type\":\"ERROR\",\"object\":{\"code\":410,\"reason\":\"Expired\"}}\n";
        let requests = requests_in_ten_minutes(gone).await;
        assert!((30..80).contains(&requests), "{requests} requests");
    }

    #[tokio::test(start_paused = true)]
    async fn a_revision_is_reached_when_its_event_was_seen() {
        let event =
            "{\"type\":\"ADDED\",\"object\":{\"metadata\":{\"name\":\"p\",\"resourceVersion\":\"7\"}}}\n";
        let (client, _) = server(event);
        let scope = Scope::root();
        let informer = Informer::<Pod>::start(&scope, client.all(), ListQuery::default());
        informer.reached("7").await;
        assert!(informer.item(&Key::new("", "p")).is_some());
        let later = tokio::time::timeout(Duration::from_secs(60), informer.reached("8")).await;
        assert!(later.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn an_informer_on_metadata_asks_for_it_shows_it_and_keeps_identities() {
        let service = tower::service_fn(|request: Request<Body>| async move {
            let accept = request.headers()[http::header::ACCEPT].to_str().unwrap_or_default();
            assert_eq!(accept, "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1");
            if request.uri().query().is_some_and(|query| query.contains("watch=true")) {
                std::future::pending::<()>().await;
            }
            let item = r#"{"metadata":{"name":"p","uid":"u","resourceVersion":"7","labels":{"a":"b"}}}"#;
            let body = format!(r#"{{"metadata":{{"resourceVersion":"7"}},"items":[{item}]}}"#);
            let body = Full::new(Bytes::from(body)).map_err(|never| match never {}).boxed_unsync();
            Ok::<_, edgek_client::BoxError>(Response::new(body))
        });
        let (scope, seen) = (Scope::root(), Arc::new(RwLock::new(Vec::new())));
        let told = seen.clone();
        let handler = move |change: Change<'_>| told.write().extend(change.new.cloned());
        let pods = Client::new(service).all::<Pod>();
        let informer = Informer::start_on_metadata(&scope, pods, ListQuery::default(), handler);
        informer.synced().await;
        assert_eq!(seen.read()[0].decode::<Pod>().unwrap().metadata.labels.unwrap()["a"], "b");
        let kept = informer.item(&Key::new("", "p")).unwrap();
        assert_eq!((&*kept.uid, &*kept.resource_version, kept.bytes.len()), ("u", "7", 0));
    }
}
