//! What each kind means: one CRUD engine and one strategy per kind.
//!
//! `http` calls it with decoded objects and the [`Admission`](edgek_apiserver_admission::Admission) of an authorised
//! request, and gets the stored bytes back. Reads go straight to the cache. No error here knows a status code.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "tests"))]

mod attempt;
mod binding;
mod create;
mod delete;
mod error;
mod eviction;
mod expire;
mod kinds;
mod labels;
mod meta;
mod options;
mod part;
mod patch;
mod pod;
pub mod scale;
mod service_range;
mod storage;
mod strategy;
mod update;

pub use attempt::Key;
pub use delete::Deletion;
pub use error::{Error, Subject};
pub use options::{DeleteOptions, Propagation, check_dry_run, invalid_options};
pub use part::Part;
pub use patch::Patch;
pub use scale::ChangeScale;
pub use service_range::ServiceRange;
pub use storage::Cached;
pub use update::{Change, OPTIMISTIC_LOCK, Replace, Updated};

use std::sync::Arc;

use bytes::Bytes;
use edgek_api::convert;
use edgek_api::field::ErrorList;
use edgek_api::resource::{Catalog, Resource};
use edgek_api::schema::{Schema, complete};
use edgek_apiserver_admission::fields::Fields;
use edgek_apiserver_admission::{Admission, Operation};
use edgek_store_watch::{Collection, Object, Store};
use serde_json::Value;
use tokio::sync::{Mutex, MutexGuard, Notify};

use crate::service_range::Taken;
use crate::storage::Storage;
use crate::strategy::Strategy;

/// The engine behind every resource.
pub struct Registry {
    storage: Storage,
    schema: &'static Schema,
    services: ServiceRange,
    /// Services share addresses and node ports: their writes go one by one.
    service_writes: Mutex<()>,
    /// Wakes the task that lets events end.
    event_created: Notify,
}

/// An object as clients see it: canonical JSON with its resource version, unless it was created in a dry run.
#[derive(Debug, Clone)]
pub struct Stored(pub Bytes);

impl From<Arc<Object>> for Stored {
    fn from(object: Arc<Object>) -> Self {
        Self(object.bytes().clone())
    }
}

impl Registry {
    /// An engine over a store. Addresses and node ports of services come from `services`.
    pub fn new(
        store: Arc<Store>,
        catalog: &'static Catalog,
        schema: &'static Schema,
        services: ServiceRange,
    ) -> Self {
        Self {
            storage: Storage::new(store, catalog),
            schema,
            services,
            service_writes: Mutex::new(()),
            event_created: Notify::new(),
        }
    }

    /// The collection that holds the objects of a resource, for lists and watches.
    pub fn collection(&self, resource: &Arc<Resource>) -> Option<Collection> {
        self.storage.collection(resource)
    }

    /// What plugins look other objects up in.
    pub fn lookup(&self) -> Cached {
        self.storage.cached()
    }

    /// One object of the cache.
    pub fn get(&self, key: &Key<'_>) -> Option<Arc<Object>> {
        self.storage.get(key)
    }

    fn strategy(resource: &Resource) -> Strategy {
        Strategy::of(&resource.group, &resource.plural, resource.subresource("status").is_some())
    }

    /// A stored object, with its resource version.
    fn decode(object: &Object) -> Result<Value, Error> {
        serde_json::from_slice(object.bytes())
            .map_err(|error| Error::Internal(format!("the stored object is not JSON: {error}")))
    }

    /// A stored object, in the version in which it is stored.
    pub fn stored(bytes: &[u8]) -> Value {
        serde_json::from_slice(bytes).unwrap_or_default()
    }

    /// A stored object in the version that a resource serves.
    pub fn served(resource: &Resource, bytes: &[u8]) -> Value {
        Self::serve(resource, Self::stored(bytes))
    }

    /// Converts what is stored to the version that a resource serves.
    pub fn serve(resource: &Resource, object: Value) -> Value {
        if resource.stored_as.is_none() {
            return object;
        }
        // What is stored was valid in its own version; what the other one cannot say is shown as it is.
        convert::convert(object.clone(), resource).unwrap_or(object)
    }

    /// An object in the version in which a resource's objects are stored.
    fn to_stored(&self, resource: &Arc<Resource>, object: Value) -> Result<Value, Error> {
        convert(object, self.storage.stored(resource))
    }

    /// Gives an object the fields that canonical JSON always holds, such as an empty status.
    fn complete(&self, resource: &Arc<Resource>, object: &mut Value) {
        if let Some(fields) = object.as_object_mut() {
            complete(self.schema, self.schema.get(self.storage.stored(resource).type_id), fields);
        }
    }

    /// Canonical JSON, without a resource version.
    fn encode(object: &Value) -> Result<Bytes, Error> {
        serde_json::to_vec(object).map(Bytes::from).map_err(|error| Error::Internal(error.to_string()))
    }

    /// Asks admission about a connection to an object.
    ///
    /// # Errors
    /// It is refused.
    pub async fn connect(
        &self,
        admission: &Admission<'_>,
        key: &Key<'_>,
        subresource: &str,
    ) -> Result<(), Error> {
        let request = key.request(admission, Operation::Connect, subresource, key.name, None);
        admission.mutate(&request, &mut Value::Null).await.map_err(|error| key.refused(error))?;
        admission.validate(&request, &Value::Null).await.map_err(|error| key.refused(error))
    }

    async fn lock_services(&self, resource: &Resource) -> Option<MutexGuard<'_, ()>> {
        if resource.group.is_empty() && resource.plural == "services" {
            Some(self.service_writes.lock().await)
        } else {
            None
        }
    }

    fn allocate_service(&self, service: &mut Value, old: Option<&Value>, problems: &mut ErrorList) {
        let mut taken = Taken::default();
        let own = old.map_or("", |old| old.text("metadata.uid"));
        for other in self.storage.all("", "services", "") {
            if other.text("metadata.uid") != own {
                taken.add(&other);
            }
        }
        self.services.allocate(service, old, &taken, problems);
    }
}

/// An object in the version of another resource of its kind.
fn convert(object: Value, to: &Resource) -> Result<Value, Error> {
    convert::convert(object, to).map_err(|error| Error::BadRequest(error.to_string()))
}
