//! `Store`: all collections over one log.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use edgek_api::object::Meta;
use edgek_api::resource::Resource;
use edgek_store_log::{Error, Log, Row};
use parking_lot::RwLock;

use crate::cache::{Cache, Core, Rows};
use crate::list::Objects;
use crate::{Collection, Object, OpenError, Revision, Window};

/// All collections over one log. Clones share them.
#[derive(Clone)]
pub struct Store {
    core: Arc<Core>,
    collections: Arc<RwLock<Collections>>,
}

struct Collections {
    /// By the prefix of their keys.
    caches: BTreeMap<String, Arc<Cache>>,
    /// Objects of resources that are not known yet: custom ones, until their definition is read.
    unclaimed: Rows,
}

/// A resource and its objects, unsorted.
type Loading = (Arc<Resource>, Vec<(Arc<str>, Arc<Object>)>);

impl Store {
    /// Loads a log. Of `resources`, those under which objects are stored get a collection; custom ones can be added
    /// later. For the start: it may block the thread while it reads.
    ///
    /// # Errors
    /// When the log cannot be read, or holds what is not an object.
    pub async fn open(
        log: Arc<dyn Log>,
        resources: impl IntoIterator<Item = Arc<Resource>>,
        window: Window,
    ) -> Result<Self, OpenError> {
        let stored = |resource: &Arc<Resource>| resource.is_stored() && resource.stored_as.is_none();
        let mut loading: BTreeMap<String, Loading> = resources
            .into_iter()
            .filter(stored)
            .map(|resource| (prefix(&resource), (resource, Vec::new())))
            .collect();
        let mut unclaimed = Rows::new();
        let mut outcome = Ok(());
        let mut visit = |row: Row<'_>| {
            let bytes = Bytes::copy_from_slice(row.value);
            let below = loading.range_mut::<str, _>((Bound::Unbounded, Bound::Included(row.key))).next_back();
            match below.and_then(|(prefix, into)| Some((row.key.strip_prefix(prefix.as_str())?, into))) {
                None => drop(unclaimed.insert(row.key.into(), (row.revision, bytes))),
                Some((key, (resource, objects))) => match object(row.key, &bytes, row.revision, resource) {
                    Ok(object) => objects.push((key.into(), object)),
                    Err(error) => outcome = Err(error),
                },
            }
        };
        log.load(&mut visit).await?;
        outcome?;
        let core = Core::new(log, window);
        let caches = loading.into_iter().map(|(prefix, (resource, objects))| {
            let objects = objects.into_iter().map(|(key, object)| (key, object.into())).collect();
            (prefix.clone(), Cache::new(&core, resource, prefix, objects))
        });
        let collections = Collections { caches: caches.collect(), unclaimed };
        Ok(Self { core, collections: Arc::new(RwLock::new(collections)) })
    }

    /// The collection of a resource under which objects are stored.
    pub fn collection(&self, resource: &Resource) -> Option<Collection> {
        self.collections.read().caches.get(&prefix(resource)).cloned().map(Collection)
    }

    /// Adds the collection of a custom resource, with the objects that the log has of it; or gives the one it has.
    ///
    /// # Errors
    /// When the log has something under its keys that is not an object.
    pub fn add(&self, resource: Arc<Resource>) -> Result<Collection, OpenError> {
        let prefix = prefix(&resource);
        let mut collections = self.collections.write();
        if let Some(cache) = collections.caches.get(&prefix) {
            return Ok(Collection(cache.clone()));
        }
        let mut rest = collections.unclaimed.split_off(&*prefix);
        let mut objects = Objects::new();
        let mut others = Rows::new();
        while let Some((key, (revision, bytes))) = rest.pop_first() {
            let Some(short) = key.strip_prefix(&prefix) else {
                others.insert(key, (revision, bytes));
                others.append(&mut rest);
                break;
            };
            objects.insert(short.into(), object(&key, &bytes, revision, &resource)?.into());
        }
        collections.unclaimed.append(&mut others);
        let cache = Cache::new(&self.core, resource, prefix.clone(), objects);
        collections.caches.insert(prefix, cache.clone());
        Ok(Collection(cache))
    }

    /// Forgets the collection of a custom resource and ends its watches. Its objects should be deleted before.
    pub fn remove(&self, resource: &Resource) {
        if let Some(cache) = self.collections.write().caches.remove(&prefix(resource)) {
            cache.end_watches();
        }
    }

    /// The current revision.
    pub fn revision(&self) -> Revision {
        self.core.revision()
    }

    /// Ends all watches, then closes the log.
    ///
    /// # Errors
    /// When the log could not write what it still had in memory.
    pub async fn close(&self) -> Result<(), Error> {
        for cache in self.collections.read().caches.values() {
            cache.end_watches();
        }
        self.core.log.close().await
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("revision", &self.revision()).finish_non_exhaustive()
    }
}

/// What the keys of a resource's objects start with: `/registry/pods/`, `/registry/apps/deployments/`.
fn prefix(resource: &Resource) -> String {
    match &*resource.group {
        "" => format!("/registry/{}/", resource.plural),
        group => format!("/registry/{group}/{}/", resource.plural),
    }
}

fn object(
    key: &str,
    bytes: &Bytes,
    revision: Revision,
    resource: &Resource,
) -> Result<Arc<Object>, OpenError> {
    let meta =
        Meta::parse(bytes, resource).map_err(|source| OpenError::Object { key: key.to_owned(), source })?;
    Ok(Object::stamped(bytes, revision, meta))
}
