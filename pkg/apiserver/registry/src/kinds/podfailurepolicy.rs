//! The `podFailurePolicy` of jobs: what a failed pod means for its job.

use std::collections::BTreeSet;

use edgek_api::field::{ErrorList, Path};
use edgek_api::{name, quote};
use serde_json::Value;

use edgek_apiserver_admission::fields::Fields;

const MAX_RULES: usize = 20;
const MAX_CONDITIONS: usize = 20;
const MAX_EXIT_CODES: usize = 255;

const ACTIONS: [&str; 4] = ["Count", "FailIndex", "FailJob", "Ignore"];
const OPERATORS: [&str; 2] = ["In", "NotIn"];
const STATUSES: [&str; 3] = ["False", "True", "Unknown"];

/// Validates the policy of a job's spec, at its path.
pub(super) fn validate(spec: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let rules = path.field("rules");
    let given = spec.items("podFailurePolicy.rules");
    if given.len() > MAX_RULES {
        errors.too_many(&rules, given.len(), MAX_RULES);
    }
    for (index, rule) in given.iter().enumerate() {
        self::rule(rule, spec, &rules.index(index), errors);
    }
}

fn rule(rule: &Value, spec: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    one_of(rule, "action", &ACTIONS, path, errors);
    if rule.text("action") == "FailIndex" && !spec.has("backoffLimitPerIndex") {
        let detail = "requires the backoffLimitPerIndex to be set";
        errors.invalid(&path.field("action"), rule.text("action"), detail);
    }
    let codes = rule.at("onExitCodes");
    if !codes.is_null() {
        exit_codes(codes, spec, &path.field("onExitCodes"), errors);
    }
    let conditions = rule.items("onPodConditions");
    pod_conditions(conditions, &path.field("onPodConditions"), errors);
    match (codes.is_null(), conditions.is_empty()) {
        (false, false) => errors
            .invalid_as_a_whole(path, "specifying both OnExitCodes and OnPodConditions is not supported"),
        (true, true) => {
            errors.invalid_as_a_whole(path, "specifying one of OnExitCodes and OnPodConditions is required");
        }
        _ => {}
    }
}

/// A field that must be set to one of a few values; when it is not, the error says which.
fn one_of(value: &Value, field: &str, supported: &[&str], path: &Path<'_>, errors: &mut ErrorList) {
    match value.text(field) {
        "" => {
            let listed: Vec<String> = supported.iter().map(|value| quote::quote(value)).collect();
            errors.required(&path.field(field), &format!("valid values: [{}]", listed.join(" ")));
        }
        set if supported.contains(&set) => {}
        other => errors.not_supported(&path.field(field), other, supported),
    }
}

fn pod_conditions(conditions: &[Value], path: &Path<'_>, errors: &mut ErrorList) {
    if conditions.len() > MAX_CONDITIONS {
        errors.too_many(path, conditions.len(), MAX_CONDITIONS);
    }
    for (index, condition) in conditions.iter().enumerate() {
        let path = path.index(index);
        let kind = condition.text("type");
        errors.invalid_all(&path.field("type"), kind, name::qualified_name(kind));
        one_of(condition, "status", &STATUSES, &path, errors);
    }
}

fn exit_codes(codes: &Value, spec: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    one_of(codes, "operator", &OPERATORS, path, errors);
    if let Some(container) = codes.at("containerName").as_str() {
        let pod = spec.at("template.spec");
        let mut containers = pod.items("containers").iter().chain(pod.items("initContainers"));
        if containers.all(|other| other.text("name") != container) {
            let detail = "must be one of the container or initContainer names in the pod template";
            errors.invalid(&path.field("containerName"), container, detail);
        }
    }
    let values_path = path.field("values");
    let values = codes.items("values");
    match values.len() {
        0 => errors.invalid(&values_path, values.to_vec(), "at least one value is required"),
        count if count > MAX_EXIT_CODES => errors.too_many(&values_path, count, MAX_EXIT_CODES),
        _ => {}
    }
    let numbers: Vec<i64> = values.iter().filter_map(Value::as_i64).collect();
    let mut seen = BTreeSet::new();
    for (index, number) in numbers.iter().enumerate() {
        if codes.text("operator") == "In" && *number == 0 {
            errors.invalid(&values_path.index(index), 0, "must not be 0 for the In operator");
        }
        if !seen.insert(number) {
            errors.duplicate(&values_path.index(index), *number);
        }
    }
    if !numbers.is_sorted() {
        errors.invalid(&values_path, values.to_vec(), "must be ordered");
    }
}
