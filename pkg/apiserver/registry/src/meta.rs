//! The metadata that the API server owns: system fields, generated names, and the rules every kind shares.
//!
//! As upstream's `apiserver/pkg/registry/rest/{create,update,meta}.go` and `apimachinery/pkg/api/validation/objectmeta.go`.

use edgek_api::{name, time};
use edgek_apiserver_admission::random_suffix;
use serde_json::{Value, json};

use crate::labels;
use crate::pod::NOT_NEGATIVE;
use edgek_api::field::{ErrorList, Path};
use edgek_apiserver_admission::fields::{Fields, same};

const METADATA: Path<'static> = Path::Root("metadata");

/// The finalizer that keeps an object until its dependents are orphaned.
pub(crate) const ORPHAN: &str = "orphan";
/// The finalizer that keeps an object until its dependents are gone.
pub(crate) const FOREGROUND: &str = "foregroundDeletion";

const SUFFIX: usize = 5;
const MAX_BASE: usize = 63 - SUFFIX;

/// A name beginning with `base`, as `metadata.generateName` asks for.
pub(crate) fn generate_name(base: &str) -> String {
    let end =
        base.char_indices().map(|(at, _)| at).chain([base.len()]).take_while(|at| *at <= MAX_BASE).last();
    format!("{}{}", &base[..end.unwrap_or_default()], random_suffix(SUFFIX))
}

/// Takes away what only the system may set, before an object is created.
pub(crate) fn wipe(object: &mut Value) {
    let meta = object.object_mut("metadata");
    for field in [
        "creationTimestamp",
        "uid",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "selfLink",
        "resourceVersion",
        "managedFields",
    ] {
        meta.remove(field);
    }
}

/// Gives a new object its identity: uid, time of creation, and a name when one is to be generated.
pub(crate) fn fill(object: &mut Value) {
    let meta = object.object_mut("metadata");
    meta.set("creationTimestamp", time::now_seconds());
    meta.set("uid", uuid::Uuid::new_v4().to_string());
    if meta.text("name").is_empty() && !meta.text("generateName").is_empty() {
        let name = generate_name(meta.text("generateName"));
        meta.set("name", name);
    }
}

/// Keeps in an update what updates never change.
pub(crate) fn keep(new: &mut Value, old: &Value) {
    let old = old.at("metadata");
    let meta = new.object_mut("metadata");
    for field in ["creationTimestamp", "deletionTimestamp", "generation"] {
        match old.get(field) {
            Some(value) => meta.set(field, value.clone()),
            None if field != "deletionTimestamp" => drop(meta.remove(field)),
            None => {}
        }
    }
    for field in ["uid", "deletionGracePeriodSeconds", "name", "namespace"] {
        if let Some(value) = old.get(field) {
            meta.default_empty_text(field, value);
        }
    }
    meta.remove("managedFields");
    meta.remove("selfLink");
}

/// Sets an absent field to a value of the old object.
trait DefaultFrom {
    fn default_empty_text(&mut self, field: &str, value: &Value);
}

impl DefaultFrom for Value {
    fn default_empty_text(&mut self, field: &str, value: &Value) {
        if self.get(field).is_none_or(|present| present.is_null() || present == "") {
            self.set(field, value.clone());
        }
    }
}

/// Sets an object's finalizers, leaving no empty list.
pub(crate) fn set_finalizers(object: &mut Value, finalizers: Vec<String>) {
    let meta = object.object_mut("metadata");
    if finalizers.is_empty() {
        meta.remove("finalizers");
    } else {
        meta.set("finalizers", finalizers);
    }
}

/// The finalizers of an object.
pub(crate) fn finalizers(object: &Value) -> impl Iterator<Item = &str> {
    object.items("metadata.finalizers").iter().filter_map(Value::as_str)
}

/// Drops owner references that occur twice; gives the uids of those dropped.
pub(crate) fn deduplicate_owners(object: &mut Value) -> Vec<String> {
    let Some(owners) = object.at_mut("metadata.ownerReferences").and_then(Value::as_array_mut) else {
        return Vec::new();
    };
    let mut dropped = Vec::new();
    let mut kept: Vec<Value> = Vec::with_capacity(owners.len());
    for owner in owners.drain(..) {
        if kept.contains(&owner) {
            dropped.push(owner.text("uid").to_owned());
        } else {
            kept.push(owner);
        }
    }
    *owners = kept;
    dropped
}

/// Validates the metadata of a new object.
pub(crate) fn validate(object: &Value, rule: name::Rule, scope: Scope, errors: &mut ErrorList) {
    let meta = object.at("metadata");
    let generate = meta.text("generateName");
    if !generate.is_empty() {
        errors.invalid_all(&METADATA.field("generateName"), generate, rule.check_prefix(generate));
    }
    match meta.text("name") {
        "" => errors.required(&METADATA.field("name"), "name or generateName is required"),
        name => errors.invalid_all(&METADATA.field("name"), name, rule.check(name)),
    }
    match (scope, meta.text("namespace")) {
        (Scope::Namespaced, "") => errors.required(&METADATA.field("namespace"), ""),
        (Scope::Namespaced, namespace) => {
            errors.invalid_all(&METADATA.field("namespace"), namespace, name::dns1123_label(namespace));
        }
        (Scope::Cluster, "") => {}
        (Scope::Cluster, _) => errors.forbidden(&METADATA.field("namespace"), "not allowed on this type"),
    }
    common(meta, errors);
    validate_finalizers(meta, errors);
    let path = METADATA.field("finalizers");
    for (index, finalizer) in meta.items("finalizers").iter().enumerate() {
        qualified_finalizer(finalizer, &path.index(index), errors);
    }
}

