//! `Storage`: where the objects of a resource are in the store.

use std::sync::Arc;

use bytes::Bytes;
use edgek_api::resource::{Catalog, Resource};
use edgek_apiserver_admission::Lookup;
use edgek_store_watch::{Collection, Filter, ListOptions, Object, Revision, Store, WriteError};
use serde_json::Value;

use crate::attempt::Key;
use crate::error::Error;

/// The collections of a store, by resource.
#[derive(Clone)]
pub(crate) struct Storage {
    store: Arc<Store>,
    catalog: &'static Catalog,
}

impl Storage {
    pub(crate) fn new(store: Arc<Store>, catalog: &'static Catalog) -> Self {
        Self { store, catalog }
    }

    pub(crate) fn cached(&self) -> Cached {
        Cached(self.clone())
    }

    /// The resource under which the objects of a resource are stored: most often itself.
    pub(crate) fn stored<'a>(&'a self, resource: &'a Arc<Resource>) -> &'a Arc<Resource> {
        self.catalog.stored(resource)
    }

    /// The collection that holds the objects of a resource.
    pub(crate) fn collection(&self, resource: &Arc<Resource>) -> Option<Collection> {
        self.store.collection(self.stored(resource))
    }

    fn of(&self, key: &Key<'_>) -> Result<Collection, WriteError> {
        self.collection(key.resource).ok_or(WriteError::Missing)
    }

    pub(crate) fn get(&self, key: &Key<'_>) -> Option<Arc<Object>> {
        self.collection(key.resource)?.get(key.namespace, key.name)
    }

    pub(crate) async fn create(&self, key: &Key<'_>, bytes: Bytes) -> Result<Arc<Object>, WriteError> {
        self.of(key)?.create(bytes).await
    }

    pub(crate) async fn update(
        &self,
        key: &Key<'_>,
        expected: Revision,
        bytes: Bytes,
    ) -> Result<Arc<Object>, WriteError> {
        self.of(key)?.update(bytes, expected).await
    }

    pub(crate) async fn delete(&self, key: &Key<'_>, expected: Revision) -> Result<Arc<Object>, WriteError> {
        self.of(key)?.delete(key.namespace, key.name, expected).await
    }

    /// The decoded objects of a built-in resource, in one namespace or (empty) in all.
    pub(crate) fn all(&self, group: &str, plural: &str, namespace: &str) -> Vec<Value> {
        let Some(resource) = self.builtin(group, plural) else { return Vec::new() };
        let filter = Filter { namespace: namespace.into(), ..Filter::default() };
        let options = ListOptions { filter, ..ListOptions::default() };
        let list = self.collection(resource).and_then(|collection| collection.list(&options).ok());
        list.into_iter()
            .flat_map(|list| list.items)
            .filter_map(|object| serde_json::from_slice(object.bytes()).ok())
            .collect()
    }

    /// A built-in resource by group and plural, whatever its version.
    pub(crate) fn builtin(&self, group: &str, plural: &str) -> Option<&'static Arc<Resource>> {
        let v1 = self.catalog.find(group, "v1", plural);
        v1.or_else(|| {
            self.catalog.iter().find(|resource| resource.group == group && resource.plural == plural)
        })
    }
}

/// The current state of objects, for plugins.
#[derive(Clone)]
pub struct Cached(Storage);

impl Lookup for Cached {
    fn get(&self, group: &str, resource: &str, namespace: &str, name: &str) -> Option<Value> {
        let resource = self.0.builtin(group, resource)?;
        let object = self.0.get(&Key { resource, namespace, name })?;
        serde_json::from_slice(object.bytes()).ok()
    }

    fn list(&self, group: &str, resource: &str, namespace: &str) -> Vec<Value> {
        self.0.all(group, resource, namespace)
    }
}

/// A write that the store could not do for reasons of its own.
pub(crate) fn failed(error: WriteError) -> Error {
    match error {
        WriteError::Failed(error) => Error::Unavailable(format!("the store cannot take the write: {error}")),
        other => Error::Internal(other.to_string()),
    }
}
