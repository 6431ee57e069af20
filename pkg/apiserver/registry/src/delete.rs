//! Deleting objects: gracefully where the kind says so, after their finalizers, with what becomes of dependents.
//!
//! As upstream's `registry/generic/registry/store.go` and `registry/rest/delete.go`.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use edgek_api::object::stamp_revision;
use edgek_api::time;
use edgek_apiserver_admission::fields::Fields;
use edgek_apiserver_admission::{Admission, DryRun, Operation};
use edgek_store_watch::{Object, WriteError};
use serde_json::Value;

use crate::attempt::Key;
use crate::error::{Error, Subject};
use crate::meta::{self, FOREGROUND, ORPHAN};
use crate::options::{DeleteOptions, Propagation};
use crate::storage::failed;
use crate::strategy::{Deleted, Garbage, Strategy};
use crate::{Registry, Stored};

/// What became of a deletion.
#[derive(Debug)]
pub enum Deletion {
    /// The object is gone, or was going already; the client gets a status of success about it.
    Status(Box<Subject>),
    /// The object as it last was, gone.
    Gone(Stored),
    /// The object is ending: it waits for its grace period or its finalizers.
    Ending(Stored),
}

/// What a deletion does to the object that is stored.
enum Step {
    /// It is removed; who asked sees it as it ends, if its kind ends gracefully.
    Remove(Option<Value>),
    /// It is marked as ending.
    Mark(Value),
    /// Nothing: it is ending already.
    Nothing,
}

impl Registry {
    /// Deletes an object, or marks it as ending.
    ///
    /// # Errors
    /// The object does not exist, is not the one that is meant, or may not be deleted.
    pub async fn delete(
        &self,
        admission: &Admission<'_>,
        key: Key<'_>,
        options: &DeleteOptions,
    ) -> Result<Deletion, Error> {
        let strategy = Self::strategy(key.resource);
        // Whether a namespace may ever be deleted does not depend on whether it exists.
        let request = key.request(admission, Operation::Delete, "", key.name, None);
        admission.mutate(&request, &mut Value::Null).await.map_err(|error| key.refused(error))?;
        loop {
            let current = self.storage.get(&key).ok_or_else(|| key.not_found())?;
            let old = Self::decode(&current)?;
            check_preconditions(&key, &old, options)?;
            let request = key.request(admission, Operation::Delete, "", key.name, Some(&old));
            admission.validate(&request, &Value::Null).await.map_err(|error| key.refused(error))?;
            let step = step(&key, &strategy, &old, options);
            if let Some(deletion) = self.take_step(admission, &key, &strategy, &current, step).await? {
                return Ok(deletion);
            }
        }
    }

    /// Takes one step; `None` when somebody else changed the object first.
    async fn take_step(
        &self,
        admission: &Admission<'_>,
        key: &Key<'_>,
        strategy: &Strategy,
        current: &Arc<Object>,
        step: Step,
    ) -> Result<Option<Deletion>, Error> {
        let dry = admission.dry_run() == DryRun::All;
        match step {
            Step::Nothing if strategy.deleted == Deleted::Object => {
                Ok(Some(Deletion::Ending(current.clone().into())))
            }
            Step::Nothing => Ok(Some(Deletion::Status(deleted_subject(key, current)))),
            Step::Remove(ended) => {
                let last = if dry {
                    current.clone()
                } else {
                    match self.storage.delete(key, current.revision()).await {
                        Ok(last) => last,
                        Err(WriteError::Changed(_)) => return Ok(None),
                        Err(WriteError::Missing) => return Err(key.not_found()),
                        Err(error) => return Err(failed(error)),
                    }
                };
                Ok(Some(match strategy.deleted {
                    Deleted::Object => Deletion::Gone(match ended {
                        Some(ended) => Stored(stamp_revision(&Self::encode(&ended)?, last.revision().0)),
                        None => last.into(),
                    }),
                    Deleted::Status => Deletion::Status(deleted_subject(key, current)),
                }))
            }
            Step::Mark(mut marked) => {
                marked.object_mut("metadata").remove("resourceVersion");
                let bytes = Self::encode(&marked)?;
                let stamped = stamp_revision(&bytes, current.revision().0);
                if dry || stamped == current.bytes() {
                    return Ok(Some(Deletion::Ending(Stored(stamped))));
                }
                match self.storage.update(key, current.revision(), bytes).await {
                    Ok(object) => Ok(Some(Deletion::Ending(object.into()))),
                    Err(WriteError::Changed(_) | WriteError::Missing) => Ok(None),
                    Err(error) => Err(failed(error)),
                }
            }
        }
    }
}

fn deleted_subject(key: &Key<'_>, object: &Object) -> Box<Subject> {
    Box::new(Subject { uid: object.meta().uid.as_str().to_owned(), ..*key.subject() })
}

fn check_preconditions(key: &Key<'_>, old: &Value, options: &DeleteOptions) -> Result<(), Error> {
    let (uid, version) = (old.text("metadata.uid"), old.text("metadata.resourceVersion"));
    // Upstream names the kind here.
    let conflict = |reason| Error::Conflict { subject: key.kind_subject(key.name), reason };
    if let Some(wanted) = options.uid.as_deref().filter(|wanted| *wanted != uid) {
        return Err(conflict(format!(
            "the UID in the precondition ({wanted}) does not match the UID in record ({uid}). The object might have been deleted and then recreated"
        )));
    }
    if let Some(wanted) = options.resource_version.as_deref().filter(|wanted| *wanted != version) {
        return Err(conflict(format!(
            "the ResourceVersion in the precondition ({wanted}) does not match the ResourceVersion in record ({version}). The object might have been modified"
        )));
    }
    Ok(())
}

