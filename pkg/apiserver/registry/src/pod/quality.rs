//! The quality of service class.

use serde_json::Value;

use super::resources::parse;
use edgek_apiserver_admission::fields::Fields;

/// How well a pod's resources are reserved.
pub(crate) fn quality(pod: &Value) -> &'static str {
    let value = |resources: &Value, kind: &str, name: &str| {
        resources.at(kind).get(name).and_then(parse).filter(|quantity| !quantity.is_zero())
    };
    let whole = pod.at("spec.resources");
    let resources: Vec<&Value> = if whole.has("requests") || whole.has("limits") {
        vec![whole]
    } else {
        let containers = pod.items("spec.containers").iter().chain(pod.items("spec.initContainers"));
        containers.map(|container| container.at("resources")).collect()
    };
    let mut any = false;
    let mut guaranteed = true;
    for resources in resources {
        for name in ["cpu", "memory"] {
            let (request, limit) = (value(resources, "requests", name), value(resources, "limits", name));
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