/// A finalizer is one of those that all clusters have, or says whose it is.
pub(crate) fn qualified_finalizer(finalizer: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let text = finalizer.as_str().unwrap_or_default();
    if !text.contains('/') && !["kubernetes", ORPHAN, FOREGROUND].contains(&text) {
        errors.invalid(path, text, "name is neither a standard finalizer name nor is it fully qualified");
    }
}

/// Whether the objects of a resource live in namespaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    Namespaced,
    Cluster,
}

/// Validates the metadata of an updated object.
pub(crate) fn validate_update(new: &Value, old: &Value, errors: &mut ErrorList) {
    let (new, old) = (new.at("metadata"), old.at("metadata"));
    if old.has("deletionTimestamp") {
        let known = old.items("finalizers");
        let mut added: Vec<&str> = new
            .items("finalizers")
            .iter()
            .filter(|name| !known.contains(name))
            .filter_map(Value::as_str)
            .collect();
        if !added.is_empty() {
            added.sort_unstable();
            let added = added.iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ");
            errors.forbidden(
                &METADATA.field("finalizers"),
                &format!("no new finalizers can be added if the object is being deleted, found new finalizers []string{{{added}}}"),
            );
        }
    }
    for field in
        ["name", "namespace", "uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"]
    {
        immutable(new.at(field), old.at(field), &METADATA.field(field), errors);
    }
    common(new, errors);
    validate_finalizers(new, errors);
}

/// A field that no update may change.
pub(crate) fn immutable(new: &Value, old: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    if !same(new, old) {
        errors.invalid(path, new.clone(), "field is immutable");
    }
}

fn common(meta: &Value, errors: &mut ErrorList) {
    if let Some(generation) = meta.number("generation").filter(|generation| *generation < 0) {
        errors.invalid(&METADATA.field("generation"), generation, NOT_NEGATIVE);
    }
    labels::validate(meta.at("labels"), &METADATA.field("labels"), errors);
    labels::validate_annotations(meta.at("annotations"), &METADATA.field("annotations"), errors);
    owners(meta.items("ownerReferences"), errors);
}

fn owners(owners: &[Value], errors: &mut ErrorList) {
    let list = METADATA.field("ownerReferences");
    let mut controller: Option<String> = None;
    for (index, owner) in owners.iter().enumerate() {
        let path = list.index(index);
        for field in ["apiVersion", "kind", "name", "uid"] {
            if owner.text(field).is_empty() {
                errors.required(&path.field(field), "must not be empty");
            }
        }
        if owner.text("apiVersion").matches('/').count() > 1 {
            errors.invalid(
                &path.field("apiVersion"),
                owner.text("apiVersion"),
                "must be <group>/<version> or <version>",
            );
        }
        if (owner.text("apiVersion"), owner.text("kind")) == ("v1", "Event") {
            errors.invalid(&path, owner.clone(), "/v1, Kind=Event is disallowed from being an owner");
        }
        if owner.flag("controller") {
            let this = format!("{}/{}", owner.text("kind"), owner.text("name"));
            match &controller {
                Some(first) => errors.invalid(
                    &list,
                    json!(owners),
                    &format!("Only one reference can have Controller set to true. Found \"true\" in references for {first} and {this}"),
                ),
                None => controller = Some(this),
            }
        }
    }
}

fn validate_finalizers(meta: &Value, errors: &mut ErrorList) {
    let path = METADATA.field("finalizers");
    let finalizers = meta.items("finalizers");
    for finalizer in finalizers.iter().filter_map(Value::as_str) {
        errors.invalid_all(&path, finalizer, name::qualified_name(finalizer));
    }
    if finalizers.iter().any(|name| name == ORPHAN) && finalizers.iter().any(|name| name == FOREGROUND) {
        errors.invalid(
            &path,
            json!(finalizers),
            "finalizer orphan and foregroundDeletion cannot be both set",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_names_keep_the_base_and_end_in_five_safe_characters() {
        let name = generate_name("web-");
        assert_eq!(name.len(), 9);
        assert!(name.starts_with("web-"));
        assert!(name[4..].bytes().all(|byte| b"bcdfghjklmnpqrstvwxz2456789".contains(&byte)), "{name}");
        assert_eq!(generate_name(&"a".repeat(80)).len(), 63);
    }

    #[test]
    fn owners_that_occur_twice_are_dropped() {
        let mut object = json!({"metadata": {"ownerReferences": [{"uid": "1"}, {"uid": "1"}, {"uid": "2"}]}});
        assert_eq!(deduplicate_owners(&mut object), ["1"]);
        assert_eq!(object.items("metadata.ownerReferences").len(), 2);
    }
}
