//! Creating objects.

use edgek_api::field::ErrorList;
use edgek_apiserver_admission::fields::Fields;
use edgek_apiserver_admission::{Admission, DryRun};
use serde_json::Value;

use crate::attempt::{self, Key};
use crate::error::Error;
use crate::storage::failed;
use crate::{Registry, Stored};
use edgek_store_watch::WriteError;

/// How many names are tried before a generated one is given up, as upstream.
const ATTEMPTS: usize = 8;

impl Registry {
    /// Creates an object. The key's name is empty unless the path has one.
    ///
    /// # Errors
    /// The object is refused by admission or validation, or one of its name exists.
    pub async fn create(
        &self,
        admission: &Admission<'_>,
        key: Key<'_>,
        object: Value,
    ) -> Result<Stored, Error> {
        let object = self.to_stored(key.resource, object)?;
        let asks_for_name = !object.text("metadata.generateName").is_empty();
        let generated = asks_for_name && object.text("metadata.name").is_empty();
        for _ in 1..ATTEMPTS {
            if !generated {
                break;
            }
            match self.try_create(admission, key, object.clone()).await {
                Err(Error::AlreadyExists { .. }) => {}
                other => return other,
            }
        }
        match self.try_create(admission, key, object).await {
            Err(Error::AlreadyExists { subject, prefix, .. }) if asks_for_name => {
                let suffix = ", the server was not able to generate a unique name for the object";
                Err(Error::AlreadyExists { subject, prefix, suffix })
            }
            other => other,
        }
    }

    async fn try_create(
        &self,
        admission: &Admission<'_>,
        key: Key<'_>,
        mut object: Value,
    ) -> Result<Stored, Error> {
        let strategy = Self::strategy(key.resource);
        let services = self.lock_services(key.resource).await;
        let allocate = |object: &mut Value, problems: &mut ErrorList| {
            if services.is_some() {
                self.allocate_service(object, None, problems);
            }
        };
        attempt::create(&key, &strategy, admission, &mut object, allocate).await?;
        let name = object.text("metadata.name").to_owned();
        let key = Key { name: &name, ..key };
        self.complete(key.resource, &mut object);
        let bytes = Self::encode(&object)?;
        if admission.dry_run() == DryRun::All {
            return match self.storage.get(&key) {
                Some(existing) => Err(exists(&key, existing.meta().is_deleting())),
                None => Ok(Stored(bytes)),
            };
        }
        match self.storage.create(&key, bytes).await {
            Ok(object) => {
                if &*key.resource.kind == "Event" {
                    self.event_created.notify_one();
                }
                Ok(object.into())
            }
            Err(WriteError::Exists(existing)) => Err(exists(&key, existing.meta().is_deleting())),
            Err(error) => Err(failed(error)),
        }
    }
}

fn exists(key: &Key<'_>, deleting: bool) -> Error {
    let prefix = if deleting { "object is being deleted: " } else { "" };
    Error::AlreadyExists { subject: key.subject(), prefix, suffix: "" }
}
