//! Containers on a real containerd: how they are made, run and end.

use std::time::Duration;

use crate::support::{Edgek, Node, exit_code, process_count};
use edgek_node_runtime::{
    Capabilities, ContainerSpec, Error, ExitReason, IpcNamespace, Mount, MountSource, NetworkNamespace,
    PidNamespace, Propagation, Resources, Runtime, Seccomp, Security, Signal, State, User,
};

async fn output(node: &Node, edgek: &Edgek, spec: &ContainerSpec) -> String {
    edgek.run_to_end(spec).await;
    let log = node.log(spec);
    edgek.runtime.remove_container(&spec.id).await.unwrap();
    log
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_runs_and_its_log_and_exit_code_are_kept() {
    let node = Node::new();
    let edgek = node.start().await;
    let spec = node.spec("web", "main", "echo out; echo err >&2; exit 3");
    let container = edgek.run_to_end(&spec).await;
    assert_eq!(exit_code(&container), 3);
    assert!(matches!(container.state, State::Exited { reason: ExitReason::Error, .. }));
    assert_eq!(container.labels, spec.labels);
    let log = node.log(&spec);
    assert!(log == "out\nerr\n" || log == "err\nout\n", "{log}");
    edgek.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_spec_leaves_open_comes_from_the_image() {
    let node = Node::new();
    let edgek = node.start().await;
    let script = "pwd; echo $FROM_IMAGE $SET $HOSTNAME $TERM; id -u; id -g; id -G";
    let mut spec = node.spec("web", "image", script);
    assert_eq!(output(&node, &edgek, &spec).await.lines().next(), Some("/tmp"));

    spec = node.spec("web", "spec", script);
    spec.working_dir = Some("/etc".into());
    spec.env = vec![("FROM_IMAGE".into(), "2".into()), ("SET".into(), "a=b".into())];
    spec.security = Security { uid: Some(101), supplemental_groups: vec![7], ..Security::default() };
    let host = nix::unistd::gethostname().unwrap().into_string().unwrap();
    edgek.runtime.create_container(&spec).await.unwrap();
    let user = edgek.runtime.container(&spec.id).await.unwrap().user;
    assert_eq!(user, User { uid: 101, gid: 201, groups: vec![7, 29, 201] });
    edgek.runtime.start_container(&spec.id).await.unwrap();
    edgek.wait_exit(&spec.id).await;
    assert_eq!(node.log(&spec), format!("/etc\n2 a=b {host}\n101\n201\n201 7 29\n"));

    spec = node.spec("web", "args", "");
    (spec.command, spec.args) = (vec!["echo".into(), "one".into()], vec!["two".into()]);
    assert_eq!(output(&node, &edgek, &spec).await, "one two\n");
    edgek.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_may_do_what_its_security_says() {
    let node = Node::new();
    let edgek = node.start().await;
    let script = "grep -E 'CapEff|NoNewPrivs|Seccomp:' /proc/self/status | tr -s '\\t\\n' '  '; \
                  touch /file 2>/dev/null && echo rw || echo ro; \
                  grep -q CPU /proc/interrupts && echo shown || echo masked";
    let mut check_number = 0;
    let mut check = async |security: Security, expected: &str| {
        check_number += 1;
        let mut spec = node.spec("web", &format!("c{check_number}"), script);
        spec.security = security;
        assert_eq!(output(&node, &edgek, &spec).await.replace('\n', " ").trim(), expected);
    };
    let plain = "CapEff: 00000000a80425fb NoNewPrivs: 0 Seccomp: 0 rw masked";
    check(Security::default(), plain).await;
    let restricted = Security {
        no_new_privileges: true,
        read_only_rootfs: true,
        seccomp: Seccomp::RuntimeDefault,
        capabilities: Capabilities { add: vec!["NET_BIND_SERVICE".into()], drop: vec!["ALL".into()] },
        ..Security::default()
    };
    check(restricted, "CapEff: 0000000000000400 NoNewPrivs: 1 Seccomp: 2 ro masked").await;
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let own = status.lines().find_map(|line| line.strip_prefix("CapEff:\t")).unwrap();
    let privileged = Security { privileged: true, ..Security::default() };
    check(privileged, &format!("CapEff: {own} NoNewPrivs: 0 Seccomp: 0 rw shown")).await;
    edgek.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mounts_show_what_they_name() {
    let node = Node::new();
    let edgek = node.start().await;
    let dir = node.dir.path().join("volume");
    std::fs::create_dir_all(dir.join("sub")).unwrap();
    std::fs::write(dir.join("file"), "hello\n").unwrap();
    let script = "cat /data/file; echo new > /data/new && echo written; echo x > /ro/x || echo refused; \
                  mount | grep -c '/scratch type tmpfs'; cat /data/inner/file";
    let mut spec = node.spec("web", "main", script);
    spec.mounts = vec![
        Mount::bind(&dir, "/data/inner"),
        Mount::bind(&dir, "/data"),
        Mount::bind(&dir, "/ro").read_only(),
        Mount { source: MountSource::Tmpfs(Some(1 << 20)), ..Mount::bind("/", "/scratch") },
        Mount { propagation: Propagation::HostToContainer, ..Mount::bind(&dir, "/slave") },
    ];
    let log = output(&node, &edgek, &spec).await;
    let lines: Vec<_> = log.lines().filter(|line| !line.contains("can't create")).collect();
    assert_eq!(lines, ["hello", "written", "refused", "1", "hello"]);
    assert_eq!(std::fs::read_to_string(dir.join("new")).unwrap(), "new\n");
    edgek.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_of_a_pod_share_ipc_and_one_shim() {
    let node = Node::new();
    let edgek = node.start().await;
    let init = node.spec("web", "init", "echo from-init > /dev/shm/file; readlink /proc/self/ns/ipc");
    let first = output(&node, &edgek, &init).await;
    let a = node.spec("web", "a", "sleep 1000");
    let b = node.spec(
        "web",
        "b",
        "cat /dev/shm/file; readlink /proc/self/ns/ipc; readlink /proc/self/ns/pid; sleep 1000",
    );
    let other = node.spec("db", "main", "ls /dev/shm; sleep 1000");
    for spec in [&a, &b, &other] {
        edgek.run(spec).await;
    }
    edgek.wait_log(&node, &b, 3).await;
    let second = node.log(&b);
    let ipc = |log: &str| log.lines().find(|line| line.starts_with("ipc:")).unwrap().to_owned();
    let pid = |log: &str| log.lines().find(|line| line.starts_with("pid:")).unwrap().to_owned();
    assert!(second.starts_with("from-init\n"), "{second}");
    assert_eq!(ipc(&first), ipc(&second));
    let (_, beside, _) = edgek.exec(&a.id, &["readlink", "/proc/self/ns/pid"]).await;
    assert_ne!(pid(&beside), pid(&second));
    assert_eq!(node.log(&other), "");
    assert_eq!(process_count(&node, "containerd-shim"), 2);
    let mut joined = node.spec("web", "joined", "readlink /proc/self/ns/pid");
    joined.pid = PidNamespace::Target(b.id.clone());
    assert_eq!(output(&node, &edgek, &joined).await.trim(), pid(&second));
    let mut host = node.spec("web", "host", "readlink /proc/self/ns/pid; readlink /proc/self/ns/ipc");
    (host.pid, host.ipc) = (PidNamespace::Host, IpcNamespace::Host);
    let own = |name| std::fs::read_link(format!("/proc/self/ns/{name}")).unwrap().display().to_string();
    assert_eq!(output(&node, &edgek, &host).await, format!("{}\n{}\n", own("pid"), own("ipc")));
    edgek.stop().await;
    assert_eq!(process_count(&node, ""), 0, "nothing is left");
    assert!(!node.config.state_dir.join("pods/web-uid").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_of_a_pod_with_a_shared_pid_namespace_see_each_other() {
    let node = Node::new();
    let edgek = node.start().await;
    let mut a = node.spec("web", "a", "sleep 1234");
    let mut b =
        node.spec("web", "b", "readlink /proc/self/ns/pid; ps | grep -c '[s]leep 1234'; sleep 0.1 & exit 0");
    (a.pid, b.pid) = (PidNamespace::Pod, PidNamespace::Pod);
    edgek.run(&a).await;
    let log = output(&node, &edgek, &b).await;
    assert_eq!(log.lines().nth(1), Some("1"), "{log}");
    let (_, namespace, _) = edgek.exec(&a.id, &["readlink", "/proc/1/ns/pid"]).await;
    assert_eq!(log.lines().next(), Some(namespace.trim()));
    assert_eq!(
        edgek.runtime.containers().await.unwrap().len(),
        1,
        "the holder is not a container of the pod"
    );
    edgek.stop().await;
    assert_eq!(process_count(&node, ""), 0, "nothing is left");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_network_has_its_own_host_name() {
    let node = Node::new();
    let edgek = node.start().await;
    let netns = crate::support::new_netns(&node);
    let mut spec = node.spec(
        "web",
        "main",
        "hostname; ls /sys/class/net; cat /proc/sys/net/ipv4/ip_unprivileged_port_start",
    );
    spec.network = NetworkNamespace::Path(netns);
    assert_eq!(output(&node, &edgek, &spec).await, "web\nlo\n0\n");
    edgek.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_hold_and_change_and_use_is_counted() {
    let node = Node::new();
    let edgek = node.start().await;
    let mut spec =
        node.spec("web", "hungry", "head -c 200000000 /dev/zero | tail > /dev/null; echo survived; exit 9");
    spec.command = ["sh", "-c", "dd if=/dev/zero of=/dev/null bs=200M count=1"].map(str::to_owned).to_vec();
    spec.resources =
        Resources { memory_limit: Some(32 << 20), memory_swap_limit: Some(32 << 20), ..Resources::default() };
    let container = edgek.run_to_end(&spec).await;
    assert!(
        matches!(container.state, State::Exited { reason: ExitReason::OomKilled, code: 137, .. }),
        "{container:?}"
    );

    let mut spec = node.spec("web", "steady", "sleep 1000");
    let resources = Resources {
        cpu_shares: Some(512),
        cpu_quota_us: Some(50_000),
        cpu_period_us: Some(100_000),
        memory_limit: Some(64 << 20),
        pids_limit: Some(50),
        ..Resources::default()
    };
    spec.resources = resources.clone();
    let id = edgek.run(&spec).await;
    let limit = || node.cgroup_value(&spec, "memory", ["memory.limit_in_bytes", "memory.max"]);
    assert_eq!(limit(), (64 << 20).to_string());
    assert_eq!(node.cgroup_value(&spec, "pids", ["pids.max"; 2]), "50");
    let larger = Resources { memory_limit: Some(96 << 20), ..resources };
    edgek.runtime.update_container(&id, &larger).await.unwrap();
    assert_eq!(limit(), (96 << 20).to_string());
    edgek.exec(&id, &["dd", "if=/dev/zero", "of=/tmp/file", "bs=1M", "count=3"]).await;
    let stats = edgek.runtime.container_stats(&id).await.unwrap();
    assert!(stats.cpu_usage_ns > 0 && stats.processes >= 1, "{stats:?}");
    assert!(stats.memory_usage >= stats.memory_working_set && stats.memory_rss > 0, "{stats:?}");
    assert!(stats.writable_layer.bytes >= 3 << 20, "{stats:?}");
    edgek.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_ends_a_container_or_is_ignored_until_the_kill() {
    let node = Node::new();
    let edgek = node.start().await;
    let obeys = node.spec(
        "web",
        "obeys",
        "trap 'echo bye; exit 5' TERM; echo ready; while true; do sleep 0.05; done",
    );
    let ignores = node.spec("web", "ignores", "trap '' TERM; echo ready; while true; do sleep 0.05; done");
    for spec in [&obeys, &ignores] {
        edgek.run(spec).await;
        edgek.wait_log(&node, spec, 1).await;
        edgek.runtime.signal_container(&spec.id, Signal::TERM).await.unwrap();
    }
    assert_eq!(exit_code(&edgek.wait_exit(&obeys.id).await), 5);
    assert_eq!(node.log(&obeys), "ready\nbye\n");
    edgek_base_lifecycle::sleep(Duration::from_millis(200)).await;
    assert!(edgek.runtime.container(&ignores.id).await.unwrap().state.is_running());
    edgek.runtime.signal_container(&ignores.id, Signal::KILL).await.unwrap();
    assert_eq!(exit_code(&edgek.wait_exit(&ignores.id).await), 137);
    edgek.runtime.signal_container(&ignores.id, Signal::TERM).await.unwrap();
    edgek.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_run_says_why_and_leaves_nothing() {
    let node = Node::new();
    let edgek = node.start().await;
    let mut missing = node.spec("web", "missing", "");
    missing.command = vec!["no-such-program".into()];
    edgek.runtime.create_container(&missing).await.unwrap();
    let error = edgek.runtime.start_container(&missing.id).await.unwrap_err().to_string();
    let step = "failed to create containerd task: failed to create shim task: OCI runtime create failed";
    assert!(error.starts_with(step), "{error}");
    assert!(error.contains("\"no-such-program\": executable file not found in $PATH"), "{error}");
    let container = edgek.runtime.container(&missing.id).await.unwrap();
    let State::Exited { reason: ExitReason::StartError, code: 128, message, .. } = container.state else {
        panic!("{container:?}")
    };
    assert_eq!(message, error);

    let never = node.spec("web", "never", "true");
    edgek.runtime.create_container(&never).await.unwrap();
    edgek.runtime.remove_container(&never.id).await.unwrap();

    let mut unknown = node.spec("web", "unknown", "true");
    unknown.image = "docker.io/library/none:v1".into();
    let error = edgek.runtime.create_container(&unknown).await.unwrap_err();
    assert_eq!(error.to_string(), "image docker.io/library/none:v1 not found");

    let mut relative = node.spec("web", "relative", "true");
    relative.mounts = vec![Mount::bind("/tmp", "relative")];
    let error = edgek.runtime.create_container(&relative).await.unwrap_err();
    assert_eq!(error.to_string(), "invalid container: mount path relative is not absolute");
    assert!(matches!(edgek.runtime.container(&relative.id).await, Err(Error::ContainerNotFound(_))));
    edgek.runtime.remove_container(&relative.id).await.unwrap();
    edgek.stop().await;
    assert_eq!(process_count(&node, ""), 0, "nothing is left");
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_come_and_go_side_by_side() {
    let node = Node::new();
    let edgek = node.start().await;
    let one_after_the_other = async |(turn, pod): (usize, &str)| {
        for n in 0..8 {
            let spec = node.spec(pod, &format!("{turn}-{n}"), &format!("echo {n}; exit {n}"));
            assert_eq!(exit_code(&edgek.run_to_end(&spec).await), n);
            assert_eq!(node.log(&spec), format!("{n}\n"));
            if n % 2 == 0 {
                edgek.runtime.remove_container(&spec.id).await.unwrap();
            }
        }
    };
    let pods = ["a", "b", "c", "d", "a", "b"].into_iter().enumerate().map(one_after_the_other);
    futures::future::join_all(pods).await;
    assert_eq!(edgek.runtime.containers().await.unwrap().len(), 6 * 4);
    edgek.stop().await;
    assert_eq!(process_count(&node, ""), 0, "nothing is left");
}
