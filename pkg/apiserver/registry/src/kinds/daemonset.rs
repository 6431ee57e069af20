//! DaemonSets.

use serde_json::Value;

use super::workload::{self, SPEC};
use crate::labels;
use crate::meta::immutable;
use crate::pod::default_template;
use crate::strategy::{SPEC_AND_STATUS, Strategy};
use edgek_api::field::ErrorList;
use edgek_apiserver_admission::fields::{Fields, same};

pub(super) const STRATEGY: Strategy = Strategy {
    default,
    prepare_create,
    prepare_update,
    validate,
    validate_update,
    warnings: workload::template_warnings,
    ..SPEC_AND_STATUS
};

/// The annotation that counts the changes of the template, for clients from before `metadata.generation` did.
const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";

fn default(set: &mut Value) {
    let spec = set.object_mut("spec");
    spec.default("revisionHistoryLimit", 10);
    let strategy = spec.object_mut("updateStrategy");
    strategy.default_empty("type", "RollingUpdate");
    if strategy.text("type") == "RollingUpdate" {
        let rolling = strategy.object_mut("rollingUpdate");
        rolling.default("maxUnavailable", 1);
        rolling.default("maxSurge", 0);
    }
    default_template(spec);
}

fn template_generation(set: &Value) -> i64 {
    let annotations = set.at("metadata.annotations");
    annotations
        .get(TEMPLATE_GENERATION)
        .and_then(Value::as_str)
        .and_then(|count| count.parse().ok())
        .unwrap_or_default()
}

fn prepare_create(set: &mut Value) {
    let generation = template_generation(set).max(1);
    set.object_mut("metadata").object_mut("annotations").set(TEMPLATE_GENERATION, generation.to_string());
}

fn prepare_update(new: &mut Value, old: &Value) {
    let changed = !same(new.at("spec.template"), old.at("spec.template"));
    let generation = template_generation(old) + i64::from(changed);
    new.object_mut("metadata").object_mut("annotations").set(TEMPLATE_GENERATION, generation.to_string());
}

fn validate(set: &Value, errors: &mut ErrorList) {
    let spec = set.at("spec");
    let selector = spec.at("selector");
    let path = SPEC.field("selector");
    labels::validate_selector(selector, &path, errors);
    // An absent selector selects nothing.
    if selector.is_null() || !labels::matches(selector, spec.at("template.metadata.labels")) {
        workload::mismatch(spec.at("template.metadata.labels"), errors);
    }
    if !selector.is_null() && labels::selects_all(selector) {
        errors.invalid(&path, selector.clone(), "empty selector is invalid for daemonset");
    }
    workload::template(spec, "DaemonSet", errors);
    workload::not_negative(spec, &["minReadySeconds", "revisionHistoryLimit"], &SPEC, errors);
    let kind = spec.text("updateStrategy.type");
    if !["RollingUpdate", "OnDelete"].contains(&kind) {
        errors.not_supported(&SPEC.field("updateStrategy.type"), kind, &["RollingUpdate", "OnDelete"]);
    }
    let nothing = |field: &str| {
        let value = spec.at("updateStrategy.rollingUpdate").at(field);
        value.as_i64() == Some(0) || value == "0%"
    };
    if kind == "RollingUpdate" && nothing("maxUnavailable") && nothing("maxSurge") {
        let path = SPEC.field("updateStrategy.rollingUpdate.maxUnavailable");
        errors.required(&path, "cannot be 0 when maxSurge is 0");
    }
}

fn validate_update(new: &Value, old: &Value, errors: &mut ErrorList) {
    immutable(new.at("spec.selector"), old.at("spec.selector"), &SPEC.field("selector"), errors);
}
