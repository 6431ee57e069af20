//! Pods and nodes for tests.

use k8s_openapi::api::core::v1::Node;
use serde_json::{Value, json};

use crate::pod::PodInfo;

/// A pending pod `default/web` labelled `app=web` with this spec.
pub(crate) fn pod(spec: Value) -> PodInfo {
    named("web", spec)
}

/// A pod of this name.
pub(crate) fn named(name: &str, mut spec: Value) -> PodInfo {
    if spec.get("containers").is_none() {
        spec["containers"] = json!([{"name": "c"}]);
    }
    let meta = json!({"name": name, "namespace": "default", "labels": {"app": "web"}});
    PodInfo::new(serde_json::from_value(json!({"metadata": meta, "spec": spec})).unwrap())
}

/// A node with 2 CPUs, 4 GiB and room for 3 pods, labelled by its name and the zone `z`.
pub(crate) fn node(name: &str, spec: Value) -> Node {
    serde_json::from_value(json!({
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, "zone": "z", "cores": "4"}},
        "spec": spec,
        "status": {"allocatable": {"cpu": "2", "memory": "4Gi", "pods": "3"}},
    }))
    .unwrap()
}
