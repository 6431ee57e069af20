//! How pods live and end: order of containers, restarts, probes, termination, security, networks.

use std::fs;

use edgek_tests::{AGNHOST, BUSYBOX, Namespace};

/// A container in flow YAML that runs a shell script; `more` is further YAML of it.
fn shell(name: &str, script: &str, more: &str) -> String {
    format!("{{name: {name}, image: '{BUSYBOX}', {more} command: [sh, -c, '{script}']}}")
}

/// One that ends when it is asked to.
const IDLE: &str = "trap \"exit 0\" TERM; while true; do sleep 0.1; done";

#[test]
fn init_containers_run_in_order_and_sidecars_beside_the_rest() {
    let namespace = Namespace::new();
    let mount = "volumeMounts: [{name: v, mountPath: /v}],";
    let spec = format!(
        "{{restartPolicy: Never, volumes: [{{name: v, emptyDir: {{}}}}], initContainers: [{}, {}, {}], containers: [{}]}}",
        shell("one", "echo one >> /v/log", mount),
        shell(
            "sidecar",
            "echo sidecar >> /v/log; trap \"exit 0\" TERM; sleep 2; touch /v/up; while true; do sleep 0.1; done",
            &format!(
                "restartPolicy: Always, startupProbe: {{exec: {{command: [test, -e, /v/up]}}, periodSeconds: 1}}, {mount}"
            )
        ),
        shell("two", "test -e /v/up; echo two $? >> /v/log", mount),
        shell("main", "echo main >> /v/log; cat /v/log", mount),
    );
    namespace.pod("ordered", &spec);
    namespace.wait("pod/ordered", "jsonpath={.status.phase}=Succeeded");
    assert_eq!(namespace.kubectl(&["logs", "ordered", "-c", "main"]), "one\nsidecar\ntwo 0\nmain\n");
    let states = namespace.field("pod/ordered", ".status.initContainerStatuses[*].state.terminated.exitCode");
    assert_eq!(states, "0 0 0", "the sidecar is ended after the last container");

    let spec = format!(
        "{{restartPolicy: Never, initContainers: [{}], containers: [{}]}}",
        shell("bad", "exit 4", ""),
        shell("main", "true", "")
    );
    namespace.pod("stuck", &spec);
    namespace.wait("pod/stuck", "jsonpath={.status.phase}=Failed");
    assert!(namespace.kubectl(&["get", "pod", "stuck"]).contains("Init:Error"));
}

#[test]
fn containers_restart_by_policy_and_wait_longer_each_time() {
    let namespace = Namespace::new();
    for (name, policy, code, phase) in
        [("never", "Never", 7, "Failed"), ("done", "OnFailure", 0, "Succeeded")]
    {
        let container = shell("c", &format!("exit {code}"), "");
        namespace.pod(name, &format!("{{restartPolicy: {policy}, containers: [{container}]}}"));
        namespace.wait(&format!("pod/{name}"), &format!("jsonpath={{.status.phase}}={phase}"));
        let ended =
            namespace.field(&format!("pod/{name}"), ".status.containerStatuses[0].state.terminated.exitCode");
        assert_eq!(ended, code.to_string());
    }
    for (name, policy, code, reason) in
        [("failing", "OnFailure", 3, "Error"), ("ending", "Always", 0, "Completed")]
    {
        let container = shell("c", &format!("echo why > /dev/termination-log; exit {code}"), "");
        namespace.pod(name, &format!("{{restartPolicy: {policy}, containers: [{container}]}}"));
        let pod = format!("pod/{name}");
        namespace.wait(&pod, "jsonpath={.status.containerStatuses[0].state.waiting.reason}=CrashLoopBackOff");
        let last = namespace
            .field(&pod, ".status.containerStatuses[0].lastState.terminated['exitCode','reason','message']");
        assert_eq!(last, format!("{code} {reason} why\n"));
        let message = namespace.field(&pod, ".status.containerStatuses[0].state.waiting.message");
        assert!(message.starts_with("back-off 10s restarting failed container=c pod="), "{message}");
        assert!(namespace.kubectl(&["get", "pod", name]).contains("CrashLoopBackOff"));
    }
}

