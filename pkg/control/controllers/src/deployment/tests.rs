//! How a deployment's sets grow and shrink, and what its status says meanwhile.

use k8s_openapi::api::apps::v1::DeploymentStatus;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::*;

fn of<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

fn deployment(spec: &Value) -> Deployment {
    let mut deployment = json!({
        "metadata": {"name": "web", "namespace": "a", "uid": "web", "generation": 2, "annotations": {"note": "x"}},
        "spec": {
            "replicas": 10, "selector": {"matchLabels": {"app": "web"}}, "progressDeadlineSeconds": 60,
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "new"}]}},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 3, "maxUnavailable": 2}},
        },
    });
    for (name, value) in spec.as_object().unwrap() {
        deployment["spec"][name] = value.clone();
    }
    of(deployment)
}

/// A set of this name that wants and has so many pods.
fn set(name: &str, wanted: i32, available: i32) -> ReplicaSet {
    of(json!({
        "metadata": {
            "name": name, "uid": name, "creationTimestamp": format!("2026-01-01T00:00:0{}Z", name.len()),
            "annotations": {"deployment.kubernetes.io/desired-replicas": "10", "deployment.kubernetes.io/max-replicas": "13"},
        },
        "spec": {"replicas": wanted, "selector": {}, "template": {"spec": {"containers": [{"name": "c", "image": name}]}}},
        "status": {"replicas": wanted, "readyReplicas": available, "availableReplicas": available},
    }))
}

fn scales(list: &[(&str, i32)]) -> Vec<Scale> {
    list.iter().map(|(set, to)| Scale { set: (*set).to_owned(), to: *to }).collect()
}

#[test]
fn a_rolling_update_goes_as_far_as_surge_and_availability_allow() {
    let sizes = Sizes::of(&deployment(&json!({})));
    // (new: wanted, available), (old: wanted, available), the next step
    let cases: &[(_, _, &[(&str, i32)])] = &[
        ((0, 0), (10, 10), &[("new", 3)]),
        ((3, 0), (10, 10), &[("old", 8)]),
        ((3, 0), (8, 8), &[("new", 5)]),
        ((5, 0), (8, 8), &[]),
        ((5, 2), (8, 8), &[("old", 6)]),
        ((5, 0), (8, 5), &[]),
        ((10, 10), (3, 3), &[("old", 0)]),
        ((3, 3), (10, 4), &[("old", 5)]),
        ((12, 12), (0, 0), &[("new", 10)]),
        ((10, 10), (0, 0), &[]),
    ];
    for (new, old, expected) in cases {
        let step = sizes::roll(&sizes, &set("new", new.0, new.1), &[set("old", old.0, old.1)]);
        assert_eq!(step, scales(expected), "new {new:?}, old {old:?}");
    }
}

#[test]
fn percentages_round_towards_more_pods_and_always_allow_progress() {
    for (replicas, surge, unavailable, expected) in [
        (10, json!("25%"), json!("25%"), (3, 2)),
        (1, json!("25%"), json!("25%"), (1, 0)),
        (3, json!("0%"), json!("10%"), (0, 1)),
        (2, json!(1), json!(5), (1, 2)),
    ] {
        let rolling = json!({"maxSurge": surge, "maxUnavailable": unavailable});
        let spec =
            json!({"replicas": replicas, "strategy": {"type": "RollingUpdate", "rollingUpdate": rolling}});
        let sizes = Sizes::of(&deployment(&spec));
        assert_eq!((sizes.surge, sizes.unavailable), expected, "{replicas} replicas, {rolling}");
    }
}

#[test]
fn another_size_is_spread_over_the_sets_in_proportion() {
    // In the midst of a rollout of 10 with a surge of 3: 5 new ones, 8 old ones.
    let cases: &[(i32, &[(&str, i32)])] =
        &[(20, &[("old", 14), ("new", 9)]), (5, &[("old", 5), ("new", 3)]), (0, &[("old", 0), ("new", 0)])];
    for (replicas, expected) in cases {
        let sizes = Sizes::of(&deployment(&json!({"replicas": replicas})));
        let (new, old) = (set("new", 5, 5), [set("old", 8, 8)]);
        assert!(sizes::is_scaling(&sizes, Some(&new), &old));
        assert_eq!(sizes::spread(&sizes, Some(&new), &old), scales(expected), "{replicas} replicas");
    }
    let sizes = Sizes::of(&deployment(&json!({"replicas": 4})));
    let only = set("new", 10, 10);
    assert_eq!(sizes::spread(&sizes, Some(&only), &[set("old", 0, 0)]), scales(&[("new", 4)]));
    let same = Sizes::of(&deployment(&json!({})));
    assert!(!sizes::is_scaling(&same, Some(&only), &[]));
}

