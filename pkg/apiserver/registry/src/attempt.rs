//! One attempt to write an object: defaults, admission, the rules of its kind, validation. Pure but for the plugins
//! of admission; the engine stores the result, or starts over with a newer object.

use std::sync::Arc;

use edgek_api::resource::Resource;
use edgek_apiserver_admission::{self as admission, Admission, Operation, Request};
use serde_json::Value;

use crate::error::{Error, Subject};
use crate::meta::{self, Scope};
use crate::part::Part;
use crate::strategy::Strategy;
use crate::update::NAMESPACE_MISMATCH;
use edgek_api::field::ErrorList;
use edgek_apiserver_admission::fields::Fields;

/// Names one object, or with an empty name one that is to be named.
#[derive(Debug, Clone, Copy)]
pub struct Key<'a> {
    /// The resource it belongs to.
    pub resource: &'a Arc<Resource>,
    /// Its namespace; empty for cluster-scoped resources.
    pub namespace: &'a str,
    /// Its name.
    pub name: &'a str,
}

impl Key<'_> {
    /// How errors name the object.
    pub(crate) fn subject(&self) -> Box<Subject> {
        Box::new(Subject {
            group: self.resource.group.to_string(),
            kind: self.resource.plural.to_string(),
            name: self.name.to_owned(),
            uid: String::new(),
        })
    }

    /// How errors about its content name the object.
    pub(crate) fn kind_subject(&self, name: &str) -> Box<Subject> {
        Box::new(Subject { kind: self.resource.kind.to_string(), name: name.to_owned(), ..*self.subject() })
    }

    /// The object does not exist.
    pub(crate) fn not_found(&self) -> Error {
        Error::NotFound(self.subject())
    }

    /// The object is not as expected.
    pub(crate) fn conflict(&self, reason: impl Into<String>) -> Error {
        Error::Conflict { subject: self.subject(), reason: reason.into() }
    }

    fn scope(&self) -> Scope {
        if self.resource.namespaced { Scope::Namespaced } else { Scope::Cluster }
    }

    /// The namespace admission sees: a namespace is its own.
    fn admission_namespace<'a>(&'a self, name: &'a str) -> &'a str {
        if self.resource.group.is_empty() && self.resource.plural == "namespaces" {
            name
        } else {
            self.namespace
        }
    }

    /// What plugins see of a write of this object.
    pub(crate) fn request<'a>(
        &'a self,
        admission: &'a Admission<'_>,
        operation: Operation,
        subresource: &'a str,
        name: &'a str,
        old: Option<&'a Value>,
    ) -> Request<'a> {
        Request {
            operation,
            group: &self.resource.group,
            version: &self.resource.version,
            kind: &self.resource.kind,
            resource: &self.resource.plural,
            subresource,
            namespace: self.admission_namespace(name),
            name,
            user: admission.user(),
            dry_run: admission.dry_run(),
            old,
        }
    }

    /// Turns a refusal of admission into the registry's words.
    pub(crate) fn refused(&self, error: admission::Error) -> Error {
        match error {
            admission::Error::Forbidden { message, cause } => {
                Error::Forbidden { subject: self.subject(), message, cause }
            }
            admission::Error::NotFound { resource, name } => {
                Error::NotFound(Box::new(Subject { kind: resource.to_owned(), name, ..Subject::default() }))
            }
            admission::Error::Internal(message) => Error::Internal(message),
        }
    }
}

/// Makes a new object ready to be stored.
pub(crate) async fn create(
    key: &Key<'_>,
    strategy: &Strategy,
    admission: &Admission<'_>,
    object: &mut Value,
    allocate: impl FnOnce(&mut Value, &mut ErrorList),
) -> Result<(), Error> {
    meta::wipe(object);
    match_namespace(key, object)?;
    (strategy.default)(object);
    let name = object.text("metadata.name").to_owned();
    let asked = Key { name: &name, ..*key };
    let request = asked.request(admission, Operation::Create, "", &name, None);
    admission.mutate(&request, object).await.map_err(|error| asked.refused(error))?;
    warn_of_duplicate_owners(admission, object);
    meta::fill(object);
    // Once more, for what the plugins added.
    (strategy.default)(object);
    strategy.start(object);
    let mut problems = ErrorList::default();
    allocate(object, &mut problems);
    (strategy.validate)(object, &mut problems);
    (strategy.validate_create)(object, &mut problems);
    meta::validate(object, strategy.name, key.scope(), &mut problems);
    let name = object.text("metadata.name").to_owned();
    if !problems.is_empty() {
        return Err(Error::Invalid { subject: key.kind_subject(&name), problems });
    }
    (strategy.warnings)(object, None).into_iter().for_each(|warning| admission.warn(warning));
    let named = Key { name: &name, ..*key };
    let request = named.request(admission, Operation::Create, "", &name, None);
    admission.validate(&request, object).await.map_err(|error| named.refused(error))
}

/// Makes a changed object, or one of its parts, ready to be stored.
pub(crate) async fn update(
    key: &Key<'_>,
    part: Part,
    strategy: &Strategy,
    admission: &Admission<'_>,
    new: &mut Value,
    old: &Value,
    allocate: impl FnOnce(&mut Value, &mut ErrorList),
) -> Result<(), Error> {
    if part == Part::Object {
        match_namespace(key, new)?;
    }
    (strategy.default)(new);
    let request = key.request(admission, Operation::Update, part.subresource(), key.name, Some(old));
    admission.mutate(&request, new).await.map_err(|error| key.refused(error))?;
    warn_of_duplicate_owners(admission, new);
    (strategy.default)(new);
    meta::keep(new, old);
    let mut problems = ErrorList::default();
    part.advance(strategy, new, old);
    allocate(new, &mut problems);
    meta::validate_update(new, old, &mut problems);
    part.validate(strategy, new, old, &mut problems);
    if !problems.is_empty() {
        return Err(Error::Invalid { subject: key.kind_subject(key.name), problems });
    }
    if part == Part::Object {
        (strategy.warnings)(new, Some(old)).into_iter().for_each(|warning| admission.warn(warning));
    }
    admission.validate(&request, new).await.map_err(|error| key.refused(error))
}

/// An object belongs to the namespace it is sent to, whether it says so or not.
fn match_namespace(key: &Key<'_>, object: &mut Value) -> Result<(), Error> {
    let meta = object.object_mut("metadata");
    let said = meta.text("namespace");
    if key.namespace.is_empty() || !key.resource.namespaced {
        if !said.is_empty() && !key.resource.namespaced {
            meta.remove("namespace");
        }
        return Ok(());
    }
    if !said.is_empty() && said != key.namespace {
        return Err(Error::BadRequest(NAMESPACE_MISMATCH.to_owned()));
    }
    meta.set("namespace", key.namespace);
    Ok(())
}

fn warn_of_duplicate_owners(admission: &Admission<'_>, object: &mut Value) {
    let dropped = meta::deduplicate_owners(object);
    if !dropped.is_empty() {
        admission.warn(format!(
            ".metadata.ownerReferences contains duplicate entries; API server dedups owner references in 1.20+, and may reject such requests as early as 1.24; please fix your requests; duplicate UID(s) observed: {}",
            dropped.join(", ")
        ));
    }
}
