//! Defaults of a pod spec and its parts.

use serde_json::{Value, json};

use super::resources::parse;
use edgek_api::quantity::Quantity;
use edgek_apiserver_admission::fields::Fields;

/// The lists of containers a pod spec has.
pub(super) const CONTAINER_LISTS: [&str; 3] = ["containers", "initContainers", "ephemeralContainers"];

/// Defaults a `Pod`: those of its spec, and those that a template does not have.
pub(crate) fn pod(pod: &mut Value) {
    let spec = pod.object_mut("spec");
    for list in ["containers", "initContainers"] {
        for container in spec.items_mut(list) {
            requests_from_limits(container);
        }
    }
    requests_of_pod(spec);
    spec.default("enableServiceLinks", true);
    if spec.number("terminationGracePeriodSeconds").is_some_and(|seconds| seconds < 0) {
        spec.set("terminationGracePeriodSeconds", 1);
    }
    let host_network = spec.flag("hostNetwork");
    self::spec(spec);
    if host_network {
        for list in ["containers", "initContainers"] {
            spec.items_mut(list).for_each(host_ports);
        }
    }
    if let Some(status) = pod.at_mut("status") {
        sync_pod_ips(status);
    }
}

/// Defaults the pod template in the field `template` of a workload's spec.
pub(crate) fn template(workload_spec: &mut Value) {
    spec(workload_spec.object_mut("template").object_mut("spec"));
}

/// A container with limits and no requests requests what it is limited to.
fn requests_from_limits(container: &mut Value) {
    let Some(limits) = container.at("resources.limits").as_object().cloned() else { return };
    let requests = container.object_mut("resources").object_mut("requests");
    for (name, limit) in limits {
        requests.default(&name, limit);
    }
}

/// A pod with limits of its own requests what its containers request, and else what it is limited to.
fn requests_of_pod(spec: &mut Value) {
    let Some(limits) = spec.at("resources.limits").as_object().cloned().filter(|limits| !limits.is_empty())
    else {
        return;
    };
    let of_containers = ["cpu", "memory"].map(|name| (name, container_requests(spec, name)));
    let requests = spec.object_mut("resources").object_mut("requests");
    for (name, request) in of_containers {
        if let Some(request) = request {
            requests.default(name, request.to_string());
        }
    }
    for (name, limit) in limits {
        requests.default(&name, limit);
    }
}

/// What the containers of a pod request of a resource at most at a time; `None` when none requests any.
fn container_requests(spec: &Value, name: &str) -> Option<Quantity> {
    let request = |container: &Value| container.at("resources.requests").get(name).and_then(parse);
    let mut running: Option<Quantity> = None;
    let mut most: Option<Quantity> = None;
    for container in spec.items("initContainers") {
        let Some(request) = request(container) else { continue };
        let total = running.map_or(request, |running| running + request);
        if container.text("restartPolicy") == "Always" {
            running = Some(total);
        }
        most = most.max(Some(total));
    }
    let all = running.into_iter().chain(spec.items("containers").iter().filter_map(request));
    most.max(all.reduce(|sum, request| sum + request))
}

fn host_ports(container: &mut Value) {
    for port in container.items_mut("ports") {
        let number = port.at("containerPort").clone();
        port.default_empty("hostPort", number);
    }
}

/// Keeps `podIP` and the first of `podIPs` the same; the former wins.
fn sync_pod_ips(status: &mut Value) {
    let first = status.items("podIPs").first().map(|ip| ip.text("ip").to_owned());
    let single = status.text("podIP").to_owned();
    match first {
        Some(first) if single.is_empty() => status.set("podIP", first),
        Some(first) if first == single => {}
        _ if !single.is_empty() => status.set("podIPs", json!([{ "ip": single }])),
        _ => {}
    }
}

fn spec(spec: &mut Value) {
    let account = match spec.text("serviceAccountName") {
        "" => spec.text("serviceAccount"),
        name => name,
    };
    if !account.is_empty() {
        let account = account.to_owned();
        spec.set("serviceAccountName", account.clone());
        spec.set("serviceAccount", account);
    } else {
        spec.remove("serviceAccount");
    }
    spec.default_empty("dnsPolicy", "ClusterFirst");
    spec.default_empty("restartPolicy", "Always");
    spec.default("securityContext", json!({}));
    spec.default("terminationGracePeriodSeconds", 30);
    spec.default_empty("schedulerName", "default-scheduler");
    spec.items_mut("volumes").for_each(volume);
    for list in CONTAINER_LISTS {
        spec.items_mut(list).for_each(container);
    }
}

fn container(container: &mut Value) {
    let policy = if has_latest_tag(container.text("image")) { "Always" } else { "IfNotPresent" };
    container.default_empty("imagePullPolicy", policy);
    container.default_empty("terminationMessagePath", "/dev/termination-log");
    container.default_empty("terminationMessagePolicy", "File");
    container.default("resources", json!({}));
    for port in container.items_mut("ports") {
        port.default_empty("protocol", "TCP");
    }
    for variable in container.items_mut("env") {
        if let Some(field) = variable.at_mut("valueFrom.fieldRef") {
            field.default_empty("apiVersion", "v1");
        }
        if let Some(file) = variable.at_mut("valueFrom.fileKeyRef") {
            file.default("optional", false);
        }
    }
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(probe) = container.at_mut(probe) {
            self::probe(probe);
        }
    }
    for hook in ["lifecycle.postStart.httpGet", "lifecycle.preStop.httpGet"] {
        if let Some(action) = container.at_mut(hook) {
            http_get(action);
        }
    }
}