#[test]
fn liveness_probes_of_every_kind_restart_a_container() {
    let namespace = Namespace::new();
    let probe = |handler: &str| {
        format!(
            "livenessProbe: {{{handler}, periodSeconds: 1, failureThreshold: 1, initialDelaySeconds: 1}},"
        )
    };
    // Each serves for a while and then no more.
    let exec = shell("c", "touch /up; sleep 2; rm /up; sleep 600", &probe("exec: {command: [cat, /up]}"));
    let http = format!(
        "{{name: c, image: '{AGNHOST}', args: [liveness], {} }}",
        probe("httpGet: {path: /healthz, port: 8080}")
    );
    let tcp = shell("c", "nc -l -p 7000 -e true; sleep 600", &probe("tcpSocket: {port: 7000}"));
    let grpc = format!(
        "{{name: c, image: '{AGNHOST}', args: [grpc-health-checking, --delay-unhealthy-sec=2], {} }}",
        probe("grpc: {port: 5000}")
    );
    let pods = [("exec", exec), ("http", http), ("tcp", tcp), ("grpc", grpc)];
    for (name, container) in &pods {
        namespace.pod(name, &format!("{{terminationGracePeriodSeconds: 0, containers: [{container}]}}"));
    }
    for (name, _) in &pods {
        namespace.wait(&format!("pod/{name}"), "jsonpath={.status.containerStatuses[0].restartCount}=1");
        let events = namespace.kubectl(&["events", &format!("--for=pod/{name}")]);
        assert!(
            events.contains("Liveness probe failed")
                && events.contains("Container c failed liveness probe, will be restarted"),
            "{events}"
        );
    }
}

#[test]
fn a_pod_is_ready_when_its_probe_and_its_gates_say_so() {
    let namespace = Namespace::new();
    let container = shell(
        "c",
        IDLE,
        "readinessProbe: {exec: {command: [test, -e, /tmp/ready]}, periodSeconds: 1, failureThreshold: 1},",
    );
    namespace.pod(
        "gated",
        &format!("{{readinessGates: [{{conditionType: example.com/gate}}], containers: [{container}]}}"),
    );
    namespace.wait("pod/gated", "jsonpath={.status.phase}=Running");
    assert_eq!(namespace.field("pod/gated", ".status.containerStatuses[0].ready"), "false");
    namespace.exec("gated", &["touch", "/tmp/ready"]);
    namespace.wait("pod/gated", "condition=ContainersReady");
    let ready = ".status.conditions[?(@.type==\"Ready\")]['status','reason']";
    assert_eq!(namespace.field("pod/gated", ready), "False ReadinessGatesNotReady");
    let gate = r#"{"status": {"conditions": [{"type": "example.com/gate", "status": "True"}]}}"#;
    namespace.kubectl(&["patch", "pod", "gated", "--subresource=status", "-p", gate]);
    namespace.wait("pod/gated", "condition=Ready");
    namespace.exec("gated", &["rm", "/tmp/ready"]);
    namespace.wait("pod/gated", "condition=Ready=false");
}

