//! Ingresses and their classes.

use serde_json::Value;

use super::workload::SPEC;
use crate::strategy::{Generation, PLAIN, SPEC_AND_STATUS, Strategy};
use edgek_api::field::ErrorList;
use edgek_apiserver_admission::fields::Fields;

pub(super) const STRATEGY: Strategy = Strategy { validate, ..SPEC_AND_STATUS };
pub(super) const CLASS: Strategy =
    Strategy { default: default_class, generation: Generation::Counted, ..PLAIN };

fn default_class(class: &mut Value) {
    if let Some(parameters) = class.at_mut("spec.parameters") {
        parameters.default("scope", "Cluster");
    }
}

fn validate(ingress: &Value, errors: &mut ErrorList) {
    let spec = ingress.at("spec");
    if spec.items("rules").is_empty() && !spec.has("defaultBackend") {
        errors.invalid(
            &SPEC,
            Value::Array(Vec::new()),
            "either `defaultBackend` or `rules` must be specified",
        );
    }
    let rules = SPEC.field("rules");
    for (index, rule) in spec.items("rules").iter().enumerate() {
        let rule_path = rules.index(index);
        let paths = rule_path.field("http.paths");
        for (index, path) in rule.items("http.paths").iter().enumerate() {
            let item = paths.index(index);
            let kind = path.text("pathType");
            match kind {
                "" => errors.required(&item.field("pathType"), "pathType must be specified"),
                "Exact" | "Prefix" | "ImplementationSpecific" => {}
                other => errors.not_supported(
                    &item.field("pathType"),
                    other,
                    &["Exact", "ImplementationSpecific", "Prefix"],
                ),
            }
            let value = path.text("path");
            if matches!(kind, "Exact" | "Prefix") && !value.starts_with('/') {
                errors.invalid(&item.field("path"), value, "must be an absolute path");
            }
        }
    }
}
