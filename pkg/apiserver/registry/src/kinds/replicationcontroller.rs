//! ReplicationControllers: the selector is a plain map of labels and defaults to those of the template.

use serde_json::Value;

use super::workload::{self, SPEC};
use crate::pod::default_template;
use crate::strategy::{Garbage, SPEC_AND_STATUS, Strategy};
use edgek_api::field::ErrorList;
use edgek_apiserver_admission::fields::{Fields, is_empty};

pub(super) const STRATEGY: Strategy =
    Strategy { default, warnings: workload::warnings, validate, garbage: Garbage::Orphan, ..SPEC_AND_STATUS };

fn default(controller: &mut Value) {
    let labels = controller.at("spec.template.metadata.labels").clone();
    if !is_empty(&labels) {
        controller.object_mut("spec").default_empty("selector", labels.clone());
        controller.object_mut("metadata").default_empty("labels", labels);
    }
    let spec = controller.object_mut("spec");
    spec.default("replicas", 1);
    if spec.has("template") {
        default_template(spec);
    }
}

fn validate(controller: &Value, errors: &mut ErrorList) {
    let spec = controller.at("spec");
    workload::not_negative(spec, &["minReadySeconds"], &SPEC, errors);
    if is_empty(spec.at("selector")) {
        errors.required(&SPEC.field("selector"), "");
    }
    workload::not_negative(spec, &["replicas"], &SPEC, errors);
    if !spec.has("template") {
        return errors.required(&SPEC.field("template"), "");
    }
    let labels = spec.at("template.metadata.labels");
    if spec.entries("selector").any(|(key, value)| labels.get(key) != Some(value)) {
        workload::mismatch(labels, errors);
    }
    workload::template(spec, "ReplicationController", errors);
}
