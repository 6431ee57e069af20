//! Conversion between the version of a kind that is served and the one in which its objects are stored, for the few
//! built-in kinds that have two: events and horizontal pod autoscalers.

use edgek_api::resource::Resource;
use edgek_apiserver_admission::fields::Fields;
use serde_json::{Value, json};

/// The fields of an event in `events.k8s.io/v1`, and in `v1`.
const EVENT: [(&str, &str); 8] = [
    ("regarding", "involvedObject"),
    ("note", "message"),
    ("reportingController", "reportingComponent"),
    ("deprecatedSource", "source"),
    ("deprecatedFirstTimestamp", "firstTimestamp"),
    ("deprecatedLastTimestamp", "lastTimestamp"),
    ("deprecatedCount", "count"),
    ("reportingInstance", "reportingInstance"),
];

/// Turns an object of a resource into the form in which it is stored.
pub(crate) fn to_stored(resource: &Resource, object: &mut Value) {
    let Some((group, version)) = &resource.stored_as else { return };
    match &*resource.kind {
        "Event" => rename(object, EVENT.iter().copied()),
        "HorizontalPodAutoscaler" => autoscaler_to_v2(object),
        _ => {}
    }
    object.set("apiVersion", edgek_api::resource::api_version(group, version));
}

/// Turns a stored object into the form in which a resource serves it.
pub(crate) fn to_served(resource: &Resource, object: &mut Value) {
    if resource.stored_as.is_none() {
        return;
    }
    match &*resource.kind {
        "Event" => rename(object, EVENT.iter().map(|(served, stored)| (*stored, *served))),
        "HorizontalPodAutoscaler" => autoscaler_to_v1(object),
        _ => {}
    }
    object.set("apiVersion", resource.api_version());
}

fn rename<'a>(object: &mut Value, names: impl Iterator<Item = (&'a str, &'a str)>) {
    for (from, to) in names {
        if let Some(value) = object.remove(from) {
            object.set(to, value);
        }
    }
}

/// Whether a metric, or the state of one, is the processor use that `autoscaling/v1` knows.
fn is_cpu(metric: &Value) -> bool {
    metric.text("type") == "Resource" && metric.text("resource.name") == "cpu"
}

fn autoscaler_to_v2(object: &mut Value) {
    let spec = object.object_mut("spec");
    if let Some(target) = spec.remove("targetCPUUtilizationPercentage") {
        let target = json!({"averageUtilization": target, "type": "Utilization"});
        spec.set("metrics", json!([{"resource": {"name": "cpu", "target": target}, "type": "Resource"}]));
    }
    let status = object.object_mut("status");
    if let Some(current) = status.remove("currentCPUUtilizationPercentage") {
        let current = json!({"averageUtilization": current});
        status.set(
            "currentMetrics",
            json!([{"resource": {"current": current, "name": "cpu"}, "type": "Resource"}]),
        );
    }
}

fn autoscaler_to_v1(object: &mut Value) {
    let spec = object.object_mut("spec");
    let target = spec.items("metrics").iter().find(|metric| is_cpu(metric));
    let target = target.and_then(|metric| metric.number("resource.target.averageUtilization"));
    spec.remove("metrics");
    spec.remove("behavior");
    if let Some(target) = target {
        spec.set("targetCPUUtilizationPercentage", target);
    }
    let status = object.object_mut("status");
    let current = status.items("currentMetrics").iter().find(|metric| is_cpu(metric));
    let current = current.and_then(|metric| metric.number("resource.current.averageUtilization"));
    status.remove("currentMetrics");
    status.remove("conditions");
    if let Some(current) = current {
        status.set("currentCPUUtilizationPercentage", current);
    }
}

#[cfg(test)]
mod tests {
    use edgek_api::resource::Catalog;

    use super::*;

    fn check(group: &str, version: &str, plural: &str, served: &Value, stored: &Value) {
        let resource = Catalog::builtin().find(group, version, plural).unwrap();
        let mut object = served.clone();
        to_stored(resource, &mut object);
        assert_eq!(object, *stored);
        to_served(resource, &mut object);
        assert_eq!(object, *served);
    }

    #[test]
    fn events_and_autoscalers_come_back_as_they_were() {
        check(
            "events.k8s.io",
            "v1",
            "events",
            &json!({"apiVersion": "events.k8s.io/v1", "kind": "Event", "regarding": {"name": "p"}, "note": "n", "reason": "r"}),
            &json!({"apiVersion": "v1", "kind": "Event", "involvedObject": {"name": "p"}, "message": "n", "reason": "r"}),
        );
        let metrics = json!([{"resource": {"name": "cpu", "target": {"averageUtilization": 80, "type": "Utilization"}}, "type": "Resource"}]);
        check(
            "autoscaling",
            "v1",
            "horizontalpodautoscalers",
            &json!({"apiVersion": "autoscaling/v1", "spec": {"maxReplicas": 3, "targetCPUUtilizationPercentage": 80}, "status": {}}),
            &json!({"apiVersion": "autoscaling/v2", "spec": {"maxReplicas": 3, "metrics": metrics}, "status": {}}),
        );
    }
}
