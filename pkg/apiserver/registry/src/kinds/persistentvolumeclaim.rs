//! PersistentVolumeClaims.

use serde_json::{Value, json};

use super::workload::SPEC;
use crate::strategy::{Deleted, Generation, SPEC_AND_STATUS, Strategy};
use edgek_api::field::ErrorList;
use edgek_apiserver_admission::fields::{Fields, same};

pub(super) const STRATEGY: Strategy = Strategy {
    default,
    prepare_create,
    prepare_update,
    validate,
    validate_update,
    generation: Generation::None,
    deleted: Deleted::Object,
    ..SPEC_AND_STATUS
};

fn default(claim: &mut Value) {
    claim.object_mut("spec").default("volumeMode", "Filesystem");
    claim.object_mut("status").default_empty("phase", "Pending");
}

fn prepare_create(claim: &mut Value) {
    claim.set("status", json!({"phase": "Pending"}));
    name_source_twice(claim);
}

fn prepare_update(new: &mut Value, _: &Value) {
    name_source_twice(new);
}

/// Where a claim's data comes from has an older and a newer field: who knows one of them finds it there.
fn name_source_twice(claim: &mut Value) {
    let spec = claim.object_mut("spec");
    let (older, newer) = (spec.at("dataSource").clone(), spec.at("dataSourceRef").clone());
    if !older.is_null() && newer.is_null() {
        spec.set("dataSourceRef", older);
    } else if older.is_null() && !newer.is_null() && newer.text("namespace").is_empty() {
        spec.set("dataSource", newer);
        spec.object_mut("dataSource").remove("namespace");
    }
}

fn validate(claim: &Value, errors: &mut ErrorList) {
    let spec = claim.at("spec");
    if spec.items("accessModes").is_empty() {
        errors.required(&SPEC.field("accessModes"), "at least 1 access mode is required");
    }
    let supported = ["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];
    for mode in
        spec.items("accessModes").iter().filter_map(Value::as_str).filter(|mode| !supported.contains(mode))
    {
        errors.not_supported(&SPEC.field("accessModes"), mode, &supported);
    }
    if spec.at("resources.requests").get("storage").is_none() {
        errors.required(&SPEC.field("resources").key("storage"), "");
    }
}

fn validate_update(new: &Value, old: &Value, errors: &mut ErrorList) {
    let (mut new, old) = (new.at("spec").clone(), old.at("spec"));
    new.set("resources", old.at("resources").clone());
    new.set("volumeAttributesClassName", old.at("volumeAttributesClassName").clone());
    if old.text("volumeName").is_empty() {
        new.set("volumeName", old.at("volumeName").clone());
    }
    if !same(&new, old) {
        errors.forbidden(
            &SPEC,
            "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims",
        );
    }
}
