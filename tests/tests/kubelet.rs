//! What the kubelet does beside running pods: static pods, statistics, old logs, eviction, its own port.

use std::fs;

use edgek_tests::{BUSYBOX, Host};

/// The readiness of a pod, and since when.
fn readiness(host: &Host, pod: &str) -> String {
    let path = "jsonpath={.status.conditions[?(@.type=='Ready')]['status','lastTransitionTime']}";
    host.kubectl(&["get", "pod", pod, "-o", path])
}

fn run(host: &Host, name: &str, container: &str) {
    let manifest = format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}}}, spec: {{terminationGracePeriodSeconds: 1, \
         containers: [{{name: c, image: '{BUSYBOX}', {container}}}]}}}}"
    );
    host.kubectl_with_input(&["apply", "-f", "-"], &manifest);
}

#[test]
fn a_ready_pod_stays_ready_when_edgek_is_killed_and_started_again() {
    let mut host = Host::started();
    let probe = "readinessProbe: {exec: {command: ['true']}, periodSeconds: 5}";
    run(&host, "web", &format!("command: [sleep, '1000'], {probe}"));
    host.kubectl(&["wait", "--for=condition=Ready", "pod/web", "--timeout=60s"]);
    let before = readiness(&host, "web");
    host.kill_server();
    host.start();
    // The node is Ready as it was before; it is back when the kubelet answers for the pod.
    host.eventually("the pod is taken over", || host.try_kubectl(&["exec", "web", "--", "true"]).is_ok());
    assert_eq!(readiness(&host, "web"), before);
}

#[test]
fn a_static_pod_has_a_mirror_as_long_as_its_manifest() {
    let mut host = Host::new();
    let folder = host.data_dir().join("agent/pod-manifests");
    fs::create_dir_all(&folder).unwrap();
    let spec = format!(
        "{{containers: [{{name: c, image: '{BUSYBOX}', command: [sleep, '1000']}}], terminationGracePeriodSeconds: 1}}"
    );
    let manifest = folder.join("own.yaml");
    fs::write(&manifest, format!("{{apiVersion: v1, kind: Pod, metadata: {{name: own}}, spec: {spec}}}"))
        .unwrap();
    host.start();
    let uid = || host.try_kubectl(&["get", "pod", "own-node", "-o", "jsonpath={.metadata.uid}"]);
    host.eventually("the mirror is there", || uid().is_ok());
    host.kubectl(&["wait", "--for=condition=Ready", "pod/own-node", "--timeout=60s"]);
    let container = || {
        host.kubectl(&["get", "pod", "own-node", "-o", "jsonpath={.status.containerStatuses[0].containerID}"])
    };
    let (first, running) = (uid().unwrap(), container());
    host.kubectl(&["delete", "pod", "own-node", "--wait=false"]);
    host.eventually("the mirror is made again", || uid().is_ok_and(|second| second != first));
    host.kubectl(&["wait", "--for=condition=Ready", "pod/own-node", "--timeout=60s"]);
    assert_eq!(container(), running, "the pod itself has not noticed");
    fs::remove_file(&manifest).unwrap();
    host.eventually("the mirror is gone", || uid().is_err());
}

#[test]
fn logs_are_shown_over_the_files_they_were_rotated_to() {
    let mut host = Host::new();
    host.start_with(&[
        "--kubelet-arg=container-log-max-size=20Ki",
        "--kubelet-arg=container-log-max-files=10",
    ]);
    let script = "for i in $(seq 1000); do echo $i xxxxxxxxxxxxxxxxxxxx; [ $((i % 100)) = 0 ] && sleep 0.05; done; sleep 1000";
    run(&host, "writer", &format!("command: [sh, -c, '{script}']"));
    host.eventually("all is written", || {
        host.try_kubectl(&["logs", "writer", "--tail=1"]).is_ok_and(|last| last.starts_with("1000 "))
    });
    let numbers = |arguments: &[&str]| -> Vec<u32> {
        let text = host.kubectl(&[&["logs", "writer"], arguments].concat());
        text.lines().map(|line| line.split(' ').next().unwrap().parse().unwrap()).collect()
    };
    assert!(numbers(&[]).into_iter().eq(1..=1000));
    assert!(numbers(&["--tail=900"]).into_iter().eq(101..=1000));
    let node = "/api/v1/nodes/node/proxy";
    let pods = host.kubectl(&["get", "--raw", &format!("{node}/stats/summary")]);
    assert!(pods.contains("\"name\":\"writer\"") && pods.contains("usageNanoCores"), "{pods}");
    let metrics = host.kubectl(&["get", "--raw", &format!("{node}/metrics/resource")]);
    assert!(
        metrics.contains("pod_memory_working_set_bytes{namespace=\"default\",pod=\"writer\"}"),
        "{metrics}"
    );
}

#[test]
fn a_node_without_memory_evicts_its_pods() {
    let mut host = Host::started();
    run(&host, "victim", "command: [sleep, '1000']");
    host.kubectl(&["wait", "--for=condition=Ready", "pod/victim", "--timeout=60s"]);
    host.stop_server();
    // No machine has as much memory left as it has.
    host.launch(&["--kubelet-arg=eviction-hard=memory.available<100%"]);
    let field = |path: &str| host.try_kubectl(&["get", "pod", "victim", "-o", &format!("jsonpath={path}")]);
    host.eventually("the pod is evicted", || {
        field("{.status.phase} {.status.reason}").is_ok_and(|text| text == "Failed Evicted")
    });
    assert!(
        field("{.status.message}")
            .unwrap()
            .starts_with("The node was low on resource: memory. Threshold quantity: ")
    );
    assert_eq!(
        field("{.status.conditions[?(@.type=='DisruptionTarget')].reason}").unwrap(),
        "TerminationByKubelet"
    );
}
