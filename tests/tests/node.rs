//! What a user sees on one node.

use edgek_tests::{AGNHOST, Host, Namespace};

#[test]
fn an_empty_directory_becomes_a_ready_node_that_kubectl_shows() {
    let host = Host::started();
    let nodes = host.kubectl(&["get", "nodes", "-o", "wide"]);
    for text in ["NAME", "node", "Ready", "control-plane", "v1.37.0", "192.0.2.10", "containerd://2."] {
        assert!(nodes.contains(text), "{text} in\n{nodes}");
    }
    assert!(host.kubectl(&["get", "all", "-A"]).contains("service/kubernetes"));
    let described = host.kubectl(&["describe", "node", "node"]);
    assert!(described.contains("KubeletReady") && described.contains("Allocatable"), "{described}");
    let resources = host.kubectl(&["api-resources"]);
    for line in ["deployments", "customresourcedefinitions", "podcertificaterequests"] {
        assert!(resources.contains(line), "{line} in\n{resources}");
    }
    let explained = host.kubectl(&["explain", "pod.spec.containers.image"]);
    assert!(explained.contains("FIELD: image <string>"), "{explained}");
}

#[test]
fn a_manifest_applied_twice_is_unchanged() {
    let namespace = Namespace::new();
    let manifest = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {k: v}\n---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d}\nspec:\n  replicas: 0\n  selector: {matchLabels: {app: d}}\n  template:\n    metadata: {labels: {app: d}}\n    spec: {containers: [{name: c, image: busybox}]}\n";
    let first = namespace.apply(manifest);
    assert_eq!(first, "configmap/a created\ndeployment.apps/d created\n");
    let second = namespace.apply(manifest);
    assert_eq!(second, "configmap/a unchanged\ndeployment.apps/d unchanged\n");
}

#[test]
fn a_namespace_is_emptied_before_it_goes() {
    let namespace = Namespace::new();
    namespace.kubectl(&["create", "configmap", "a"]);
    namespace.kubectl(&["create", "deployment", "d", &format!("--image={AGNHOST}")]);
    namespace.kubectl(&["rollout", "status", "deployment/d", "--timeout=60s"]);
    namespace.host.kubectl(&["delete", "namespace", namespace.name(), "--timeout=60s"]);
    assert!(namespace.try_kubectl(&["get", "pods", "-o", "name"]).is_ok_and(|pods| pods.is_empty()));
    let gone = namespace.host.try_kubectl(&["get", "namespace", namespace.name()]);
    assert!(gone.is_err_and(|e| e.contains("NotFound")));
}

#[test]
fn nonsense_on_the_port_does_no_harm() {
    let host = Namespace::new().host;
    let talk = host
        .command("sh")
        .args(["-c", "head -c 4096 /dev/urandom | timeout 5 busybox nc 127.0.0.1 6443 >/dev/null; true"])
        .status();
    assert!(talk.expect("nc").success());
    host.kubectl(&["get", "--raw", "/readyz"]);
}
