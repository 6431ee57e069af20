//! Updating objects and their parts: read, change, compare and swap, and over again when somebody was faster.

use edgek_apiserver_admission::fields::Fields;
use edgek_apiserver_admission::{Admission, DryRun};
use edgek_store_watch::{Object, WriteError};
use serde_json::Value;

use crate::attempt::{self, Key};
use crate::error::Error;
use crate::part::Part;
use crate::storage::failed;
use crate::strategy::{UnconditionalUpdate, UpdateOfMissing};
use crate::{Registry, Stored, convert, meta};
use edgek_api::field::{ErrorList, Path};
use edgek_api::object::stamp_revision;

/// What upstream says when an object was changed between read and write.
pub const OPTIMISTIC_LOCK: &str =
    "the object has been modified; please apply your changes to the latest version and try again";

/// How often a change is made again on a newer object before the client is told to.
const ATTEMPTS: usize = 64;

/// Makes the new object from the one that is stored.
pub trait Change: Send + Sync {
    /// The changed object. `old` carries its resource version.
    ///
    /// # Errors
    /// The change does not fit the object.
    fn apply(&self, old: &Value) -> Result<Value, Error>;

    /// The uid that the stored object must have, empty for any.
    fn uid(&self) -> &str {
        ""
    }

    /// The object to create when there is none, for changes that bring a whole one.
    fn whole(&self) -> Option<&Value> {
        None
    }
}

/// A whole new object, as a PUT brings it.
pub struct Replace(pub Value);

impl Change for Replace {
    fn apply(&self, _: &Value) -> Result<Value, Error> {
        Ok(self.0.clone())
    }

    fn uid(&self) -> &str {
        self.0.text("metadata.uid")
    }

    fn whole(&self) -> Option<&Value> {
        Some(&self.0)
    }
}

/// What became of an update.
#[derive(Debug)]
pub enum Updated {
    /// The object was changed, or already was as asked.
    Changed(Stored),
    /// There was none; it was created.
    Created(Stored),
}

impl Updated {
    /// The object as it is now.
    pub fn into_stored(self) -> Stored {
        match self {
            Self::Changed(stored) | Self::Created(stored) => stored,
        }
    }
}

/// What one attempt came to.
enum Attempt {
    Done(Stored),
    /// Somebody else was faster.
    Outrun,
}

impl Registry {
    /// Changes an object, or a part of it.
    ///
    /// # Errors
    /// The object does not exist, was changed since the client read it, or the change is refused.
    pub async fn update(
        &self,
        admission: &Admission<'_>,
        key: Key<'_>,
        part: Part,
        change: &dyn Change,
    ) -> Result<Updated, Error> {
        for _ in 0..ATTEMPTS {
            let services = self.lock_services(key.resource).await;
            let Some(current) = self.storage.get(&key) else {
                drop(services);
                return self.create_missing(admission, key, part, change).await;
            };
            if let Attempt::Done(stored) = self.try_update(admission, &key, part, change, &current).await? {
                return Ok(Updated::Changed(stored));
            }
        }
        Err(key.conflict(OPTIMISTIC_LOCK))
    }

    async fn create_missing(
        &self,
        admission: &Admission<'_>,
        key: Key<'_>,
        part: Part,
        change: &dyn Change,
    ) -> Result<Updated, Error> {
        let creates =
            part == Part::Object && Self::strategy(key.resource).update_of_missing == UpdateOfMissing::Create;
        let Some(object) = change.whole().filter(|_| creates) else { return Err(key.not_found()) };
        check_name(&key, object)?;
        if !change.uid().is_empty() {
            return Err(key.conflict(format!(
                "Precondition failed: UID in precondition: {}, UID in object meta: ",
                change.uid()
            )));
        }
        self.create(admission, key, object.clone()).await.map(Updated::Created)
    }

    /// Makes the changed object; the change sees the version that is served.
    fn apply(&self, key: &Key<'_>, change: &dyn Change, old: &Value) -> Result<Value, Error> {
        if key.resource.stored_as.is_none() {
            return change.apply(old);
        }
        let served = convert(old.clone(), key.resource)?;
        self.to_stored(key.resource, change.apply(&served)?)
    }

