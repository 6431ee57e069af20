//! Pods and containers for tests.

use edgek_node_runtime::{Container as Run, ContainerId, ExitReason, PodRef, Signal, State, User};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

/// A pod `web` with this specification.
pub(crate) fn pod(spec: &Value) -> Pod {
    let metadata =
        json!({"name": "web", "namespace": "default", "uid": "u1", "resourceVersion": "1", "generation": 1});
    serde_json::from_value(json!({"metadata": metadata, "spec": spec})).unwrap()
}

/// A run of a container, `name/attempt=state`, where the state is `created`, `running` or an exit code.
pub(crate) fn run(text: &str) -> Run {
    let (name, state) = text.split_once('=').unwrap();
    let (name, attempt) = name.split_once('/').unwrap_or((name, "0"));
    let at = Timestamp::UNIX_EPOCH;
    let state = match state {
        "created" => State::Created,
        "running" => State::Running { pid: 7, started_at: at },
        code => State::Exited {
            code: code.parse().unwrap(),
            reason: if code == "0" { ExitReason::Completed } else { ExitReason::Error },
            message: String::new(),
            started_at: Some(at),
            finished_at: at,
        },
    };
    Run {
        id: ContainerId::from(format!("{name}-{attempt}")),
        pod: PodRef { uid: "u1".to_owned(), namespace: "default".to_owned(), name: "web".to_owned() },
        name: name.to_owned(),
        attempt: attempt.parse().unwrap(),
        labels: Default::default(),
        image: "busybox".to_owned(),
        image_id: "sha256:1".to_owned(),
        user: User::default(),
        stop_signal: Signal::TERM,
        log: None,
        created_at: at,
        state,
    }
}

/// A node whose files are below `root`.
pub(crate) fn config(root: &std::path::Path) -> crate::config::Config {
    crate::config::Config {
        node_name: "edge".to_owned(),
        node_ips: vec!["192.0.2.1".parse().unwrap()],
        root: root.join("kubelet"),
        logs: root.join("logs"),
        cgroup: "/kubepods".into(),
        cluster_dns: vec!["10.43.0.10".parse().unwrap()],
        cluster_domain: "cluster.local".to_owned(),
        resolv_conf: root.join("resolv.conf"),
        max_pods: 110,
        labels: Default::default(),
        taints: Vec::new(),
        port: 10250,
        thresholds: Default::default(),
        image_gc: Default::default(),
        version: "v1.37.0+edgek1".to_owned(),
    }
}

/// An image.
pub(crate) fn image() -> edgek_node_runtime::Image {
    edgek_node_runtime::Image {
        id: "sha256:1".to_owned(),
        tags: vec!["docker.io/library/busybox:latest".to_owned()],
        digests: Vec::new(),
        size: 1,
        user: String::new(),
        pinned: false,
    }
}