#[test]
fn the_new_set_continues_the_history() {
    let deployment = deployment(&json!({}));
    let mut old = set("old", 10, 10);
    old.metadata.annotations.as_mut().unwrap().insert(revision::REVISION.into(), "4".into());
    let new = revision::new_set(&deployment, &[old.clone()]);
    let hash = new.metadata.labels.as_ref().unwrap()["pod-template-hash"].clone();
    assert_eq!(new.metadata.name, Some(format!("web-{hash}")));
    assert_eq!(new.spec.selector.match_labels.as_ref().unwrap()["pod-template-hash"], hash);
    assert_eq!(new.spec.replicas, Some(3));
    assert_eq!(
        json!(new.metadata.annotations),
        json!({"note": "x", revision::REVISION: "5", revision::DESIRED: "10", revision::MAX: "13"})
    );
    let (found, rest) = revision::split(&deployment, vec![new.clone(), old.clone()]);
    assert_eq!((found, rest), (Some(new.clone()), vec![old]));

    // The template of an earlier revision again: its set becomes the newest, and remembers what it was.
    let mut again = new;
    revision::annotate(&deployment, &mut again, 7);
    let annotations = again.metadata.annotations.unwrap();
    assert_eq!(annotations[revision::REVISION], "7");
    assert_eq!(annotations["deployment.kubernetes.io/revision-history"], "5");
}

#[test]
fn only_the_oldest_sets_without_pods_are_given_up() {
    let numbered = |name: &str, revision: &str, wanted| {
        let mut set = set(name, wanted, wanted);
        set.metadata.annotations.as_mut().unwrap().insert(revision::REVISION.into(), revision.into());
        set
    };
    let old = [numbered("c", "3", 0), numbered("a", "1", 0), numbered("b", "2", 1), numbered("d", "4", 0)];
    let names = |limit: i32| -> Vec<_> {
        let surplus = revision::surplus(&deployment(&json!({"revisionHistoryLimit": limit})), &old);
        surplus.into_iter().map(|set| set.metadata.name.unwrap()).collect()
    };
    assert_eq!(names(10), [""; 0]);
    assert_eq!(names(2), ["a"]);
    assert_eq!(names(0), ["a", "c", "d"]);
}

/// The conditions' types, values, reasons and messages, after a reconcile at this minute.
fn conditions(deployment: &Deployment, new: &ReplicaSet, at: &str) -> (DeploymentStatus, Vec<String>) {
    let now: Timestamp = at.parse().unwrap();
    let mut status = progress::status(deployment, Some(new), &[], now);
    progress::note_progress(deployment, &mut status, Some(new), &[], now);
    let text = status.conditions.iter().flatten().map(|it| {
        let part = |value: &Option<String>| value.clone().unwrap_or_default();
        format!("{}={} {}: {}", part(&it.type_), part(&it.status), part(&it.reason), part(&it.message))
    });
    let text = text.collect();
    (status, text)
}

#[test]
fn the_conditions_tell_progress_a_missed_deadline_and_success() {
    let mut web = deployment(&json!({}));
    let start = "2026-01-01T00:00:00Z";
    progress::note_new_set(&mut web, "new", NewSet::Created, start.parse().unwrap());
    let lacking =
        "Available=False MinimumReplicasUnavailable: Deployment does not have minimum availability.";
    let having = "Available=True MinimumReplicasAvailable: Deployment has minimum availability.";

    let (status, text) = conditions(&web, &set("new", 10, 0), start);
    assert_eq!(text, [lacking, "Progressing=True ReplicaSetUpdated: ReplicaSet \"new\" is progressing."]);
    web.status = Some(status);

    // Nothing more happens: the deadline is a minute after the last progress.
    let later = "2026-01-01T00:00:50Z".parse().unwrap();
    let status = web.status.clone().unwrap();
    assert_eq!(progress::next_check(&web, &status, later), Some(std::time::Duration::from_secs(11)));
    assert_eq!(conditions(&web, &set("new", 10, 0), "2026-01-01T00:00:50Z").1, text);
    let (status, text) = conditions(&web, &set("new", 10, 0), "2026-01-01T00:01:01Z");
    let late = "Progressing=False ProgressDeadlineExceeded: ReplicaSet \"new\" has timed out progressing.";
    assert_eq!(text, [lacking, late]);
    web.status = Some(status);

    let (status, text) = conditions(&web, &set("new", 10, 10), "2026-01-01T00:02:00Z");
    let done = "Progressing=True NewReplicaSetAvailable: ReplicaSet \"new\" has successfully progressed.";
    assert_eq!(text, [having, done]);
    assert_eq!(progress::next_check(&web, &status, later), None);
}

#[test]
fn nobody_waits_for_progress_while_a_deployment_is_paused() {
    let now = "2026-01-01T00:00:00Z".parse().unwrap();
    let mut web = deployment(&json!({"paused": true}));
    let reasons = |web: &Deployment| -> Vec<String> {
        let conditions = web.status.clone().unwrap_or_default().conditions.unwrap_or_default();
        conditions.into_iter().filter_map(|condition| condition.reason).collect()
    };
    progress::note_pause(&mut web, now);
    assert_eq!(reasons(&web), ["DeploymentPaused"]);
    web.spec.paused = None;
    progress::note_pause(&mut web, now);
    assert_eq!(reasons(&web), ["DeploymentResumed"]);
}
