//! `kill -9` of edgek, of containerd and of a container's shim: what runs goes on, and what was asked for comes true.

use std::fs;
use std::io::Read as _;
use std::process::Stdio;
use std::time::Duration;

use edgek_tests::{BUSYBOX, Host, pause};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

fn pod(host: &Host, name: &str, policy: &str, script: &str) {
    let container = format!("{{name: c, image: {BUSYBOX}, command: [sh, -c, \"{script}\"]}}");
    let spec = format!("{{restartPolicy: {policy}, containers: [{container}]}}");
    let manifest = format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec: {spec}\n");
    host.kubectl_with_input(&["apply", "-f", "-"], &manifest);
    host.kubectl(&["wait", "--for=condition=Ready", &format!("pod/{name}"), "--timeout=60s"]);
}

fn field(host: &Host, object: &str, path: &str) -> String {
    host.kubectl(&["get", object, "-o", &format!("jsonpath={{{path}}}")])
}

/// A process as /proc shows it.
#[derive(Debug, PartialEq, Eq)]
struct Process {
    id: i32,
    parent: i32,
    /// Ticks from the machine's start to its own.
    started: u64,
}

impl Process {
    fn read(id: i32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
        let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
        Some(Self { id, parent: fields.get(1)?.parse().ok()?, started: fields.get(19)?.parse().ok()? })
    }

    fn all() -> impl Iterator<Item = i32> {
        let entries = fs::read_dir("/proc").expect("/proc");
        entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
    }

    /// The first process of a container.
    fn of_container(id: &str) -> Self {
        let file =
            |pid: i32, name: &str| fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap_or_default();
        let is_first =
            |status: String| status.lines().any(|line| line.starts_with("NSpid:") && line.ends_with("\t1"));
        let found =
            Self::all().find(|pid| file(*pid, "cgroup").contains(id) && is_first(file(*pid, "status")));
        found.and_then(Self::read).unwrap_or_else(|| panic!("no process of container {id}"))
    }

    fn kill(&self) {
        kill(Pid::from_raw(self.id), Signal::SIGKILL).expect("killing a process");
    }
}

/// All that a restart of a container would change.
fn witness(host: &Host, name: &str) -> ([String; 3], Process) {
    let container =
        |path| field(host, &format!("pod/{name}"), &format!(".status.containerStatuses[0].{path}"));
    (["containerID", "state.running.startedAt", "restartCount"].map(container), process(host, name))
}

fn process(host: &Host, name: &str) -> Process {
    let id = field(host, &format!("pod/{name}"), ".status.containerStatuses[0].containerID");
    Process::of_container(id.trim_start_matches("containerd://"))
}

/// The containerd of a host, known by its configuration file.
fn containerd(host: &Host) -> Process {
    let file = host.run_dir().join("containerd/config.toml");
    let mut found = Process::all().filter(|pid| {
        let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        command.split(|byte| *byte == 0).any(|argument| argument == file.as_os_str().as_encoded_bytes())
    });
    found.find_map(Process::read).expect("containerd runs")
}

const WEB: &str = "apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - {name: c, image: IMAGE, command: [sh, -c, \"trap 'exit 0' TERM; while true; do sleep 0.1; done\"]}
";

/// Whom to kill.
#[derive(Debug, Clone, Copy)]
enum Victim {
    Edgek,
    Containerd,
    Both,
}

#[test]
fn kills_during_a_rollout_touch_no_container_and_the_rollout_ends_right() {
    let mut host = Host::started();
    pod(&host, "count", "Always", "n=0; while true; do echo $n; n=$((n+1)); sleep 0.05; done");
    host.kubectl_with_input(&["apply", "-f", "-"], &WEB.replace("IMAGE", BUSYBOX));
    host.kubectl(&["rollout", "status", "deployment/web", "--timeout=60s"]);
    let before = witness(&host, "count");
    for (round, victim) in [Victim::Edgek, Victim::Containerd, Victim::Both].into_iter().enumerate() {
        let round = round.to_string();
        host.kubectl(&["set", "env", "deployment/web", &format!("ROUND={round}")]);
        pause(Duration::from_millis(300) * round.parse().expect("a number"));
        if !matches!(victim, Victim::Edgek) {
            containerd(&host).kill();
        }
        if !matches!(victim, Victim::Containerd) {
            host.kill_server();
            host.start();
        }
        host.kubectl(&["rollout", "status", "deployment/web", "--timeout=60s"]);
        host.eventually("only pods of this round are left", || {
            let rounds = host.kubectl(&[
                "get",
                "pods",
                "-l",
                "app=web",
                "-o",
                "jsonpath={.items[*].spec.containers[0].env[0].value}",
            ]);
            rounds == format!("{round} {round}")
        });
        assert_eq!(witness(&host, "count"), before, "after killing {victim:?} in round {round}");
        counts_on(&host);
    }
}

/// The container counts on, and each of its numbers is in the log.
fn counts_on(host: &Host) {
    let logs = || host.kubectl(&["logs", "count"]);
    let before = logs().lines().count();
    host.eventually("the log goes on", || logs().lines().count() > before + 5);
    for (n, line) in logs().lines().enumerate() {
        assert_eq!(line, n.to_string(), "the log has a hole after {n} lines");
    }
}

#[test]
fn an_exec_session_ends_with_an_error_when_containerd_is_killed() {
    let host = Host::started();
    pod(&host, "sh", "Always", "trap 'exit 0' TERM; while true; do sleep 0.1; done");
    let mut command = host.kubectl_command(&["exec", "sh", "--", "sh", "-c", "echo begun; sleep 1000"]);
    let mut session = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("kubectl");
    let mut begun = [0; 6];
    session.stdout.as_mut().expect("a pipe").read_exact(&mut begun).expect("the command's first line");
    containerd(&host).kill();
    host.eventually("the session ends", || session.try_wait().expect("kubectl").is_some());
    let output = session.wait_with_output().expect("kubectl");
    assert!(!output.status.success(), "{output:?}");
    host.eventually("commands run again", || host.try_kubectl(&["exec", "sh", "--", "true"]).is_ok());
}

#[test]
fn a_container_that_lost_its_shim_is_restarted_if_its_policy_says_so() {
    let host = Host::started();
    let script = "trap 'exit 0' TERM; while true; do sleep 0.1; done";
    pod(&host, "always", "Always", script);
    pod(&host, "never", "Never", script);
    let old: Vec<Process> = ["always", "never"].map(|name| process(&host, name)).into();
    for process in &old {
        Process::read(process.parent).expect("the shim").kill();
    }
    host.eventually("the container is restarted", || {
        field(&host, "pod/always", ".status.containerStatuses[0].restartCount") == "1"
    });
    host.kubectl(&["wait", "--for=condition=Ready", "pod/always", "--timeout=60s"]);
    host.kubectl(&["wait", "--for=jsonpath={.status.phase}=Failed", "pod/never", "--timeout=60s"]);
    for process in &old {
        assert!(Process::read(process.id).as_ref() != Some(process), "{process:?} goes on without a shim");
    }
}
