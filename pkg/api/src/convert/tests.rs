//! Tests of `convert`.

use serde_json::json;

use super::*;
use crate::resource::Catalog;

fn to(group: &str, version: &str, plural: &str, object: &Value) -> Value {
    convert(object.clone(), Catalog::builtin().find(group, version, plural).unwrap()).unwrap()
}

#[test]
fn events_have_other_names_in_their_own_group() {
    let core = json!({
        "apiVersion": "v1", "kind": "Event", "metadata": {"name": "a"},
        "involvedObject": {"kind": "Pod", "name": "p"}, "message": "m", "reason": "r", "type": "Normal", "count": 2,
        "source": {"component": "c"}, "firstTimestamp": "2026-01-01T00:00:00Z", "lastTimestamp": "2026-01-01T00:01:00Z",
        "reportingComponent": "c", "reportingInstance": "",
    });
    let events = to("events.k8s.io", "v1", "events", &core);
    let expected = json!({
        "apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "a"},
        "regarding": {"kind": "Pod", "name": "p"}, "note": "m", "reason": "r", "type": "Normal", "deprecatedCount": 2,
        "deprecatedSource": {"component": "c"}, "deprecatedFirstTimestamp": "2026-01-01T00:00:00Z",
        "deprecatedLastTimestamp": "2026-01-01T00:01:00Z", "reportingController": "c",
    });
    assert_eq!(events, expected);
    assert_eq!(to("", "v1", "events", &events), core);
    assert_eq!(to("", "v1", "events", &core), core);
}

#[test]
fn an_autoscaler_survives_the_older_version() {
    let v2 = json!({
        "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "a", "annotations": {"x": "y"}},
        "spec": {
            "maxReplicas": 5, "minReplicas": 1, "scaleTargetRef": {"kind": "Deployment", "name": "d"},
            "behavior": {"scaleUp": {"selectPolicy": "Max"}},
            "metrics": [
                {"type": "Pods", "pods": {"metric": {"name": "q"}, "target": {"type": "AverageValue", "averageValue": "10"}}},
                {"type": "Object", "object": {"describedObject": {"kind": "K", "name": "n"}, "metric": {"name": "o"}, "target": {"type": "Value", "value": "1"}}},
                {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 70}}},
            ],
        },
        "status": {
            "desiredReplicas": 2, "currentReplicas": 2,
            "currentMetrics": [{"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": 50, "averageValue": "100m"}}}],
            "conditions": [{"type": "AbleToScale", "status": "True"}],
        },
    });
    let v1 = to("autoscaling", "v1", "horizontalpodautoscalers", &v2);
    assert_eq!(
        v1["spec"],
        json!({"maxReplicas": 5, "minReplicas": 1, "scaleTargetRef": {"kind": "Deployment", "name": "d"}, "targetCPUUtilizationPercentage": 70})
    );
    assert_eq!(
        v1["status"],
        json!({"desiredReplicas": 2, "currentReplicas": 2, "currentCPUUtilizationPercentage": 50})
    );
    let metrics = r#"[{"pods":{"metricName":"q","targetAverageValue":"10"},"type":"Pods"},{"object":{"metricName":"o","target":{"kind":"K","name":"n"},"targetValue":"1"},"type":"Object"}]"#;
    assert_eq!(v1["metadata"]["annotations"]["autoscaling.alpha.kubernetes.io/metrics"], metrics);
    assert_eq!(to("autoscaling", "v2", "horizontalpodautoscalers", &v1), v2);
}

#[test]
fn an_old_autoscaler_aims_at_its_use_of_cpu() {
    let old = |spec: Value| json!({"apiVersion": "autoscaling/v1", "kind": "HorizontalPodAutoscaler", "spec": spec});
    let target = |spec: Value| {
        let v2 = to("autoscaling", "v2", "horizontalpodautoscalers", &old(spec));
        v2["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"].clone()
    };
    assert_eq!(target(json!({"targetCPUUtilizationPercentage": 50})), 50);
    assert_eq!(target(json!({})), 80);
    let mut broken = old(json!({}));
    object::set(&mut broken, "metadata.annotations", json!({"autoscaling.alpha.kubernetes.io/metrics": "x"}));
    assert_eq!(
        to("autoscaling", "v2", "horizontalpodautoscalers", &broken)["spec"]["metrics"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
}
