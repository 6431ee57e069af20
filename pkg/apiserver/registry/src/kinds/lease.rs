//! Leases.

use serde_json::Value;

use super::workload::SPEC;
use crate::strategy::{PLAIN, Strategy, UnconditionalUpdate, UpdateOfMissing};
use edgek_api::field::ErrorList;
use edgek_apiserver_admission::fields::Fields;

pub(super) const STRATEGY: Strategy = Strategy {
    validate,
    unconditional_update: UnconditionalUpdate::Denied,
    update_of_missing: UpdateOfMissing::Create,
    ..PLAIN
};

fn validate(lease: &Value, errors: &mut ErrorList) {
    let spec = lease.at("spec");
    if let Some(seconds) = spec.number("leaseDurationSeconds").filter(|seconds| *seconds <= 0) {
        errors.invalid(&SPEC.field("leaseDurationSeconds"), seconds, "must be greater than 0");
    }
    if let Some(count) = spec.number("leaseTransitions").filter(|count| *count < 0) {
        errors.invalid(&SPEC.field("leaseTransitions"), count, "must be greater than or equal to 0");
    }
    if spec.get("holderIdentity").is_some_and(|holder| holder == "") {
        errors.invalid(&SPEC.field("holderIdentity"), "", "must not be empty");
    }
}
