//! Which pods a set creates, deletes, adopts and releases, and what it says about them.

use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetStatus};
use k8s_openapi::api::core::v1::{Pod, ReplicationController};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::*;

fn of<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

fn now() -> Timestamp {
    "2026-01-01T01:00:00Z".parse().unwrap()
}

fn set(replicas: i32) -> ReplicaSet {
    of(json!({
        "metadata": {"name": "web", "namespace": "a", "uid": "set", "generation": 3},
        "spec": {
            "replicas": replicas, "minReadySeconds": 10, "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": []}},
        },
    }))
}

/// A running pod on a node of its own that is ready since midnight, with these changes (a merge patch's members).
fn pod(name: &str, changes: Value) -> Pod {
    let mut pod = json!({
        "metadata": {"name": name, "uid": name, "labels": {"app": "web"}, "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"nodeName": name, "containers": []},
        "status": {"phase": "Running", "conditions": [
            {"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"},
        ]},
    });
    merge(&mut pod, changes);
    of(pod)
}

fn merge(into: &mut Value, changes: Value) {
    match changes {
        Value::Object(members) => members.into_iter().for_each(|(name, value)| merge(&mut into[name], value)),
        other => *into = other,
    }
}

#[test]
fn the_pod_that_is_missed_least_goes_first() {
    let ready_at = |at: &str| json!({"status": {"conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": at}]}});
    let cheaper = [
        json!({"spec": {"nodeName": ""}}),
        json!({"status": {"phase": "Pending"}}),
        json!({"status": {"conditions": []}}),
        json!({"metadata": {"annotations": {"controller.kubernetes.io/pod-deletion-cost": "-1"}}}),
        json!({"spec": {"nodeName": "full"}}),
        ready_at("2026-01-01T00:59:00Z"),
        json!({"status": {"containerStatuses": [
            {"name": "c", "image": "", "imageID": "", "ready": true, "restartCount": 4},
        ]}}),
        json!({"metadata": {"creationTimestamp": "2026-01-01T00:59:00Z"}}),
    ];
    for change in cheaper {
        let other = pod("other", json!({"spec": {"nodeName": "full"}}));
        let active = [pod("kept", json!({})), pod("missed-least", change.clone())];
        let related = [active[0].clone(), active[1].clone(), other];
        let plan = plan(1, &active, &related, now());
        assert_eq!(plan, Plan { creations: 0, deletions: vec![active[1].clone()] }, "{change}");
    }
}

#[test]
fn the_number_of_pods_becomes_the_one_wanted() {
    let active = [pod("a", json!({})), pod("b", json!({}))];
    for (replicas, creations, deletions) in
        [(0, 0, 2), (1, 0, 1), (2, 0, 0), (5, 3, 0), (9999, 500, 0), (-1, 0, 2)]
    {
        let plan = plan(replicas, &active, &active, now());
        assert_eq!((plan.creations, plan.deletions.len()), (creations, deletions), "{replicas} wanted");
    }
}

#[test]
fn pods_are_adopted_and_released_by_their_labels() {
    let owner = json!([{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": "set", "controller": true}]);
    let owned = pod("owned", json!({"metadata": {"ownerReferences": owner}}));
    let strayed = pod("strayed", json!({"metadata": {"ownerReferences": owner, "labels": {"app": "old"}}}));
    let orphan = pod("orphan", json!({}));
    let stranger = pod("stranger", json!({"metadata": {"labels": {"app": "db"}}}));
    let finished = pod("finished", json!({"status": {"phase": "Failed"}}));
    let all = vec![owned.clone(), strayed.clone(), orphan.clone(), stranger, finished];
    let expected =
        claim::Claims { owned: vec![owned.clone()], adopted: vec![orphan], released: vec![strayed] };
    assert_eq!(claim::claims(&set(1), all.clone()), expected);
    let mut ending = set(1);
    ending.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now()));
    assert_eq!(claim::claims(&ending, all), claim::Claims { owned: vec![owned], ..claim::Claims::default() });
}

#[test]
fn the_status_counts_ready_and_available_pods_apart_and_keeps_the_first_failure() {
    let fresh = json!({"status": {"conditions": [
        {"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:59:57Z"},
    ]}});
    let active = [
        pod("available", json!({})),
        pod("ready", fresh),
        pod("starting", json!({"status": {"conditions": []}})),
    ];
    let status = status::status(&set(4), &active, 1, Some("quota"), now());
    assert_eq!(
        serde_json::to_value(&status).unwrap(),
        json!({
            "replicas": 3, "fullyLabeledReplicas": 3, "readyReplicas": 2, "availableReplicas": 1,
            "terminatingReplicas": 1, "observedGeneration": 3,
            "conditions": [{
                "type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "quota",
                "lastTransitionTime": "2026-01-01T01:00:00Z",
            }],
        })
    );
    let next = status::next_available(&set(4), &active, now());
    assert_eq!(next, Some(std::time::Duration::from_secs(7)));
    let mut failed = set(4);
    failed.status = Some(status.clone());
    let again = status::status(&failed, &active, 1, Some("another"), now());
    assert_eq!(again.conditions, status.conditions);
    assert_eq!(status::status(&failed, &active, 1, None, now()).conditions, None);
}

#[test]
fn a_replication_controller_is_handled_as_the_set_that_says_the_same() {
    let spec = json!({
        "replicas": 2, "minReadySeconds": 10, "selector": {"app": "web"},
        "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": []}},
    });
    let metadata = json!({"name": "web", "namespace": "a", "uid": "set", "generation": 3});
    let controller: ReplicationController = of(json!({"metadata": metadata, "spec": spec}));
    assert_eq!(controller.to_set(), set(2));

    let pods = [pod("a", json!({}))];
    let status = status::status(&set(2), &pods, 0, Some("no room"), now());
    let told = controller.with_status(ReplicaSetStatus { terminating_replicas: None, ..status.clone() });
    assert_eq!(json!(told.status)["conditions"][0]["reason"], "FailedCreate");
    assert_eq!(told.to_set().status, Some(ReplicaSetStatus { terminating_replicas: None, ..status }));
    let of_it = new_pod::<ReplicationController>(&set(2)).metadata.owner_references.unwrap_or_default();
    assert_eq!((&*of_it[0].api_version, &*of_it[0].kind), ("v1", "ReplicationController"));
}
