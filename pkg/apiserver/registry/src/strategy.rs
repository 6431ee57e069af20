//! `Strategy`: what one kind adds to the rules all kinds share. A kind without a strategy has none: it is stored as
//! it was sent, with its metadata checked.

use edgek_api::name;
use serde_json::Value;

use crate::kinds;
use edgek_api::field::ErrorList;
use edgek_apiserver_admission::fields::{Fields, same};

/// The rules of one kind. Functions see whole objects.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Strategy {
    /// What names its objects may have.
    pub(crate) name: name::Rule,
    /// Fills in what was left out.
    pub(crate) default: fn(&mut Value),
    /// Sets on a new object what its creator may not choose; runs before validation.
    pub(crate) prepare_create: fn(&mut Value),
    /// The same for an update, from the old object.
    pub(crate) prepare_update: fn(&mut Value, &Value),
    /// The same for an update of the status.
    pub(crate) prepare_status: fn(&mut Value, &Value),
    /// What is wrong with a new object, and with the parts of an updated one that are always checked.
    pub(crate) validate: fn(&Value, &mut ErrorList),
    /// What is wrong with a new object only.
    pub(crate) validate_create: fn(&Value, &mut ErrorList),
    /// What is wrong with a change.
    pub(crate) validate_update: fn(&Value, &Value, &mut ErrorList),
    /// What is wrong with a change of the status.
    pub(crate) validate_status: fn(&Value, &Value, &mut ErrorList),
    /// What is allowed in a new object, or in one changed from an old one, but seldom meant.
    pub(crate) warnings: fn(&Value, Option<&Value>) -> Vec<String>,
    /// Who owns `status`.
    pub(crate) status: StatusField,
    /// Whether `metadata.generation` counts the changes of what was asked for.
    pub(crate) generation: Generation,
    /// What a PUT without a resource version does.
    pub(crate) unconditional_update: UnconditionalUpdate,
    /// What a PUT of an object that does not exist does.
    pub(crate) update_of_missing: UpdateOfMissing,
    /// How long an object may take to end, before it is deleted.
    pub(crate) grace: fn(&Value, Option<i64>) -> Option<i64>,
    /// What becomes of dependents when nobody says.
    pub(crate) garbage: Garbage,
    /// What a DELETE answers.
    pub(crate) deleted: Deleted,
}

/// Who owns the field `status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StatusField {
    /// The subresource `status`: other writes leave it alone, and it starts empty.
    Subresource,
    /// Whoever writes the object; or the kind has none.
    Plain,
}

/// Whether `metadata.generation` is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Generation {
    /// It is what the creator says.
    None,
    /// It starts at 1 and grows with every change outside of metadata and status.
    Counted,
    /// So it does, and with every change of this field of the metadata.
    CountedWith(&'static str),
}

/// What a PUT without a resource version does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum UnconditionalUpdate {
    /// It replaces whatever is there.
    Allowed,
    /// It is refused.
    Denied,
}

/// What a PUT of an object that does not exist does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum UpdateOfMissing {
    /// It is not found.
    NotFound,
    /// It is created.
    Create,
}

/// What becomes of dependents when the deletion does not say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Garbage {
    /// They are deleted after their owner.
    Background,
    /// They stay, ownerless.
    Orphan,
    /// The kind owns nothing.
    Unsupported,
}

/// What a DELETE that is done at once answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Deleted {
    /// A `Status` of success.
    Status,
    /// The object as it last was.
    Object,
}

/// The rules of a kind that has none of its own.
pub(crate) const PLAIN: Strategy = Strategy {
    name: name::Rule::Subdomain,
    default: |_| {},
    prepare_create: |_| {},
    prepare_update: |_, _| {},
    prepare_status: |_, _| {},
    validate: |_, _| {},
    validate_create: |_, _| {},
    validate_update: |_, _, _| {},
    validate_status: |_, _, _| {},
    warnings: |_, _| Vec::new(),
    status: StatusField::Plain,
    generation: Generation::None,
    unconditional_update: UnconditionalUpdate::Allowed,
    update_of_missing: UpdateOfMissing::NotFound,
    grace: |_, _| None,
    garbage: Garbage::Background,
    deleted: Deleted::Status,
};

/// The rules of a kind with `spec` and `status` as most have them.
pub(crate) const SPEC_AND_STATUS: Strategy =
    Strategy { status: StatusField::Subresource, generation: Generation::Counted, ..PLAIN };

impl Strategy {
    /// The rules of a resource; `has_status` says whether it has the subresource `status`.
    pub(crate) fn of(group: &str, plural: &str, has_status: bool) -> Self {
        kinds::strategy(group, plural).unwrap_or(if has_status { SPEC_AND_STATUS } else { PLAIN })
    }

    /// Makes a new object start as its kind does: without a status, at generation 1.
    pub(crate) fn start(&self, object: &mut Value) {
        if self.status == StatusField::Subresource {
            object.remove("status");
        }
        if self.generation != Generation::None {
            object.object_mut("metadata").set("generation", 1);
        }
        (self.prepare_create)(object);
    }

    /// Makes an updated object follow from the old one.
    pub(crate) fn advance(&self, new: &mut Value, old: &Value) {
        if self.status == StatusField::Subresource {
            copy(new, old, "status");
        }
        (self.prepare_update)(new, old);
        let changed = match self.generation {
            Generation::None => false,
            Generation::Counted => !same_request(new, old),
            Generation::CountedWith(field) => {
                let metadata = |object: &'_ Value| object.at("metadata").at(field).clone();
                !same_request(new, old) || !same(&metadata(new), &metadata(old))
            }
        };
        if changed {
            let next = old.number("metadata.generation").unwrap_or_default() + 1;
            new.object_mut("metadata").set("generation", next);
        }
    }

    /// Makes an object whose status is updated follow from the old one: nothing but the status changes.
    pub(crate) fn advance_status(&self, new: &mut Value, old: &Value) {
        let status = new.remove("status");
        let resource_version = new.at_mut("metadata").and_then(|meta| meta.remove("resourceVersion"));
        let (labels, annotations) =
            (new.at("metadata.labels").clone(), new.at("metadata.annotations").clone());
        let mut kept = old.clone();
        // As upstream, metadata of the request survives a status update except what decides an object's life.
        for (field, value) in [("labels", labels), ("annotations", annotations)] {
            set_or_take(kept.object_mut("metadata"), field, Some(value));
        }
        set_or_take(kept.object_mut("metadata"), "resourceVersion", resource_version);
        set_or_take(&mut kept, "status", status);
        *new = kept;
        (self.prepare_status)(new, old);
    }
}

fn set_or_take(object: &mut Value, field: &str, value: Option<Value>) {
    match value.filter(|value| !value.is_null()) {
        Some(value) => object.set(field, value),
        None => drop(object.remove(field)),
    }
}

/// Takes a top-level field over from the old object.
pub(crate) fn copy(new: &mut Value, old: &Value, field: &str) {
    set_or_take(new, field, old.get(field).cloned());
}

/// Whether two objects ask for the same: they differ in metadata and status at most.
fn same_request(new: &Value, old: &Value) -> bool {
    let asked = |object: &Value, field: &str| object.get(field).cloned().unwrap_or_default();
    let fields = |object: &'_ Value| {
        object.as_object().map(|fields| fields.keys().cloned().collect::<Vec<_>>()).unwrap_or_default()
    };
    fields(new)
        .into_iter()
        .chain(fields(old))
        .filter(|field| !matches!(field.as_str(), "metadata" | "status" | "kind" | "apiVersion"))
        .all(|field| same(&asked(new, &field), &asked(old, &field)))
}