fn probe(probe: &mut Value) {
    probe.default_empty("timeoutSeconds", 1);
    probe.default_empty("periodSeconds", 10);
    probe.default_empty("successThreshold", 1);
    probe.default_empty("failureThreshold", 3);
    if let Some(action) = probe.at_mut("httpGet") {
        http_get(action);
    }
    if let Some(action) = probe.at_mut("grpc") {
        action.default("service", "");
    }
}

fn http_get(action: &mut Value) {
    action.default_empty("path", "/");
    action.default_empty("scheme", "HTTP");
}

/// Whether an image reference means the tag `latest`: it names it, or names neither a tag nor a digest.
fn has_latest_tag(image: &str) -> bool {
    if image.contains('@') {
        return false;
    }
    let name = image.rsplit('/').next().unwrap_or(image);
    name.split_once(':').is_none_or(|(_, tag)| tag == "latest")
}

fn volume(volume: &mut Value) {
    let has_source = volume
        .as_object()
        .is_some_and(|fields| fields.iter().any(|(name, value)| name != "name" && !value.is_null()));
    if !has_source {
        volume.set("emptyDir", json!({}));
    }
    if let Some(host_path) = volume.at_mut("hostPath") {
        host_path.default("type", "");
    }
    for source in ["secret", "configMap", "downwardAPI", "projected"] {
        if let Some(source) = volume.at_mut(source) {
            source.default("defaultMode", 0o644);
        }
    }
    volume.at_mut("downwardAPI").into_iter().for_each(downward_api);
    if let Some(projected) = volume.at_mut("projected") {
        for source in projected.items_mut("sources") {
            source.at_mut("downwardAPI").into_iter().for_each(downward_api);
            if let Some(token) = source.at_mut("serviceAccountToken") {
                token.default("expirationSeconds", 3600);
            }
        }
    }
    if let Some(image) = volume.at_mut("image") {
        let policy = if has_latest_tag(image.text("reference")) { "Always" } else { "IfNotPresent" };
        image.default_empty("pullPolicy", policy);
    }
    if let Some(claim) = volume.at_mut("ephemeral.volumeClaimTemplate.spec") {
        claim.default("volumeMode", "Filesystem");
    }
    legacy_volume(volume);
}

/// The defaults of volume types that only old clusters use.
fn legacy_volume(volume: &mut Value) {
    let defaults: [(&str, &[(&str, Value)]); 4] = [
        ("iscsi", &[("iscsiInterface", json!("default"))]),
        ("rbd", &[("pool", json!("rbd")), ("user", json!("admin")), ("keyring", json!("/etc/ceph/keyring"))]),
        (
            "azureDisk",
            &[
                ("cachingMode", json!("ReadWrite")),
                ("fsType", json!("ext4")),
                ("readOnly", json!(false)),
                ("kind", json!("Shared")),
            ],
        ),
        ("scaleIO", &[("storageMode", json!("ThinProvisioned")), ("fsType", json!("xfs"))]),
    ];
    for (source, fields) in defaults {
        if let Some(source) = volume.at_mut(source) {
            for (field, value) in fields {
                source.default(field, value.clone());
            }
        }
    }
}

fn downward_api(source: &mut Value) {
    for file in source.items_mut("items") {
        if let Some(field) = file.at_mut("fieldRef") {
            field.default_empty("apiVersion", "v1");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_without_tag_or_digest_means_latest() {
        for (image, latest) in [
            ("nginx", true),
            ("nginx:latest", true),
            ("nginx:1.27", false),
            ("localhost:5000/nginx", true),
            ("localhost:5000/nginx:2", false),
            ("nginx@sha256:0123", false),
        ] {
            assert_eq!(has_latest_tag(image), latest, "{image}");
        }
    }

    #[test]
    fn a_small_pod_gets_upstreams_defaults() {
        let mut small = json!({"spec": {"containers": [{
            "name": "a", "image": "nginx", "ports": [{"containerPort": 80}],
            "resources": {"limits": {"cpu": "1"}},
            "livenessProbe": {"httpGet": {"port": 80}},
        }], "volumes": [{"name": "v"}]}});
        pod(&mut small);
        assert_eq!(
            small,
            json!({"spec": {
                "containers": [{
                    "name": "a", "image": "nginx", "imagePullPolicy": "Always",
                    "ports": [{"containerPort": 80, "protocol": "TCP"}],
                    "resources": {"limits": {"cpu": "1"}, "requests": {"cpu": "1"}},
                    "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
                    "livenessProbe": {
                        "httpGet": {"path": "/", "port": 80, "scheme": "HTTP"},
                        "timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3,
                    },
                }],
                "dnsPolicy": "ClusterFirst", "enableServiceLinks": true, "restartPolicy": "Always",
                "schedulerName": "default-scheduler", "securityContext": {}, "terminationGracePeriodSeconds": 30,
                "volumes": [{"name": "v", "emptyDir": {}}],
            }})
        );
    }
}
