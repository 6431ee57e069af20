//! ReplicaSets.

use serde_json::Value;

use super::workload::{self, SPEC};
use crate::meta::immutable;
use crate::pod::default_template;
use crate::strategy::{SPEC_AND_STATUS, Strategy};
use edgek_api::field::ErrorList;
use edgek_apiserver_admission::fields::Fields;

pub(super) const STRATEGY: Strategy =
    Strategy { default, warnings: workload::warnings, validate, validate_update, ..SPEC_AND_STATUS };

fn default(set: &mut Value) {
    let spec = set.object_mut("spec");
    spec.default("replicas", 1);
    default_template(spec);
}

fn validate(set: &Value, errors: &mut ErrorList) {
    let spec = set.at("spec");
    workload::not_negative(spec, &["replicas", "minReadySeconds"], &SPEC, errors);
    workload::selector(spec, "empty selector is invalid for deployment", errors);
    workload::template(spec, "ReplicaSet", errors);
}

fn validate_update(new: &Value, old: &Value, errors: &mut ErrorList) {
    immutable(new.at("spec.selector"), old.at("spec.selector"), &SPEC.field("selector"), errors);
}
