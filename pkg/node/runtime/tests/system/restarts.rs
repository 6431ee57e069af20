//! Containers outlive edgek and containerd, however these end.

use std::time::Duration;

use crate::support::{Edgek, Node, exit_code, process_count};
use bytes::Bytes;
use edgek_node_runtime::{ContainerId, ContainerSpec, ExitReason, PidNamespace, Runtime, State, Stdin};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// An edgek whose tasks can end all at once, as those of a killed process do.
struct Process {
    tokio: tokio::runtime::Runtime,
    edgek: Edgek,
}

impl Process {
    fn start(node: &Node) -> Self {
        let tokio =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let edgek = tokio.block_on(node.start());
        Self { tokio, edgek }
    }

    fn run<T>(&self, work: impl AsyncFnOnce(&Edgek) -> T) -> T {
        self.tokio.block_on(work(&self.edgek))
    }

    /// Nothing is flushed, closed in order or told to anyone.
    fn kill(self) {
        self.tokio.shutdown_background();
    }

    fn stop(self) {
        self.tokio.block_on(self.edgek.stop());
    }
}

fn wait_for(what: &str, condition: impl Fn() -> bool) {
    for _ in 0..4000 {
        if condition() {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("{what} did not happen");
}

async fn state(edgek: &Edgek, id: &ContainerId) -> State {
    edgek.runtime.container(id).await.unwrap().state
}

/// Numbers without a gap or a repetition, and how many.
fn counted(node: &Node, spec: &ContainerSpec) -> usize {
    let log = node.log(spec);
    let numbers: Vec<usize> = log.lines().map(|line| line.parse().unwrap()).collect();
    assert!(numbers.iter().copied().eq(1..=numbers.len()), "{numbers:?}");
    numbers.len()
}

const COUNT: &str = "i=0; while true; do i=$((i+1)); echo $i; sleep 0.01; done";

#[test]
fn a_killed_edgek_finds_its_containers_and_their_output_again() {
    let node = Node::new();
    let edgek = Process::start(&node);
    let spec = node.spec("web", "main", COUNT);
    let mut shell = node.spec("web", "shell", "while read -r line; do echo got $line; done; echo closed");
    shell.stdin = Stdin::Open;
    let done = node.spec("web", "done", "exit 6");
    let before = edgek.run(async |edgek| {
        edgek.run(&spec).await;
        edgek.run(&shell).await;
        edgek.run_to_end(&done).await;
        let session = edgek.runtime.attach(&shell.id).await.unwrap();
        session.stdin.as_ref().unwrap().send(Bytes::from_static(b"a\n")).await.unwrap();
        edgek.wait_log(&node, &shell, 1).await;
        edgek.wait_log(&node, &spec, 20).await;
        edgek.runtime.containers().await.unwrap()
    });
    let containerd = node.containerd_pid();
    edgek.kill();
    let written = counted(&node, &spec);
    std::thread::sleep(Duration::from_millis(300));

    let edgek = Process::start(&node);
    edgek.run(async |edgek| {
        assert_eq!(edgek.runtime.containers().await.unwrap(), before);
        assert_eq!(node.containerd_pid(), containerd, "the running containerd is taken over");
        edgek.wait_log(&node, &spec, written + 40).await;
        let session = edgek.runtime.attach(&shell.id).await.unwrap();
        session.stdin.as_ref().unwrap().send(Bytes::from_static(b"b\n")).await.unwrap();
        edgek.wait_log(&node, &shell, 2).await;
    });
    counted(&node, &spec);
    assert_eq!(node.log(&shell), "got a\ngot b\n");
    edgek.run(async |edgek| {
        kill(Pid::from_raw(containerd), Signal::SIGKILL).unwrap();
        wait_for("another containerd", || ![0, containerd].contains(&node.containerd_pid()));
        assert_eq!(edgek.exec(&spec.id, &["echo", "hello"]).await.1, "hello\n");
    });
    edgek.stop();
    assert_eq!(process_count(&node, ""), 0, "nothing is left");
}

#[test]
fn what_ends_while_edgek_is_away_is_known_afterwards() {
    let node = Node::new();
    let edgek = Process::start(&node);
    let gate = node.dir.path().join("gate");
    std::fs::create_dir(&gate).unwrap();
    let mut spec =
        node.spec("web", "main", "echo started; while ! test -e /gate/open; do sleep 0.01; done; exit 9");
    spec.mounts = vec![edgek_node_runtime::Mount::bind(&gate, "/gate")];
    let created = node.spec("web", "created", "exit 0");
    let running = edgek.run(async |edgek| {
        edgek.run(&spec).await;
        edgek.runtime.create_container(&created).await.unwrap();
        edgek.wait_log(&node, &spec, 1).await;
        state(edgek, &spec.id).await
    });
    edgek.kill();
    std::fs::write(gate.join("open"), "").unwrap();
    let State::Running { pid, .. } = running else { panic!("{running:?}") };
    wait_for("the container's end", || !std::path::Path::new(&format!("/proc/{pid}")).exists());

    let edgek = Process::start(&node);
    edgek.run(async |edgek| {
        let container = edgek.wait_exit(&spec.id).await;
        assert_eq!(exit_code(&container), 9);
        assert_eq!(state(edgek, &created.id).await, State::Created);
        edgek.runtime.start_container(&created.id).await.unwrap();
        assert_eq!(exit_code(&edgek.wait_exit(&created.id).await), 0);
    });
    edgek.stop();
}

#[test]
fn a_killed_containerd_comes_back_to_the_same_containers() {
    let node = Node::new();
    let edgek = Process::start(&node);
    let spec = node.spec("web", "main", COUNT);
    let short = node.spec("db", "short", "sleep 0.4; exit 3");
    edgek.run(async |edgek| {
        edgek.run(&spec).await;
        edgek.run(&short).await;
        let before = state(edgek, &spec.id).await;
        let containerd = node.containerd_pid();
        kill(Pid::from_raw(containerd), Signal::SIGKILL).unwrap();
        // Its end falls in the time without containerd or soon after it: both must be heard of.
        assert_eq!(exit_code(&edgek.wait_exit(&short.id).await), 3);
        assert_ne!(node.containerd_pid(), containerd);
        assert_eq!(state(edgek, &spec.id).await, before);
        assert_eq!(edgek.exec(&spec.id, &["echo", "hello"]).await.1, "hello\n");
        let written = counted(&node, &spec);
        edgek.wait_log(&node, &spec, written + 20).await;
        edgek.run_to_end(&node.spec("new", "main", "true")).await;
    });
    counted(&node, &spec);
    edgek.stop();
}

#[test]
fn both_killed_come_back_and_an_orderly_end_leaves_containers_running() {
    let node = Node::new();
    let edgek = Process::start(&node);
    let mut spec = node.spec("web", "main", COUNT);
    spec.pid = PidNamespace::Pod;
    let before = edgek.run(async |edgek| {
        edgek.run(&spec).await;
        state(edgek, &spec.id).await
    });
    edgek.kill();
    kill(Pid::from_raw(node.containerd_pid()), Signal::SIGKILL).unwrap();

    let edgek = Process::start(&node);
    edgek.run(async |edgek| {
        assert_eq!(state(edgek, &spec.id).await, before);
        edgek.scope.close(crate::support::PATIENCE).await.unwrap();
    });
    assert_eq!(process_count(&node, "containerd"), 1, "the shim stays, containerd goes");
    edgek.kill();

    let edgek = Process::start(&node);
    edgek.run(async |edgek| {
        assert_eq!(state(edgek, &spec.id).await, before);
        let written = counted(&node, &spec);
        edgek.wait_log(&node, &spec, written + 20).await;
    });
    edgek.stop();
    assert_eq!(process_count(&node, ""), 0, "nothing is left");
}

#[test]
fn a_container_whose_shim_was_killed_has_ended() {
    let node = Node::new();
    let edgek = Process::start(&node);
    let spec = node.spec("web", "main", "sleep 1000");
    edgek.run(async |edgek| {
        edgek.run(&spec).await;
        for shim in crate::support::processes(&node, "containerd-shim") {
            kill(Pid::from_raw(shim), Signal::SIGKILL).unwrap();
        }
        assert_eq!(exit_code(&edgek.wait_exit(&spec.id).await), 137);
        edgek.run_to_end(&node.spec("web", "again", "true")).await;
    });
    edgek.stop();
    assert_eq!(process_count(&node, ""), 0, "nothing is left");
}

#[test]
fn a_containerd_with_another_configuration_is_replaced() {
    let node = Node::new();
    let edgek = Process::start(&node);
    let spec = node.spec("web", "main", "sleep 1000");
    let before = edgek.run(async |edgek| {
        edgek.run(&spec).await;
        state(edgek, &spec.id).await
    });
    edgek.kill();
    let containerd = node.containerd_pid();
    std::fs::write(node.daemon.state_dir.join("config.toml"), "of an older edgek").unwrap();
    let edgek = Process::start(&node);
    edgek.run(async |edgek| {
        assert_eq!(state(edgek, &spec.id).await, before);
        assert_ne!(node.containerd_pid(), containerd);
    });
    edgek.stop();
}

#[test]
fn an_upgrade_of_the_programs_leaves_containers_running_and_reachable() {
    let mut node = Node::new();
    let bundle = node.daemon.bin_dir.clone();
    let version = |name: &str| {
        let dir = node.dir.path().join(name);
        std::fs::create_dir(&dir).unwrap();
        for program in ["containerd", "containerd-shim-runc-v2", "runc"] {
            std::fs::copy(bundle.join(program), dir.join(program)).unwrap();
        }
        dir
    };
    let (old, new) = (version("old"), version("new"));
    let current = node.dir.path().join("current");
    std::os::unix::fs::symlink(&old, &current).unwrap();
    node.daemon.bin_dir.clone_from(&current);
    let edgek = Process::start(&node);
    let spec = node.spec("web", "main", COUNT);
    let before = edgek.run(async |edgek| {
        edgek.run(&spec).await;
        state(edgek, &spec.id).await
    });
    edgek.kill();
    let containerd = node.containerd_pid();
    std::fs::remove_file(&current).unwrap();
    std::os::unix::fs::symlink(&new, &current).unwrap();
    std::fs::remove_dir_all(&old).unwrap();

    let edgek = Process::start(&node);
    edgek.run(async |edgek| {
        assert_eq!(state(edgek, &spec.id).await, before);
        assert_ne!(node.containerd_pid(), containerd);
        assert_eq!(edgek.exec(&spec.id, &["echo", "hello"]).await.1, "hello\n");
        edgek.run_to_end(&node.spec("web", "again", "true")).await;
    });
    edgek.stop();
    assert_eq!(process_count(&node, ""), 0, "nothing is left");
}

#[test]
fn after_a_reboot_containers_have_ended_for_unknown_reasons() {
    let node = Node::new();
    let edgek = Process::start(&node);
    let (spec, done) = (node.spec("web", "main", "sleep 1000"), node.spec("web", "done", "exit 6"));
    edgek.run(async |edgek| {
        edgek.run(&spec).await;
        edgek.run_to_end(&done).await;
    });
    edgek.kill();
    node.reboot();
    let edgek = Process::start(&node);
    edgek.run(async |edgek| {
        let ended = edgek.runtime.container(&spec.id).await.unwrap().state;
        assert!(matches!(ended, State::Exited { code: 255, reason: ExitReason::Unknown, .. }), "{ended:?}");
        assert_eq!(exit_code(&edgek.runtime.container(&done.id).await.unwrap()), 6);
        edgek.run_to_end(&node.spec("web", "again", "true")).await;
    });
    edgek.stop();
}
