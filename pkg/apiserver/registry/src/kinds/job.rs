//! Jobs: the selector and the labels of the template come from the job's uid, unless the creator says otherwise.

use serde_json::{Value, json};

use super::podfailurepolicy;
use super::workload::{self, SPEC};
use crate::labels;
use crate::meta::immutable;
use crate::pod::{default_template, validate_template};
use crate::strategy::{Garbage, SPEC_AND_STATUS, Strategy};
use edgek_api::field::{ErrorList, Path};
use edgek_apiserver_admission::fields::{Fields, is_empty};

pub(super) const STRATEGY: Strategy = Strategy {
    default,
    prepare_create,
    validate,
    validate_update,
    warnings: workload::warnings,
    garbage: Garbage::Orphan,
    ..SPEC_AND_STATUS
};

fn default(job: &mut Value) {
    let labels = job.at("spec.template.metadata.labels").clone();
    if !is_empty(&labels) && !job.has("metadata.uid") {
        job.object_mut("metadata").default_empty("labels", labels);
    }
    default_spec(job.object_mut("spec"));
}

/// Defaults a job's spec, also that of a CronJob's template.
pub(super) fn default_spec(spec: &mut Value) {
    if !spec.has("completions") && !spec.has("parallelism") {
        spec.set("completions", 1);
    }
    spec.default("parallelism", 1);
    let limit = if spec.has("backoffLimitPerIndex") { i32::MAX } else { 6 };
    spec.default("backoffLimit", limit);
    spec.default("completionMode", "NonIndexed");
    spec.default("suspend", false);
    spec.default("manualSelector", false);
    for rule in spec.at_mut("podFailurePolicy").into_iter().flat_map(|policy| policy.items_mut("rules")) {
        for condition in rule.items_mut("onPodConditions") {
            condition.default_empty("status", "True");
        }
    }
    let replacement = if spec.has("podFailurePolicy") { "Failed" } else { "TerminatingOrFailed" };
    spec.default("podReplacementPolicy", replacement);
    default_template(spec);
}

fn prepare_create(job: &mut Value) {
    if !job.flag("spec.manualSelector") {
        select_own_pods(job);
    }
    let labels = job.at("spec.template.metadata.labels").clone();
    if !is_empty(&labels) {
        job.object_mut("metadata").default_empty("labels", labels);
    }
}

fn select_own_pods(job: &mut Value) {
    let (uid, name) = (job.text("metadata.uid").to_owned(), job.text("metadata.name").to_owned());
    let spec = job.object_mut("spec");
    let template_labels = spec.object_mut("template").object_mut("metadata").object_mut("labels");
    for (key, value) in [
        ("batch.kubernetes.io/controller-uid", &uid),
        ("batch.kubernetes.io/job-name", &name),
        ("controller-uid", &uid),
        ("job-name", &name),
    ] {
        template_labels.set(key, value.as_str());
    }
    if !spec.has("selector") {
        spec.set("selector", json!({"matchLabels": {"batch.kubernetes.io/controller-uid": uid}}));
    }
}

fn validate(job: &Value, errors: &mut ErrorList) {
    let spec = job.at("spec");
    validate_spec(spec, &SPEC, errors);
    let selector = spec.at("selector");
    if selector.is_null() {
        errors.required(&SPEC.field("selector"), "");
    } else if !labels::matches(selector, spec.at("template.metadata.labels")) {
        workload::mismatch(spec.at("template.metadata.labels"), errors);
    }
}

/// Validates a job's spec, also that of a CronJob's template.
pub(super) fn validate_spec(spec: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    workload::not_negative(
        spec,
        &[
            "parallelism",
            "completions",
            "activeDeadlineSeconds",
            "backoffLimit",
            "ttlSecondsAfterFinished",
            "backoffLimitPerIndex",
            "maxFailedIndexes",
        ],
        path,
        errors,
    );
    let mode = spec.text("completionMode");
    if !["NonIndexed", "Indexed"].contains(&mode) {
        errors.not_supported(&path.field("completionMode"), mode, &["NonIndexed", "Indexed"]);
    }
    if mode == "Indexed" && !spec.has("completions") {
        errors.required(&path.field("completions"), "when completion mode is Indexed");
    }
    index_limits(spec, path, errors);
    let has_policy = spec.has("podFailurePolicy");
    if has_policy {
        podfailurepolicy::validate(spec, &path.field("podFailurePolicy"), errors);
    }
    let replacement = spec.text("podReplacementPolicy");
    let known: &[&str] = if has_policy { &["Failed"] } else { &["Failed", "TerminatingOrFailed"] };
    if !replacement.is_empty() && !known.contains(&replacement) {
        errors.not_supported(&path.field("podReplacementPolicy"), replacement, known);
    }
    validate_template(spec.at("template"), &path.field("template"), errors);
    let restarts = path.field("template.spec.restartPolicy");
    match spec.text("template.spec.restartPolicy") {
        "" | "Always" => errors.required(&restarts, "valid values: \"OnFailure\", \"Never\""),
        "OnFailure" if has_policy => {
            let detail = "only \"Never\" is supported when podFailurePolicy is specified";
            errors.invalid(&restarts, "OnFailure", detail);
        }
        "OnFailure" | "Never" => {}
        other => errors.not_supported(&restarts, other, &["OnFailure", "Never"]),
    }
}

/// How often the pod of an index, and how many indexes, may fail.
fn index_limits(spec: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let most = spec.number("maxFailedIndexes");
    if most.is_some() && !spec.has("backoffLimitPerIndex") {
        errors.required(&path.field("backoffLimitPerIndex"), "when maxFailedIndexes is specified");
    }
    for field in ["backoffLimitPerIndex", "maxFailedIndexes"] {
        if let Some(number) = spec.number(field).filter(|_| spec.text("completionMode") == "NonIndexed") {
            errors.invalid(&path.field(field), number, "requires indexed completion mode");
        }
    }
    if let (Some(most), Some(completions), "Indexed") =
        (most, spec.number("completions"), spec.text("completionMode"))
        && most > completions
    {
        errors.invalid(&path.field("maxFailedIndexes"), most, "must be less than or equal to completions");
    }
}

fn validate_update(new: &Value, old: &Value, errors: &mut ErrorList) {
    for field in ["selector", "completionMode", "podFailurePolicy", "backoffLimitPerIndex"] {
        immutable(new.at("spec").at(field), old.at("spec").at(field), &SPEC.field(field), errors);
    }
    if new.text("spec.completionMode") != "Indexed" {
        immutable(new.at("spec.completions"), old.at("spec.completions"), &SPEC.field("completions"), errors);
    }
    if !old.flag("spec.suspend") || old.has("status.startTime") {
        immutable(new.at("spec.template"), old.at("spec.template"), &SPEC.field("template"), errors);
    }
}