/// What is to be done now, given the object as it is stored.
fn step(key: &Key<'_>, strategy: &Strategy, old: &Value, options: &DeleteOptions) -> Step {
    let requested = options.grace_period.map(|seconds| if seconds < 0 { 1 } else { seconds });
    let mut object = old.clone();
    let grace = match graceful(strategy, &mut object, requested) {
        Grace::Pending => return Step::Nothing,
        Grace::Given(seconds) => Some(seconds),
        Grace::None => None,
    };
    meta::set_finalizers(&mut object, finalizers(strategy, old, options));
    let waits = meta::finalizers(&object).next().is_some() || namespace_waits(key, old);
    match grace {
        Some(seconds) if seconds > 0 || waits => Step::Mark(object),
        _ if waits => {
            mark(key, &mut object);
            Step::Mark(object)
        }
        _ => {
            object.object_mut("metadata").remove("resourceVersion");
            Step::Remove(grace.map(|_| object))
        }
    }
}

/// How an object ends.
enum Grace {
    /// At once.
    None,
    /// In this many seconds; the object says so now.
    Given(i64),
    /// As was said before.
    Pending,
}

/// Sets the time of deletion of an object that ends gracefully; a second deletion can only shorten it.
fn graceful(strategy: &Strategy, object: &mut Value, requested: Option<i64>) -> Grace {
    let meta = object.at("metadata");
    if let Some(set) = meta.at("deletionTimestamp").as_str().and_then(time::parse) {
        let before = meta.number("deletionGracePeriodSeconds").unwrap_or_default();
        return match requested {
            _ if before == 0 => Grace::None,
            Some(seconds) if seconds < before => {
                let now = SystemTime::now();
                let shortened = set - whole(before) + whole(seconds);
                // A grace period that has run out already still lets the node do the last step, unless it is 0.
                let seconds = if shortened < now && seconds != 0 { 1 } else { seconds };
                set_deletion(object, shortened.max(now), seconds);
                Grace::Given(seconds)
            }
            _ => Grace::Pending,
        };
    }
    match (strategy.grace)(object, requested) {
        None => Grace::None,
        Some(seconds) => {
            bump_generation(object);
            set_deletion(object, SystemTime::now() + whole(seconds), seconds);
            Grace::Given(seconds)
        }
    }
}

/// A number of seconds; a negative one is none.
fn whole(seconds: i64) -> Duration {
    Duration::from_secs(u64::try_from(seconds).unwrap_or_default())
}

fn set_deletion(object: &mut Value, at: SystemTime, seconds: i64) {
    let meta = object.object_mut("metadata");
    meta.set("deletionTimestamp", time::seconds(at));
    meta.set("deletionGracePeriodSeconds", seconds);
}

fn bump_generation(object: &mut Value) {
    if let Some(generation) = object.number("metadata.generation").filter(|generation| *generation > 0) {
        object.object_mut("metadata").set("generation", generation + 1);
    }
}

/// Marks an object that waits for its finalizers only.
fn mark(key: &Key<'_>, object: &mut Value) {
    if !object.has("metadata.deletionTimestamp") {
        bump_generation(object);
        object.object_mut("metadata").set("deletionTimestamp", time::now_seconds());
    }
    if is_namespace(key) {
        object.object_mut("status").set("phase", "Terminating");
    }
    if !is_namespace(key) || meta::finalizers(object).next().is_some() {
        object.object_mut("metadata").set("deletionGracePeriodSeconds", 0);
    }
}

fn is_namespace(key: &Key<'_>) -> bool {
    key.resource.group.is_empty() && key.resource.plural == "namespaces"
}

/// A namespace waits until the namespace controller has emptied it.
fn namespace_waits(key: &Key<'_>, object: &Value) -> bool {
    is_namespace(key) && !object.items("spec.finalizers").is_empty()
}

/// The finalizers of an object that is being deleted: what shall become of its dependents is one of them.
fn finalizers(strategy: &Strategy, old: &Value, options: &DeleteOptions) -> Vec<String> {
    let present = |name: &str| meta::finalizers(old).any(|finalizer| finalizer == name);
    let propagation = match (options.orphan_dependents, options.propagation) {
        (Some(true), _) => Propagation::Orphan,
        (Some(false), _) => Propagation::Background,
        (None, Some(propagation)) => propagation,
        (None, None) if present(ORPHAN) => Propagation::Orphan,
        (None, None) if present(FOREGROUND) => Propagation::Foreground,
        (None, None) if strategy.garbage == Garbage::Orphan => Propagation::Orphan,
        (None, None) => Propagation::Background,
    };
    let mut finalizers: Vec<String> = meta::finalizers(old)
        .filter(|name| ![ORPHAN, FOREGROUND].contains(name))
        .map(ToOwned::to_owned)
        .collect();
    match propagation {
        _ if strategy.garbage == Garbage::Unsupported => {}
        Propagation::Orphan => finalizers.push(ORPHAN.to_owned()),
        Propagation::Foreground => finalizers.push(FOREGROUND.to_owned()),
        Propagation::Background => {}
    }
    finalizers
}
