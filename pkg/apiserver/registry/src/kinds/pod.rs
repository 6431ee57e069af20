//! Pods.

use serde_json::{Value, json};

use crate::pod::{Use, default_pod, quality, validate_pod_update, validate_spec, warnings};
use crate::strategy::{Deleted, SPEC_AND_STATUS, Strategy};
use edgek_api::field::{ErrorList, Path};
use edgek_apiserver_admission::fields::Fields;

pub(super) const STRATEGY: Strategy = Strategy {
    default: default_pod,
    prepare_create,
    prepare_status,
    validate,
    validate_create,
    validate_update: validate_pod_update,
    warnings,
    grace,
    deleted: Deleted::Object,
    ..SPEC_AND_STATUS
};

const SPEC: Path<'static> = Path::Root("spec");

/// Changes of pods are made by programs, which read no warnings.
fn warnings(new: &Value, old: Option<&Value>) -> Vec<String> {
    if old.is_some() {
        return Vec::new();
    }
    let mut all = warnings::of_name(new, "the Pod's hostname");
    all.extend(warnings::of_spec(new.at("spec"), "spec"));
    all
}

fn prepare_create(pod: &mut Value) {
    pod.set("status", json!({"phase": "Pending", "qosClass": quality(pod)}));
    if !pod.items("spec.schedulingGates").is_empty() {
        let condition = json!([{
            "type": "PodScheduled", "status": "False", "reason": "SchedulingGated",
            "lastTransitionTime": edgek_api::time::now_seconds(),
            "message": "Scheduling is blocked due to non-empty scheduling gates",
        }]);
        pod.object_mut("status").set("conditions", condition);
    }
}

/// The quality of service class is decided once.
fn prepare_status(new: &mut Value, old: &Value) {
    new.object_mut("status").default_empty("qosClass", old.at("status.qosClass").clone());
}

fn validate(pod: &Value, errors: &mut ErrorList) {
    validate_spec(pod.at("spec"), &SPEC, Use::Pod, errors);
}

fn validate_create(pod: &Value, errors: &mut ErrorList) {
    if !pod.items("spec.ephemeralContainers").is_empty() {
        errors.forbidden(&SPEC.field("ephemeralContainers"), "cannot be set on create");
    }
    if !pod.text("spec.nodeName").is_empty() && !pod.items("spec.schedulingGates").is_empty() {
        errors
            .forbidden(&SPEC.field("nodeName"), "cannot be set until all schedulingGates have been cleared");
    }
}

/// A pod that runs or may soon run gets its grace period; one that is nowhere or has ended is deleted at once.
fn grace(pod: &Value, requested: Option<i64>) -> Option<i64> {
    let mut seconds = requested.or_else(|| pod.number("spec.terminationGracePeriodSeconds")).unwrap_or(0);
    if pod.text("spec.nodeName").is_empty() || matches!(pod.text("status.phase"), "Failed" | "Succeeded") {
        seconds = 0;
    }
    Some(if seconds < 0 { 1 } else { seconds })
}
