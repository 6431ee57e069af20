//! Kinds that are served in several versions and stored in one: every version reads and writes the same object.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use serde_json::json;
use support::Test;

#[tokio::test]
async fn an_event_is_one_object_under_two_groups() {
    let test = Test::start().await;
    let regarding = json!({"kind": "Pod", "name": "p", "namespace": "a"});
    let event = json!({"metadata": {"name": "e"}, "regarding": regarding, "note": "n", "reason": "r"});
    let served = test.create("/apis/events.k8s.io/v1/namespaces/a/events", event).await;
    assert_eq!((&served["apiVersion"], &served["note"]), (&json!("events.k8s.io/v1"), &json!("n")));
    let core = test.get("/api/v1/namespaces/a/events/e").await;
    assert_eq!(
        (&core["apiVersion"], &core["message"], &core["involvedObject"]["name"]),
        (&json!("v1"), &json!("n"), &json!("p"))
    );
    let patched = test.merge("/apis/events.k8s.io/v1/namespaces/a/events/e", json!({"note": "m"})).await;
    assert_eq!(patched["note"], "m");
    let list = test.get("/apis/events.k8s.io/v1/namespaces/a/events").await;
    assert_eq!((&list["kind"], &list["items"][0]["note"]), (&json!("EventList"), &json!("m")));
}

/// The header with which kubectl asks for tables.
const TABLE: (&str, &str) = ("accept", "application/json;as=Table;v=v1;g=meta.k8s.io");

#[tokio::test]
async fn an_autoscaler_is_one_object_in_two_versions() {
    let test = Test::start().await;
    let path = |version: &str| format!("/apis/autoscaling/{version}/namespaces/a/horizontalpodautoscalers");
    let target = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"});
    let spec = json!({"maxReplicas": 3, "scaleTargetRef": target, "targetCPUUtilizationPercentage": 40});
    let body = json!({"metadata": {"name": "h"}, "spec": spec});
    let mut events = test.watch(&format!("{}?watch=1", path("v1")), &[]).await;
    test.create(&path("v1"), body).await;
    let utilization = async || {
        let newer = test.get(&format!("{}/h", path("v2"))).await;
        newer["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"].clone()
    };
    assert_eq!(utilization().await, 40);
    for (kind, patch) in [
        ("merge-patch", json!({"spec": {"targetCPUUtilizationPercentage": 50}})),
        ("strategic-merge-patch", json!({"spec": {"targetCPUUtilizationPercentage": 60}})),
        (
            "json-patch",
            json!([{"op": "replace", "path": "/spec/targetCPUUtilizationPercentage", "value": 70}]),
        ),
    ] {
        let kind = format!("application/{kind}+json");
        let path = format!("{}/h", path("v1"));
        let answer = test.send("PATCH", &path, &[("content-type", &kind)], patch.to_string()).await;
        assert_eq!(answer.code, 200, "{kind}: {}", answer.json());
    }
    assert_eq!(utilization().await, 70);
    for (kind, expected) in [("ADDED", 40), ("MODIFIED", 50), ("MODIFIED", 60), ("MODIFIED", 70)] {
        let (seen, object) = events.next().await.unwrap();
        assert_eq!((&*seen, &object["apiVersion"]), (kind, &json!("autoscaling/v1")));
        assert_eq!(object["spec"]["targetCPUUtilizationPercentage"], expected);
    }
    assert_eq!(test.send("DELETE", &format!("{}/h", path("v2")), &[], "").await.code, 200);
    assert_eq!(test.send("GET", &format!("{}/h", path("v1")), &[], "").await.code, 404);
}

#[tokio::test]
async fn tables_of_other_versions_show_the_same_cells() {
    let test = Test::start().await;
    let regarding = json!({"kind": "Pod", "name": "p", "namespace": "a"});
    let event = json!({"metadata": {"name": "e"}, "regarding": regarding, "note": "n", "reason": "r"});
    test.create("/apis/events.k8s.io/v1/namespaces/a/events", event).await;
    let target = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"});
    let spec = json!({"maxReplicas": 3, "scaleTargetRef": target, "targetCPUUtilizationPercentage": 40});
    let autoscaler = json!({"metadata": {"name": "h"}, "spec": spec});
    test.create("/apis/autoscaling/v1/namespaces/a/horizontalpodautoscalers", autoscaler).await;
    let cells = async |group: &str, plural: &str| {
        let path = format!("/{group}/namespaces/a/{plural}?includeObject=Object");
        let table = test.send("GET", &path, &[TABLE], "").await.json();
        assert_eq!(
            table["rows"][0]["object"]["apiVersion"],
            group.trim_start_matches("apis/").trim_start_matches("api/")
        );
        table["rows"][0]["cells"].clone()
    };
    let events = cells("apis/events.k8s.io/v1", "events").await;
    assert_eq!(events[3], "pod/p");
    assert_eq!(events, cells("api/v1", "events").await);
    let autoscalers = cells("apis/autoscaling/v1", "horizontalpodautoscalers").await;
    assert_eq!(autoscalers[2], "cpu: <unknown>/40%");
    assert_eq!(autoscalers, cells("apis/autoscaling/v2", "horizontalpodautoscalers").await);
}
