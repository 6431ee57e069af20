//! Containers on a real containerd: how they are made, run, end, and are entered. Needs root and `EDGEK_BUNDLE`.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use edgek_node_runtime::{ExitReason, Runtime, State};
use support::{Node, exit_code};

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