#[test]
fn a_pod_ends_by_its_hook_then_the_signal_then_by_force() {
    let namespace = Namespace::new();
    let folder = namespace.host.data_dir().join("ends");
    let volume = format!(
        "volumes: [{{name: h, hostPath: {{path: '{}', type: DirectoryOrCreate}}}}]",
        folder.display()
    );
    let mount = "volumeMounts: [{name: h, mountPath: /h}],";
    let hook = format!(
        "lifecycle: {{preStop: {{exec: {{command: [sh, -c, \"echo hook >> /h/polite\"]}}}}}}, {mount}"
    );
    let polite =
        shell("c", "trap \"echo term >> /h/polite; exit 0\" TERM; while true; do sleep 0.1; done", &hook);
    namespace.ready_pod("polite", &format!("{{{volume}, containers: [{polite}]}}"));
    namespace.kubectl(&["delete", "pod", "polite", "--timeout=20s"]);
    assert_eq!(fs::read_to_string(folder.join("polite")).expect("what it wrote"), "hook\nterm\n");

    let stubborn =
        shell("c", "trap \"echo term >> /h/stubborn\" TERM; while true; do sleep 0.1; done", mount);
    namespace.ready_pod(
        "stubborn",
        &format!("{{terminationGracePeriodSeconds: 2, {volume}, containers: [{stubborn}]}}"),
    );
    let started = edgek_tests::now();
    namespace.kubectl(&["delete", "pod", "stubborn", "--timeout=20s"]);
    let took = started.elapsed().as_secs_f64();
    assert!((1.5..8.0).contains(&took), "killed after its grace period of 2 s, not after {took} s");
    assert_eq!(fs::read_to_string(folder.join("stubborn")).expect("what it wrote"), "term\n");
}

#[test]
fn pods_reach_each_other_and_the_host_reaches_them() {
    let namespace = Namespace::new();
    let ready = "readinessProbe: {httpGet: {path: /healthz, port: 8080}, periodSeconds: 1}";
    namespace.ready_pod(
        "web",
        &format!("{{hostname: front, containers: [{{name: c, image: '{AGNHOST}', args: [netexec], ports: [{{containerPort: 8080, hostPort: 18080}}], {ready}}}]}}"),
    );
    let curl = |url: &str| {
        let output =
            namespace.host.command("curl").args(["-sS", "--max-time", "10", url]).output().expect("curl");
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    };
    for host in ["192.0.2.10", "127.0.0.1"] {
        assert_eq!(curl(&format!("http://{host}:18080/hostname")), "front", "{host}");
    }
    // From another pod: by the pod's address, and by the host's port.
    namespace.ready_pod(
        "client",
        &format!("{{containers: [{{name: c, image: '{AGNHOST}', args: [netexec], {ready}}}]}}"),
    );
    let [web, client] = ["web", "client"].map(|pod| namespace.field(&format!("pod/{pod}"), ".status.podIP"));
    for (host, port) in [(web.as_str(), 8080), ("192.0.2.10", 18080)] {
        let dial = format!(
            "http://{client}:8080/dial?protocol=http&request=hostname&tries=1&host={host}&port={port}"
        );
        assert_eq!(curl(&dial), r#"{"responses":["front"]}"#, "{host}:{port}");
    }

    namespace.ready_pod("host", &format!("{{hostNetwork: true, containers: [{{name: c, image: '{AGNHOST}', args: [netexec, --http-port=18081, --udp-port=18082]}}]}}"));
    assert_eq!(namespace.field("pod/host", ".status.podIP"), "192.0.2.10");
    namespace
        .host
        .eventually("the host's own network", || curl("http://127.0.0.1:18081/echo?msg=up") == "up");
    assert!(namespace.exec("host", &["ip", "address"]).contains("lan0"));
}

#[test]
fn a_manifest_in_the_folder_is_a_pod_while_it_is_there() {
    let namespace = Namespace::new();
    let folder = namespace.host.data_dir().join("agent/pod-manifests");
    let file = folder.join(format!("{}.yaml", namespace.name()));
    fs::create_dir_all(&folder).expect("the folder of manifests");
    let manifest = format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: static, namespace: {}}}\nspec: {{containers: [{}]}}\n",
        namespace.name(),
        shell("c", IDLE, "")
    );
    fs::write(&file, manifest).expect("a manifest");
    namespace
        .host
        .eventually("the mirror pod", || namespace.try_kubectl(&["get", "pod", "static-node"]).is_ok());
    namespace.wait("pod/static-node", "condition=Ready");
    let source = namespace.field("pod/static-node", r".metadata.annotations.kubernetes\.io/config\.source");
    assert_eq!(source, "file");
    let identity = |path: &str| {
        let path = format!("jsonpath={{{path}}}");
        namespace.try_kubectl(&["get", "pod", "static-node", "-o", &path]).unwrap_or_default()
    };
    let (uid, container) = (".metadata.uid", ".status.containerStatuses[0].containerID");
    let [first, running] = [uid, container].map(identity);
    namespace.kubectl(&["delete", "pod", "static-node", "--wait=false"]);
    namespace.host.eventually("a new mirror of the same container", || {
        ![String::new(), first.clone()].contains(&identity(uid)) && identity(container) == running
    });
    fs::remove_file(&file).expect("removing the manifest");
    namespace.wait("pod/static-node", "delete");
}

