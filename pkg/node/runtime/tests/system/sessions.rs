//! Exec and attach on a real containerd.

use std::time::Duration;

use crate::support::{Edgek, Node, PATIENCE, drain};
use bytes::Bytes;
use edgek_node_runtime::{ContainerId, Error, ExecSpec, Output, Runtime, Session, Stdin, TerminalSize};

async fn start(
    edgek: &Edgek,
    id: &ContainerId,
    command: &str,
    change: impl FnOnce(&mut ExecSpec),
) -> Session {
    let command = ["sh", "-c", command].map(str::to_owned).to_vec();
    let mut exec = ExecSpec { command, ..ExecSpec::default() };
    change(&mut exec);
    edgek.runtime.exec(id, exec).await.unwrap()
}

async fn next(session: &mut Session) -> Output {
    tokio::time::timeout(PATIENCE, session.output.recv()).await.unwrap().unwrap()
}

async fn read_until(session: &mut Session, end: &str) -> String {
    let mut text = String::new();
    while !text.ends_with(end) {
        match next(session).await {
            Output::Stdout(bytes) | Output::Stderr(bytes) => text += std::str::from_utf8(&bytes).unwrap(),
        }
    }
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_has_streams_an_exit_code_and_the_containers_world() {
    let node = Node::new();
    let edgek = node.start().await;
    let mut spec = node.spec("web", "main", "sleep 1000");
    spec.env = vec![("OWN".into(), "1".into())];
    let id = edgek.run(&spec).await;

    let session = start(&edgek, &id, "echo $OWN $PWD; echo err >&2; exit 7", |_| {}).await;
    assert_eq!(drain(session).await, (7, "1 /tmp\n".into(), "err\n".into()));

    let session = start(&edgek, &id, "cat; echo end", |exec| exec.stdin = true).await;
    let stdin = session.stdin.clone().unwrap();
    stdin.send(Bytes::from_static(b"one\n")).await.unwrap();
    stdin.send(Bytes::from_static(b"two\n")).await.unwrap();
    drop(stdin);
    assert_eq!(drain(session).await, (0, "one\ntwo\nend\n".into(), String::new()));

    let missing = ExecSpec { command: vec!["no-such-program".into()], ..ExecSpec::default() };
    let error = edgek.runtime.exec(&id, missing).await.unwrap_err();
    assert!(error.to_string().contains("\"no-such-program\": executable file not found in $PATH"), "{error}");

    edgek.runtime.remove_container(&id).await.unwrap();
    let gone = edgek.runtime.exec(&id, ExecSpec::default()).await.unwrap_err();
    assert!(matches!(gone, Error::ContainerNotFound(_)));
    edgek.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn input_that_ends_at_once_arrives() {
    let node = Node::new();
    let edgek = node.start().await;
    let id = edgek.run(&node.spec("web", "main", "sleep 1000")).await;
    for round in 0..20 {
        let mut session = start(&edgek, &id, "cat", |exec| exec.stdin = true).await;
        let stdin = session.stdin.take().unwrap();
        stdin.send(Bytes::from_static(b"one")).await.unwrap();
        drop(stdin);
        assert_eq!(drain(session).await, (0, "one".into(), String::new()), "{round}");
    }
    edgek.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_takes_input_and_its_size() {
    let node = Node::new();
    let edgek = node.start().await;
    let id = edgek.run(&node.spec("web", "main", "sleep 1000")).await;
    let script = "trap 'stty size' WINCH; echo ready; until read -r line; do :; done; echo got $line";
    let mut session = start(&edgek, &id, script, |exec| (exec.tty, exec.stdin) = (true, true)).await;
    assert_eq!(read_until(&mut session, "\r\n").await, "ready\r\n");
    session.resize.send(TerminalSize { width: 120, height: 40 }).await.unwrap();
    assert!(read_until(&mut session, "\r\n").await.contains("40 120"));
    // Closing a terminal's input hangs it up.
    let stdin = session.stdin.clone().unwrap();
    stdin.send(Bytes::from_static(b"hello\n")).await.unwrap();
    assert!(read_until(&mut session, "got hello\r\n").await.contains("hello\r\n"));
    assert_eq!(drain(session).await.0, 0);
    drop(stdin);
    edgek.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_ends_at_its_timeout_and_despite_children_it_leaves() {
    let node = Node::new();
    let edgek = node.start().await;
    let id = edgek.run(&node.spec("web", "main", "sleep 1000")).await;
    let limit = Duration::from_millis(200);
    let session = start(&edgek, &id, "echo begin; exec sleep 500", |exec| exec.timeout = Some(limit)).await;
    let ended = tokio::time::timeout(PATIENCE, session.exit).await.unwrap().unwrap();
    assert!(matches!(ended, Err(Error::ExecTimeout(after)) if after == limit), "{ended:?}");
    let (_, processes, _) = edgek.exec(&id, &["ps"]).await;
    assert!(!processes.contains("sleep 500"), "{processes}");

    let session = start(&edgek, &id, "sleep 400 & echo done", |_| {}).await;
    assert_eq!(drain(session).await, (0, "done\n".into(), String::new()));
    edgek.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_reader_gets_everything_and_an_absent_one_stops_nothing() {
    let node = Node::new();
    let edgek = node.start().await;
    let id = edgek.run(&node.spec("web", "main", "sleep 1000")).await;
    let script = "seq 1 200000; echo end";
    let mut session = start(&edgek, &id, script, |_| {}).await;
    edgek_base_lifecycle::sleep(Duration::from_millis(700)).await;
    let text = read_until(&mut session, "end\n").await;
    assert_eq!(text.lines().count(), 200_001);
    assert_eq!(drain(session).await.0, 0);

    let session = start(&edgek, &id, script, |_| {}).await;
    drop(session.output);
    assert_eq!(tokio::time::timeout(PATIENCE, session.exit).await.unwrap().unwrap().unwrap(), 0);
    edgek.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attached_clients_share_a_containers_streams() {
    let node = Node::new();
    let edgek = node.start().await;
    let mut spec =
        node.spec("web", "main", "while read -r line; do echo got $line; done; echo closed; exit 4");
    spec.stdin = Stdin::Open;
    let id = edgek.run(&spec).await;
    let mut first = edgek.runtime.attach(&id).await.unwrap();
    let mut second = edgek.runtime.attach(&id).await.unwrap();
    let stdin = first.stdin.take().unwrap();
    stdin.send(Bytes::from_static(b"a\n")).await.unwrap();
    for session in [&mut first, &mut second] {
        assert_eq!(read_until(session, "\n").await, "got a\n");
    }
    drop((stdin, first));
    let third = second.stdin.take().unwrap();
    third.send(Bytes::from_static(b"b\n")).await.unwrap();
    assert_eq!(read_until(&mut second, "\n").await, "got b\n");
    edgek.runtime.signal_container(&id, edgek_node_runtime::Signal::KILL).await.unwrap();
    assert_eq!(drain(second).await.0, 137);

    let mut once = node.spec("web", "once", "cat; echo closed; exit 4");
    once.stdin = Stdin::Once;
    let id = edgek.run(&once).await;
    let session = edgek.runtime.attach(&id).await.unwrap();
    session.stdin.as_ref().unwrap().send(Bytes::from_static(b"x\n")).await.unwrap();
    assert_eq!(drain(session).await, (4, "x\nclosed\n".into(), String::new()));
    assert_eq!(node.log(&once), "x\nclosed\n");
    edgek.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_with_a_terminal_is_attached_to_like_one() {
    let node = Node::new();
    let edgek = node.start().await;
    let mut spec = node.spec("web", "main", "read -r line; stty size; echo got $line");
    (spec.tty, spec.stdin) = (true, Stdin::Once);
    let id = edgek.run(&spec).await;
    let mut session = edgek.runtime.attach(&id).await.unwrap();
    session.resize.send(TerminalSize { width: 100, height: 30 }).await.unwrap();
    edgek_base_lifecycle::sleep(Duration::from_millis(50)).await;
    let stdin = session.stdin.clone().unwrap();
    stdin.send(Bytes::from_static(b"hi\n")).await.unwrap();
    let text = read_until(&mut session, "got hi\r\n").await;
    assert!(text.contains("30 100"), "{text}");
    assert_eq!(drain(session).await.0, 0);
    drop(stdin);
    edgek.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_read_is_detached_and_the_log_is_whole() {
    let node = Node::new();
    let edgek = node.start().await;
    let mut spec = node.spec("web", "main", "read -r go; seq 1 150000");
    spec.stdin = Stdin::Open;
    let id = edgek.run(&spec).await;
    let stuck = edgek.runtime.attach(&id).await.unwrap();
    stuck.stdin.as_ref().unwrap().send(Bytes::from_static(b"go\n")).await.unwrap();
    let started = tokio::time::Instant::now();
    edgek.wait_exit(&id).await;
    assert!(started.elapsed() < Duration::from_secs(8), "{:?}", started.elapsed());
    assert_eq!(node.log(&spec).lines().count(), 150_000);
    edgek.stop().await;
}
