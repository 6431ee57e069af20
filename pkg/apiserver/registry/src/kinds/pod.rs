//! Pods.

use serde_json::{Value, json};

use crate::pod::{Use, default_pod, validate_pod_update, validate_spec};
use crate::strategy::{Deleted, SPEC_AND_STATUS, Strategy};
use edgek_api::field::{ErrorList, Path};
use edgek_apiserver_admission::fields::Fields;

pub(super) const STRATEGY: Strategy = Strategy {
    default: default_pod,
    prepare_create,
    validate,
    validate_create,
    validate_update: validate_pod_update,
    grace,
    deleted: Deleted::Object,
    ..SPEC_AND_STATUS
};

const SPEC: Path<'static> = Path::Root("spec");

fn prepare_create(pod: &mut Value) {
    pod.set("status", json!({"phase": "Pending", "qosClass": quality(pod)}));
    if !pod.items("spec.schedulingGates").is_empty() {
        let condition = json!([{
            "type": "PodScheduled", "status": "False", "reason": "SchedulingGated",
            "message": "Scheduling is blocked due to non-empty scheduling gates",
        }]);
        pod.object_mut("status").set("conditions", condition);
    }
}

/// The quality of service class: how well a pod's resources are reserved.
fn quality(pod: &Value) -> &'static str {
    let containers = || pod.items("spec.containers").iter().chain(pod.items("spec.initContainers"));
    let value = |container: &Value, kind: &str, name: &str| {
        container
            .at("resources")
            .at(kind)
            .get(name)
            .and_then(crate::pod::quantity)
            .filter(|quantity| !quantity.is_zero())
    };
    let mut any = false;
    let mut guaranteed = true;
    for container in containers() {
        for name in ["cpu", "memory"] {
            let (request, limit) = (value(container, "requests", name), value(container, "limits", name));
            any |= request.is_some() || limit.is_some();
            guaranteed &= limit.is_some() && request == limit;
        }
    }
    match (any, guaranteed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
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
