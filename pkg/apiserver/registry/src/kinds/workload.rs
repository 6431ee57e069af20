//! What the workloads share: replicas, a selector that matches the template, and rolling updates.

use serde_json::Value;

use crate::labels;
use crate::pod::{NOT_NEGATIVE, validate_template, warnings};
use edgek_api::field::{ErrorList, Path};
use edgek_apiserver_admission::fields::{Fields, is_empty};

pub(super) const SPEC: Path<'static> = Path::Root("spec");

/// The warnings about the template of a workload, when it is new or what was asked for has changed.
pub(super) fn template_warnings(new: &Value, old: Option<&Value>) -> Vec<String> {
    let generation = |workload: &Value| workload.number("metadata.generation");
    match old {
        Some(old) if generation(old) == generation(new) => Vec::new(),
        _ => warnings::of_spec(new.at("spec.template.spec"), "spec.template.spec"),
    }
}

/// The same, with those about a name that pods are named after.
pub(super) fn warnings(new: &Value, old: Option<&Value>) -> Vec<String> {
    let mut all = match old {
        None => warnings::of_name(new, "Pod names and hostnames"),
        Some(_) => Vec::new(),
    };
    all.extend(template_warnings(new, old));
    all
}

/// Numbers that may not be negative.
pub(super) fn not_negative(object: &Value, fields: &[&str], path: &Path<'_>, errors: &mut ErrorList) {
    for field in fields {
        if let Some(number) = object.number(field).filter(|number| *number < 0) {
            errors.invalid(&path.field(field), number, NOT_NEGATIVE);
        }
    }
}

/// The label selector of a workload that must select its own pods.
pub(super) fn selector(spec: &Value, empty: &str, errors: &mut ErrorList) {
    let selector = spec.at("selector");
    let path = SPEC.field("selector");
    if selector.is_null() {
        errors.required(&path, "");
    } else {
        let mut problems = ErrorList::default();
        labels::validate_selector(selector, &path, &mut problems);
        let usable = problems.is_empty();
        errors.0.append(&mut problems.0);
        if labels::selects_all(selector) {
            errors.invalid(&path, selector.clone(), empty);
        }
        if !usable {
            return errors.invalid(&path, selector.clone(), "invalid label selector");
        }
    }
    let template_labels = spec.at("template.metadata.labels");
    // An absent selector selects nothing.
    let matches =
        !selector.is_null() && (labels::selects_all(selector) || labels::matches(selector, template_labels));
    if !matches {
        mismatch(template_labels, errors);
    }
}

/// The labels of a template do not match the selector.
pub(super) fn mismatch(template_labels: &Value, errors: &mut ErrorList) {
    errors.invalid(
        &SPEC.field("template.metadata.labels"),
        template_labels.clone(),
        "`selector` does not match template `labels`",
    );
}

/// The template of pods that run for ever. `kind` names the workload in upstream's message.
pub(super) fn template(spec: &Value, kind: &str, errors: &mut ErrorList) {
    let path = SPEC.field("template");
    validate_template(spec.at("template"), &path, errors);
    let policy = spec.text("template.spec.restartPolicy");
    if policy != "Always" {
        errors.not_supported(&path.field("spec.restartPolicy"), policy, &["Always"]);
    }
    if spec.has("template.spec.activeDeadlineSeconds") {
        errors.forbidden(
            &path.field("spec.activeDeadlineSeconds"),
            &format!("activeDeadlineSeconds in {kind} is not Supported"),
        );
    }
}

/// A number of pods or a percentage of them.
pub(super) fn count_or_percent(value: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    match value {
        Value::Number(number) if number.as_i64().is_some_and(|number| number < 0) => {
            errors.invalid(path, value.clone(), NOT_NEGATIVE);
        }
        Value::String(text) => errors.invalid_all(path, text, edgek_api::name::percent(text)),
        _ => {}
    }
}

/// A percentage that is not more than everything.
pub(super) fn at_most_all(value: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    if value.as_str().and_then(percent).is_some_and(|percent| percent > 100) {
        errors.invalid(path, value.clone(), "must not be greater than 100%");
    }
}

/// Whether a number or percentage is nothing.
pub(super) fn is_none(value: &Value) -> bool {
    is_empty(value) || value.as_str().and_then(percent) == Some(0)
}

fn percent(text: &str) -> Option<u32> {
    let digits = text.strip_suffix('%')?;
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
}
