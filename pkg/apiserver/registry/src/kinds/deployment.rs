//! Deployments.

use serde_json::Value;

use super::workload::{self, SPEC};
use crate::meta::immutable;
use crate::pod::default_template;
use crate::strategy::{Generation, SPEC_AND_STATUS, Strategy, copy};
use edgek_api::field::ErrorList;
use edgek_apiserver_admission::fields::Fields;

pub(super) const STRATEGY: Strategy = Strategy {
    default,
    prepare_status,
    validate,
    validate_update,
    warnings: workload::warnings,
    // Deployment controllers take notice of annotations.
    generation: Generation::CountedWith("annotations"),
    ..SPEC_AND_STATUS
};

fn default(deployment: &mut Value) {
    let spec = deployment.object_mut("spec");
    spec.default("replicas", 1);
    spec.default("revisionHistoryLimit", 10);
    spec.default("progressDeadlineSeconds", 600);
    let strategy = spec.object_mut("strategy");
    strategy.default_empty("type", "RollingUpdate");
    if strategy.text("type") == "RollingUpdate" {
        let rolling = strategy.object_mut("rollingUpdate");
        rolling.default("maxUnavailable", "25%");
        rolling.default("maxSurge", "25%");
    }
    default_template(spec);
}

/// Who writes the status of a deployment leaves its labels alone.
fn prepare_status(new: &mut Value, old: &Value) {
    copy(new.object_mut("metadata"), old.at("metadata"), "labels");
}

fn validate(deployment: &Value, errors: &mut ErrorList) {
    let spec = deployment.at("spec");
    workload::not_negative(spec, &["replicas"], &SPEC, errors);
    workload::selector(spec, "empty selector is invalid for deployment", errors);
    workload::template(spec, "ReplicaSet", errors);
    strategy(spec, errors);
    workload::not_negative(
        spec,
        &["minReadySeconds", "revisionHistoryLimit", "progressDeadlineSeconds"],
        &SPEC,
        errors,
    );
    if let Some(deadline) = spec.number("progressDeadlineSeconds")
        && deadline <= spec.number("minReadySeconds").unwrap_or_default()
    {
        errors.invalid(
            &SPEC.field("progressDeadlineSeconds"),
            deadline,
            "must be greater than minReadySeconds",
        );
    }
}

fn strategy(spec: &Value, errors: &mut ErrorList) {
    let strategy = spec.at("strategy");
    let path = SPEC.field("strategy");
    let rolling_path = path.field("rollingUpdate");
    let rolling = strategy.at("rollingUpdate");
    match strategy.text("type") {
        "Recreate" if strategy.has("rollingUpdate") => {
            errors.forbidden(&rolling_path, "may not be specified when strategy `type` is 'Recreate'");
        }
        "Recreate" => {}
        "RollingUpdate" => {
            let unavailable = rolling_path.field("maxUnavailable");
            workload::count_or_percent(rolling.at("maxUnavailable"), &unavailable, errors);
            workload::count_or_percent(rolling.at("maxSurge"), &rolling_path.field("maxSurge"), errors);
            if workload::is_none(rolling.at("maxUnavailable")) && workload::is_none(rolling.at("maxSurge")) {
                errors.invalid(
                    &unavailable,
                    rolling.at("maxUnavailable").clone(),
                    "may not be 0 when `maxSurge` is 0",
                );
            }
            workload::at_most_all(rolling.at("maxUnavailable"), &unavailable, errors);
        }
        _ => errors.not_supported(&path, strategy.clone(), &["Recreate", "RollingUpdate"]),
    }
}

fn validate_update(new: &Value, old: &Value, errors: &mut ErrorList) {
    immutable(new.at("spec.selector"), old.at("spec.selector"), &SPEC.field("selector"), errors);
}