    async fn try_update(
        &self,
        admission: &Admission<'_>,
        key: &Key<'_>,
        part: Part,
        change: &dyn Change,
        current: &Object,
    ) -> Result<Attempt, Error> {
        let strategy = Self::strategy(key.resource);
        let mut old = Self::decode(current)?;
        let mut new = self.apply(key, change, &old)?;
        check_name(key, &new)?;
        let uid = change.uid();
        if !uid.is_empty() && uid != old.text("metadata.uid") {
            let reason = format!(
                "Precondition failed: UID in precondition: {uid}, UID in object meta: {}",
                old.text("metadata.uid")
            );
            return Err(key.conflict(reason));
        }
        check_version(key, &new, &old, strategy.unconditional_update)?;
        for object in [&mut new, &mut old] {
            object.object_mut("metadata").remove("resourceVersion");
        }
        let allocate = |new: &mut Value, problems: &mut ErrorList| {
            if is_services(key) && part == Part::Object {
                self.allocate_service(new, Some(&old), problems);
            }
        };
        attempt::update(key, part, &strategy, admission, &mut new, &old, allocate).await?;

        self.complete(key.resource, &mut new);
        let bytes = Self::encode(&new)?;
        let revision = current.revision();
        let unstored = || Ok(Attempt::Done(Stored(stamp_revision(&bytes, revision.0))));
        if ends(key, &new, &old) {
            return match admission.dry_run() {
                DryRun::All => unstored(),
                DryRun::No => match self.storage.delete(key, revision).await {
                    Ok(_) | Err(WriteError::Missing) => unstored(),
                    Err(WriteError::Changed(_)) => Ok(Attempt::Outrun),
                    Err(error) => Err(failed(error)),
                },
            };
        }
        // A write that changes nothing is none: the revision stays.
        if new == old || admission.dry_run() == DryRun::All {
            return unstored();
        }
        match self.storage.update(key, revision, bytes).await {
            Ok(object) => Ok(Attempt::Done(object.into())),
            Err(WriteError::Changed(_) | WriteError::Missing) => Ok(Attempt::Outrun),
            Err(error) => Err(failed(error)),
        }
    }
}

/// Whether a key names a service: their writes go one by one because of what they share.
pub(crate) fn is_services(key: &Key<'_>) -> bool {
    key.resource.group.is_empty() && key.resource.plural == "services"
}

/// What upstream says of an object that is not in the namespace of its path.
pub(crate) const NAMESPACE_MISMATCH: &str =
    "the namespace of the provided object does not match the namespace sent on the request";

/// An object cannot be renamed or moved by a write.
fn check_name(key: &Key<'_>, object: &Value) -> Result<(), Error> {
    let (name, namespace) = (object.text("metadata.name"), object.text("metadata.namespace"));
    if name.is_empty() {
        return Err(Error::BadRequest(format!(
            "the name of the object ({} based on URL) was undeterminable: name must be provided",
            key.name
        )));
    }
    if name != key.name {
        return Err(Error::BadRequest(format!(
            "the name of the object ({name}) does not match the name on the URL ({})",
            key.name
        )));
    }
    if !key.namespace.is_empty()
        && !namespace.is_empty()
        && namespace != key.namespace
        && key.resource.namespaced
    {
        return Err(Error::BadRequest(NAMESPACE_MISMATCH.to_owned()));
    }
    Ok(())
}

/// Optimistic concurrency: the client must have seen the object it replaces.
fn check_version(
    key: &Key<'_>,
    new: &Value,
    old: &Value,
    unconditional: UnconditionalUpdate,
) -> Result<(), Error> {
    let (wanted, current) = (new.text("metadata.resourceVersion"), old.text("metadata.resourceVersion"));
    match wanted {
        "" | "0" if unconditional == UnconditionalUpdate::Allowed => Ok(()),
        "" | "0" => {
            let mut problems = ErrorList::default();
            problems.invalid(
                &Path::Root("metadata").field("resourceVersion"),
                0,
                "must be specified for an update",
            );
            // Upstream names the resource where it should name the kind.
            let mut subject = key.kind_subject(key.name);
            subject.kind = key.resource.plural.to_string();
            Err(Error::Invalid { subject, problems })
        }
        same if same == current => Ok(()),
        other if other.parse::<u64>().is_err() => Err(Error::BadRequest(format!(
            "Invalid value: {other:?}: strconv.ParseUint: parsing {other:?}: invalid syntax"
        ))),
        _ => Err(key.conflict(OPTIMISTIC_LOCK)),
    }
}

/// Whether an update was the last thing an ending object waited for.
fn ends(key: &Key<'_>, new: &Value, old: &Value) -> bool {
    let namespace = key.resource.group.is_empty() && key.resource.plural == "namespaces";
    let waits_in_spec = namespace && !new.items("spec.finalizers").is_empty();
    let waits = waits_in_spec || meta::finalizers(new).next().is_some();
    let out_of_time = old.number("metadata.deletionGracePeriodSeconds").unwrap_or_default() == 0;
    old.has("metadata.deletionTimestamp") && out_of_time && !waits
}
