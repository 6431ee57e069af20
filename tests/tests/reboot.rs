//! The power is cut: after the next start what should run runs anew, and nothing of the old runs is left.

use std::collections::BTreeSet;

use edgek_tests::{BUSYBOX, Host};

fn pod(host: &Host, name: &str, policy: &str, script: &str) {
    let container = format!("{{name: c, image: {BUSYBOX}, command: [sh, -c, \"{script}\"]}}");
    let spec = format!("{{restartPolicy: {policy}, containers: [{container}]}}");
    let manifest = format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec: {spec}\n");
    host.kubectl_with_input(&["apply", "-f", "-"], &manifest);
}

fn field(host: &Host, pod: &str, path: &str) -> String {
    host.kubectl(&["get", "pod", pod, "-o", &format!("jsonpath={{.status.{path}}}")])
}

const SERVE: &str = "trap 'exit 0' TERM; while true; do sleep 0.1; done";

#[test]
fn pods_come_back_after_a_reboot_and_nothing_old_is_left() {
    let mut host = Host::started();
    pod(&host, "done", "Never", "exit 0");
    pod(&host, "once", "Never", SERVE);
    for name in ["a", "b", "c"] {
        pod(&host, name, "Always", SERVE);
    }
    host.kubectl(&["wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/done", "--timeout=60s"]);
    host.kubectl(&["wait", "--for=condition=Ready", "pod/once", "pod/a", "pod/b", "pod/c", "--timeout=60s"]);
    let old = field(&host, "a", "containerStatuses[0].containerID");
    host.reboot();
    host.start();
    for name in ["a", "b", "c"] {
        host.eventually("the pod runs anew", || {
            field(&host, name, "containerStatuses[0].restartCount") == "1"
                && field(&host, name, "containerStatuses[0].ready") == "true"
        });
        assert_eq!(host.kubectl(&["exec", name, "--", "echo", "back"]), "back\n");
    }
    assert_ne!(field(&host, "a", "containerStatuses[0].containerID"), old);
    assert_eq!(field(&host, "a", "containerStatuses[0].lastState.terminated.containerID"), old);
    host.kubectl(&["wait", "--for=jsonpath={.status.phase}=Failed", "pod/once", "--timeout=60s"]);
    assert_eq!(field(&host, "done", "phase"), "Succeeded");
    // Addresses are held by those that run, each by one.
    let shown: BTreeSet<String> = ["a", "b", "c"].map(|name| field(&host, name, "podIP")).into();
    assert_eq!(shown.len(), 3);
    for name in ["a", "b", "c"] {
        let address = host.kubectl(&["exec", name, "--", "hostname", "-i"]);
        assert_eq!(address.trim(), field(&host, name, "podIP"));
    }
    host.kubectl(&["delete", "pod", "--all", "--timeout=60s"]);
    host.eventually("no mount is left", || {
        let mounts = host.mounts();
        mounts.iter().all(|mount| !mount.to_string_lossy().contains("/pods/"))
    });
}
