//! PodDisruptionBudgets.

use serde_json::Value;

use super::workload::{self, SPEC};
use crate::labels;
use crate::strategy::{SPEC_AND_STATUS, Strategy, UnconditionalUpdate};
use edgek_api::field::ErrorList;
use edgek_apiserver_admission::fields::Fields;

pub(super) const STRATEGY: Strategy =
    Strategy { validate, unconditional_update: UnconditionalUpdate::Denied, ..SPEC_AND_STATUS };

fn validate(budget: &Value, errors: &mut ErrorList) {
    let spec = budget.at("spec");
    if spec.has("minAvailable") && spec.has("maxUnavailable") {
        errors.invalid(&SPEC, spec.clone(), "minAvailable and maxUnavailable cannot be both set");
    }
    for field in ["minAvailable", "maxUnavailable"] {
        workload::count_or_percent(spec.at(field), &SPEC.field(field), errors);
        workload::at_most_all(spec.at(field), &SPEC.field(field), errors);
    }
    labels::validate_selector(spec.at("selector"), &SPEC.field("selector"), errors);
}
