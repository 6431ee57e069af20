//! Tests of `plan`.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::*;
use crate::sample;
use crate::view::Health;

/// The plan in short: `start a/1`, `kill a-0`, `wait a`, `succeeded`, `failed`.
fn short(plan: &Plan) -> String {
    let mut parts: Vec<String> = Vec::new();
    parts.extend(plan.start.iter().map(|start| format!("start {}/{}", start.name, start.attempt)));
    parts.extend(plan.kill.iter().map(|id| format!("kill {id}")));
    parts.extend(plan.back_off.iter().map(|wait| format!("wait {}", wait.name)));
    parts.extend(plan.end.map(|end| format!("{end:?}").to_lowercase()));
    parts.join(", ")
}

fn check_with(
    spec: &Value,
    runs: &[&str],
    health: &BTreeMap<ContainerId, Health>,
    backoff: &RestartBackoff,
    expected: &str,
) {
    let pod = sample::pod(spec);
    let all: Vec<Run> = runs.iter().map(|run| sample::run(run)).collect();
    let view = View {
        pod: &pod,
        spec: pod.spec.as_ref().unwrap(),
        runs: &all,
        health,
        waiting: &BTreeMap::new(),
        now: Timestamp::UNIX_EPOCH,
    };
    assert_eq!(short(&plan(&view, backoff)), expected, "{spec} {runs:?}");
}

fn check(spec: &Value, runs: &[&str], expected: &str) {
    check_with(spec, runs, &BTreeMap::new(), &RestartBackoff::default(), expected);
}

#[test]
fn containers_start_together_and_restart_by_policy() {
    let two = |policy: &str| json!({"restartPolicy": policy, "containers": [{"name": "a"}, {"name": "b"}]});
    check(&two("Always"), &[], "start a/0, start b/0");
    check(&two("Always"), &["a=running"], "start b/0");
    check(&two("Always"), &["a=created", "b=running"], "start a/0");
    check(&two("Always"), &["a=running", "b=0"], "start b/1");
    check(&two("Always"), &["a=running", "b=1", "b/1=1"], "start b/2");
    check(&two("OnFailure"), &["a=running", "b=0"], "");
    check(&two("OnFailure"), &["a=0", "b=0"], "succeeded");
    check(&two("Never"), &["a=0", "b=3"], "failed");
    check(&two("Never"), &["a=running", "b=3"], "");
}

#[test]
fn init_containers_run_one_after_the_other() {
    let spec = |policy: &str| json!({"restartPolicy": policy, "initContainers": [{"name": "i"}, {"name": "j"}], "containers": [{"name": "a"}]});
    check(&spec("Always"), &[], "start i/0");
    check(&spec("Always"), &["i=running"], "");
    check(&spec("Always"), &["i=0"], "start j/0");
    check(&spec("Always"), &["i=0", "j=1"], "start j/1");
    check(&spec("Always"), &["i=0", "j=0"], "start a/0");
    check(&spec("Never"), &["i=1"], "failed");
    check(&spec("Always"), &["i=0", "j=0", "a=running"], "");
    check(&spec("Always"), &["a=running"], "");
}

#[test]
fn a_sidecar_starts_before_the_others_and_restarts_until_they_end() {
    let spec = json!({"restartPolicy": "Never", "initContainers": [{"name": "s", "restartPolicy": "Always"}, {"name": "i"}], "containers": [{"name": "a"}]});
    check(&spec, &[], "start s/0");
    check(&spec, &["s=running"], "start i/0");
    check(&spec, &["s=1", "i=running"], "start s/1");
    check(&spec, &["s=running", "i=0"], "start a/0");
    check(&spec, &["s=0", "i=0", "a=running"], "start s/1");
    check(&spec, &["s=running", "i=0", "a=0"], "succeeded");
}

#[test]
fn a_sidecar_with_a_startup_probe_holds_the_others_back() {
    let sidecar =
        json!({"name": "s", "restartPolicy": "Always", "startupProbe": {"exec": {"command": ["true"]}}});
    let spec = json!({"initContainers": [sidecar], "containers": [{"name": "a"}]});
    check(&spec, &["s=running"], "");
    let healthy = Health { hooked: true, started: true, ready: false, failed: false };
    let health = BTreeMap::from([(ContainerId::from("s-0"), healthy)]);
    check_with(&spec, &["s=running"], &health, &RestartBackoff::default(), "start a/0");
    let failed = Health { failed: true, ..healthy };
    let health = BTreeMap::from([(ContainerId::from("s-0"), failed)]);
    check_with(&spec, &["s=running", "a=running"], &health, &RestartBackoff::default(), "kill s-0");
}

#[test]
fn a_container_that_crashes_again_waits() {
    let spec = json!({"containers": [{"name": "a"}]});
    let mut backoff = RestartBackoff::default();
    backoff.restarted("a", Timestamp::UNIX_EPOCH, Timestamp::UNIX_EPOCH);
    check_with(&spec, &["a/1=1"], &BTreeMap::new(), &backoff, "wait a");
}

#[test]
fn an_ephemeral_container_starts_once() {
    let spec = json!({"containers": [{"name": "a"}], "ephemeralContainers": [{"name": "e"}]});
    check(&spec, &["a=running"], "start e/0");
    check(&spec, &["a=running", "e=running"], "");
    check(&spec, &["a=running", "e=1"], "");
}
