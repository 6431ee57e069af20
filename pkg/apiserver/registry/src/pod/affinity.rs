//! Validation of a pod's affinities: to nodes, and to and against other pods.

use edgek_api::name;
use serde_json::Value;

use crate::labels;
use edgek_api::field::{ErrorList, Path};
use edgek_apiserver_admission::fields::Fields;

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";

/// Validates the `affinity` of a pod spec.
pub(super) fn validate(affinity: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let nodes = affinity.at("nodeAffinity");
    let path_of_nodes = path.field("nodeAffinity");
    if nodes.has(REQUIRED) {
        node_selector(nodes.at(REQUIRED), &path_of_nodes.field(REQUIRED), errors);
    }
    let list = path_of_nodes.field(PREFERRED);
    for (index, term) in nodes.items(PREFERRED).iter().enumerate() {
        let item = list.index(index);
        weight(term, &item, errors);
        node_term(term.at("preference"), &item.field("preference"), errors);
    }
    for kind in ["podAffinity", "podAntiAffinity"] {
        let path = path.field(kind);
        let list = path.field(REQUIRED);
        for (index, term) in affinity.at(kind).items(REQUIRED).iter().enumerate() {
            pod_term(term, &list.index(index), errors);
        }
        let list = path.field(PREFERRED);
        for (index, term) in affinity.at(kind).items(PREFERRED).iter().enumerate() {
            let item = list.index(index);
            weight(term, &item, errors);
            pod_term(term.at("podAffinityTerm"), &item.field("podAffinityTerm"), errors);
        }
    }
}

/// Validates a `NodeSelector`.
fn node_selector(selector: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let list = path.field("nodeSelectorTerms");
    if selector.items("nodeSelectorTerms").is_empty() {
        errors.required(&list, "must have at least one node selector term");
    }
    for (index, term) in selector.items("nodeSelectorTerms").iter().enumerate() {
        node_term(term, &list.index(index), errors);
    }
}

fn weight(term: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let weight = term.number("weight").unwrap_or_default();
    if !(1..=100).contains(&weight) {
        errors.invalid(&path.field("weight"), weight, "must be in the range 1-100");
    }
}

fn node_term(term: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let list = path.field("matchExpressions");
    for (index, requirement) in term.items("matchExpressions").iter().enumerate() {
        let item = list.index(index);
        node_requirement(requirement, &item, errors);
        let key = requirement.text("key");
        errors.invalid_all(&item.field("key"), key, name::qualified_name(key));
    }
    let list = path.field("matchFields");
    for (index, requirement) in term.items("matchFields").iter().enumerate() {
        let item = list.index(index);
        let key = requirement.text("key");
        if key != "metadata.name" {
            errors.invalid(&item.field("key"), key, "not a valid field selector key");
        }
        match requirement.text("operator") {
            "In" | "NotIn" if requirement.items("values").len() != 1 => errors.required(
                &item.field("values"),
                "must be only one value when `operator` is 'In' or 'NotIn' for node field selector",
            ),
            "In" | "NotIn" => {}
            other => errors.invalid(&item.field("operator"), other, "not a valid selector operator"),
        }
    }
}

fn node_requirement(requirement: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let values = requirement.items("values");
    let path_of_values = path.field("values");
    match requirement.text("operator") {
        "In" | "NotIn" if values.is_empty() => {
            errors.required(&path_of_values, "must be specified when `operator` is 'In' or 'NotIn'");
        }
        "Exists" | "DoesNotExist" if !values.is_empty() => errors
            .forbidden(&path_of_values, "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"),
        "Gt" | "Lt" if values.len() != 1 => {
            errors
                .required(&path_of_values, "must be specified single value when `operator` is 'Lt' or 'Gt'");
        }
        "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt" => {}
        other => errors.invalid(&path.field("operator"), other, "not a valid selector operator"),
    }
}

fn pod_term(term: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    for field in ["labelSelector", "namespaceSelector"] {
        labels::validate_selector(term.at(field), &path.field(field), errors);
    }
    let namespaces = path.field("namespaces");
    for (index, namespace) in term.items("namespaces").iter().filter_map(Value::as_str).enumerate() {
        errors.invalid_all(&namespaces.index(index), namespace, name::dns1123_label(namespace));
    }
    let key = term.text("topologyKey");
    if key.is_empty() {
        errors.required(&path.field("topologyKey"), "can not be empty");
    }
    errors.invalid_all(&path.field("topologyKey"), key, name::qualified_name(key));
}