#[test]
fn the_security_context_is_what_the_process_has() {
    let namespace = Namespace::new();
    let context = "securityContext: {runAsUser: 1000, runAsGroup: 2000, readOnlyRootFilesystem: true, allowPrivilegeEscalation: false,
        capabilities: {drop: [ALL], add: [NET_BIND_SERVICE]}, seccompProfile: {type: RuntimeDefault}},";
    let script = "id -u; id -g; id -G; touch /x 2>/dev/null || echo read-only; grep -E \"^(NoNewPrivs|Seccomp|CapBnd):\" /proc/self/status";
    let spec = format!(
        "{{restartPolicy: Never, securityContext: {{supplementalGroups: [3000], fsGroup: 4000}}, containers: [{}]}}",
        shell("c", script, context)
    );
    let printed = namespace.finished_pod("bound", &spec);
    let expected =
        "1000\n2000\n2000 3000 4000\nread-only\nCapBnd:\t0000000000000400\nNoNewPrivs:\t1\nSeccomp:\t2\n";
    assert_eq!(printed, expected);

    let script = "grep -E \"^(Seccomp|CapBnd):\" /proc/self/status";
    let spec = format!(
        "{{restartPolicy: Never, containers: [{}]}}",
        shell("c", script, "securityContext: {privileged: true},")
    );
    let printed = namespace.finished_pod("privileged", &spec);
    // The server was started with what this process may do.
    let own = fs::read_to_string("/proc/self/status").expect("the status of this process");
    let own = own.lines().find(|line| line.starts_with("CapBnd:")).expect("its capabilities");
    assert_eq!(printed, format!("{own}\nSeccomp:\t0\n"));

    namespace.pod(
        "refused",
        &format!("{{containers: [{}]}}", shell("c", "true", "securityContext: {runAsNonRoot: true},")),
    );
    namespace.wait(
        "pod/refused",
        "jsonpath={.status.containerStatuses[0].state.waiting.reason}=CreateContainerConfigError",
    );
    let message = namespace.field("pod/refused", ".status.containerStatuses[0].state.waiting.message");
    assert!(message.starts_with("container has runAsNonRoot and image will run as root"), "{message}");
}

#[test]
fn a_debug_container_sees_the_processes_of_its_target() {
    let namespace = Namespace::new();
    namespace.ready_pod("app", &format!("{{containers: [{{name: c, image: '{AGNHOST}', args: [pause]}}]}}"));
    let image = format!("--image={BUSYBOX}");
    namespace.kubectl(&[
        "debug",
        "app",
        &image,
        "--target=c",
        "--container=look",
        "--profile=general",
        "--",
        "sh",
        "-c",
        "ps; sleep 600",
    ]);
    namespace.wait("pod/app", "jsonpath={.status.ephemeralContainerStatuses[0].state.running}");
    namespace.host.eventually("the processes of the target", || {
        namespace.kubectl(&["logs", "app", "-c", "look"]).contains("/agnhost pause")
    });
    assert!(namespace.kubectl(&["describe", "pod", "app"]).contains("Ephemeral Containers:"));
}
