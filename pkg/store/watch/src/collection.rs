//! `Collection`: the objects of one resource, to read, watch and change.

use std::sync::Arc;

use bytes::Bytes;
use edgek_api::object::{self, Meta};
use edgek_api::resource::Resource;
use edgek_store_log::{Change, CommitError, Conflict, Error, Op};
use tokio::sync::oneshot;

use crate::cache::Cache;
use crate::{List, ListOptions, Object, ReadError, Revision, Watch, WatchOptions, WriteError};

/// The objects of one resource. Clones share them.
#[derive(Debug, Clone)]
pub struct Collection(pub(crate) Arc<Cache>);

/// A change on its way through the log.
struct Write {
    key: Arc<str>,
    /// The new object; `None` to delete.
    object: Option<(Bytes, Meta)>,
}

impl Collection {
    /// The resource under which the objects are stored.
    pub fn resource(&self) -> &Arc<Resource> {
        self.0.resource()
    }

    /// How many objects there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many watches run.
    pub fn watchers(&self) -> usize {
        self.0.watchers()
    }

    /// One object; `namespace` is empty for cluster-scoped resources. It includes every acknowledged write.
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<Object>> {
        self.0.get(&key(namespace, name))
    }

    /// Refuses a `resourceVersion` from the future, for reads that must not be older than it.
    ///
    /// # Errors
    /// [`ReadError::TooLarge`].
    pub fn check_revision(&self, not_older_than: Revision) -> Result<(), ReadError> {
        self.0.read(|_, current| crate::list::check(Some(not_older_than), current))
    }

    /// A list, or a page of one.
    ///
    /// # Errors
    /// [`ReadError`], each with its upstream text.
    pub fn list(&self, options: &ListOptions) -> Result<List, ReadError> {
        self.0.list(options)
    }

    /// Starts a watch.
    ///
    /// # Errors
    /// [`ReadError::TooOld`] and [`ReadError::TooLarge`]; upstream sends them as an event of type ERROR, not as the
    /// response's status.
    pub fn watch(&self, options: WatchOptions) -> Result<Watch, ReadError> {
        self.0.watch(options)
    }

    /// Creates the encoded object under the name and namespace in its metadata.
    ///
    /// # Errors
    /// [`WriteError::Exists`] with the object that is in the way.
    pub async fn create(&self, bytes: Bytes) -> Result<Arc<Object>, WriteError> {
        let meta = Meta::parse(&bytes, self.resource())?;
        let key = key(&meta.namespace, &meta.name);
        if let Some(current) = self.0.get(&key) {
            return Err(WriteError::Exists(current));
        }
        let write = Write { key: key.into(), object: Some((bytes.clone(), meta)) };
        self.commit(Change::Create(bytes), write).await.map_err(|error| match error {
            WriteError::Changed(current) => WriteError::Exists(current),
            error => error,
        })
    }

    /// Replaces the object of that name and namespace, which must be at `expected`. Bytes that change nothing are not
    /// written, and the revision stays.
    ///
    /// # Errors
    /// [`WriteError::Changed`] with the current object, [`WriteError::Missing`] when there is none.
    pub async fn update(&self, bytes: Bytes, expected: Revision) -> Result<Arc<Object>, WriteError> {
        let meta = Meta::parse(&bytes, self.resource())?;
        let key = key(&meta.namespace, &meta.name);
        let current = self.expect(&key, expected)?;
        if object::stamp_revision(&bytes, expected.0) == *current.bytes() {
            return Ok(current);
        }
        let change = Change::Update { value: bytes.clone(), expected };
        self.commit(change, Write { key: key.into(), object: Some((bytes, meta)) }).await
    }

    /// Deletes an object, which must be at `expected`. Returns its last state with the revision of the deletion.
    ///
    /// # Errors
    /// [`WriteError::Changed`] with the current object, [`WriteError::Missing`] when there is none.
    pub async fn delete(
        &self,
        namespace: &str,
        name: &str,
        expected: Revision,
    ) -> Result<Arc<Object>, WriteError> {
        let key = key(namespace, name);
        self.expect(&key, expected)?;
        self.commit(Change::Delete { expected }, Write { key: key.into(), object: None }).await
    }

    /// Spares the log a change that must fail: the cache knows every acknowledged one.
    fn expect(&self, key: &str, expected: Revision) -> Result<Arc<Object>, WriteError> {
        let current = self.0.get(key).ok_or(WriteError::Missing)?;
        if current.revision() == expected { Ok(current) } else { Err(WriteError::Changed(current)) }
    }

    async fn commit(&self, change: Change, write: Write) -> Result<Arc<Object>, WriteError> {
        let (sender, outcome) = oneshot::channel();
        let key = format!("{}{}", self.0.prefix(), write.key).into();
        let op = Op { key, change, durability: self.0.durability() };
        let cache = self.0.clone();
        let done = move |committed| {
            // Published even when the caller has gone: the change is committed.
            let _ = sender.send(write.settle(&cache, committed));
        };
        self.0.log().submit(op, Box::new(done)).await;
        outcome.await.unwrap_or(Err(WriteError::Failed(Error::Closed)))
    }
}

impl Write {
    /// Publishes the change if it was committed. Runs on the log's thread, in revision order.
    fn settle(
        self,
        cache: &Cache,
        committed: Result<Revision, CommitError>,
    ) -> Result<Arc<Object>, WriteError> {
        let Self { key, object } = self;
        match committed {
            Ok(revision) => {
                let after = object.map(|(bytes, meta)| Object::stamped(&bytes, revision, meta));
                let change = cache.publish(key, revision, after);
                let frame = change.after.as_ref().or_else(|| change.gone());
                frame.map(|frame| frame.object().clone()).ok_or(WriteError::Missing)
            }
            Err(CommitError::Conflict(Conflict::Exists { .. })) => match cache.get(&key) {
                Some(current) => Err(WriteError::Changed(current)),
                None => Err(WriteError::Missing),
            },
            Err(CommitError::Conflict(Conflict::Missing)) => Err(WriteError::Missing),
            Err(CommitError::Failed(error)) => Err(WriteError::Failed(error)),
        }
    }
}

fn key(namespace: &str, name: &str) -> String {
    if namespace.is_empty() { name.to_owned() } else { format!("{namespace}/{name}") }
}
