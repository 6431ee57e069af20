//! Tests of `status`.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use edgek_node_runtime::Container as Run;
use k8s_openapi::api::core::v1::Pod;
use serde_json::json;

use super::*;
use crate::sample;
use crate::view::Waiting;

const HOST: [IpAddr; 1] = [IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1))];

fn build_for(pod: &Pod, runs: &[&str], waiting: &[(&str, &str)], ending: Ending) -> PodStatus {
    let all: Vec<Run> = runs.iter().map(|run| sample::run(run)).collect();
    let waiting =
        waiting.iter().map(|(name, reason)| ((*name).to_owned(), Waiting::new(reason, "why"))).collect();
    let view = View {
        pod,
        spec: pod.spec.as_ref().unwrap(),
        runs: &all,
        health: &BTreeMap::new(),
        waiting: &waiting,
        now: Timestamp::UNIX_EPOCH,
    };
    build(&view, &Node { host_ips: &HOST, pod_ips: &HOST, sandbox: Sandbox::Ready, ending })
}

/// `phase; condition=status(reason) ...; name:state(reason) last ready restarts ...`
fn short(status: &PodStatus) -> String {
    let conditions = status.conditions.iter().flatten().filter(|c| !c.type_.starts_with("Pod")).map(|c| {
        let reason = c.reason.as_ref().map(|reason| format!("({reason})")).unwrap_or_default();
        format!("{}={}{reason}", c.type_, c.status)
    });
    let state = |s: &k8s_openapi::api::core::v1::ContainerState| match (&s.waiting, &s.running, &s.terminated)
    {
        (Some(w), ..) => w.reason.clone().unwrap_or_default(),
        (_, Some(_), _) => "running".to_owned(),
        (.., Some(t)) => format!("exit{}", t.exit_code),
        _ => "-".to_owned(),
    };
    let containers =
        status.init_container_statuses.iter().chain(&status.container_statuses).flatten().map(|c| {
            let (now, last) = (state(c.state.as_ref().unwrap()), state(c.last_state.as_ref().unwrap()));
            format!(
                "{}:{now}/{last}/{}/{}",
                c.name,
                if c.ready { "ready" } else { "unready" },
                c.restart_count
            )
        });
    let conditions: Vec<_> = conditions.collect();
    let containers: Vec<_> = containers.collect();
    format!("{}; {}; {}", status.phase.as_ref().unwrap(), conditions.join(" "), containers.join(" "))
}

#[test]
fn the_status_follows_the_containers() {
    let check = |spec: &Value, runs: &[&str], waiting: &[(&str, &str)], expected: &str| {
        let status = build_for(&sample::pod(spec), runs, waiting, Ending::No);
        assert_eq!(short(&status), expected, "{spec} {runs:?}");
    };
    let plain = json!({"containers": [{"name": "a"}]});
    let no = "Ready=False(ContainersNotReady) ContainersReady=False(ContainersNotReady)";
    let yes = "Initialized=True Ready=True ContainersReady=True";
    check(&plain, &[], &[], &format!("Pending; Initialized=True {no}; a:ContainerCreating/-/unready/0"));
    check(
        &plain,
        &[],
        &[("a", "ErrImagePull")],
        &format!("Pending; Initialized=True {no}; a:ErrImagePull/-/unready/0"),
    );
    check(&plain, &["a=running"], &[], &format!("Running; {yes}; a:running/-/ready/0"));
    check(&plain, &["a=1", "a/1=running"], &[], &format!("Running; {yes}; a:running/exit1/ready/1"));
    check(
        &plain,
        &["a=1", "a/1=1"],
        &[("a", "CrashLoopBackOff")],
        &format!("Running; Initialized=True {no}; a:CrashLoopBackOff/exit1/unready/1"),
    );
    let once = json!({"restartPolicy": "Never", "containers": [{"name": "a"}]});
    check(
        &once,
        &["a=0"],
        &[],
        "Succeeded; Initialized=True(PodCompleted) Ready=False(PodCompleted) ContainersReady=False(PodCompleted); a:exit0/-/unready/0",
    );
    check(
        &once,
        &["a=2"],
        &[],
        "Failed; Initialized=True Ready=False(PodFailed) ContainersReady=False(PodFailed); a:exit2/-/unready/0",
    );
    let init = json!({"initContainers": [{"name": "i"}], "containers": [{"name": "a"}]});
    let uninitialized = "Initialized=False(ContainersNotInitialized)";
    check(
        &init,
        &[],
        &[],
        &format!(
            "Pending; {uninitialized} {no}; i:PodInitializing/-/unready/0 a:PodInitializing/-/unready/0"
        ),
    );
    check(
        &init,
        &["i=created"],
        &[],
        &format!(
            "Pending; {uninitialized} {no}; i:PodInitializing/-/unready/0 a:PodInitializing/-/unready/0"
        ),
    );
    check(
        &init,
        &["i=0"],
        &[],
        &format!("Pending; Initialized=True {no}; i:exit0/-/ready/0 a:PodInitializing/-/unready/0"),
    );
    check(
        &init,
        &["i=0", "a=running"],
        &[],
        &format!("Running; {yes}; i:exit0/-/ready/0 a:running/-/ready/0"),
    );
    let probed = json!({"containers": [{"name": "a", "readinessProbe": {"tcpSocket": {"port": 80}}}]});
    check(&probed, &["a=running"], &[], &format!("Running; Initialized=True {no}; a:running/-/unready/0"));
    let gated = json!({"readinessGates": [{"conditionType": "x/y"}], "containers": [{"name": "a"}]});
    check(
        &gated,
        &["a=running"],
        &[],
        "Running; Initialized=True Ready=False(ReadinessGatesNotReady) ContainersReady=True; a:running/-/ready/0",
    );
}

#[test]
fn a_pod_that_has_been_ended_is_final_and_its_containers_are_remembered() {
    let mut pod = sample::pod(&json!({"containers": [{"name": "a"}]}));
    pod.status = Some(build_for(&pod, &["a=running"], &[], Ending::No));
    let ended = build_for(&pod, &["a=143"], &[], Ending::Over);
    assert!(
        short(&ended).starts_with("Failed;") && short(&ended).ends_with("a:exit143/-/unready/0"),
        "{}",
        short(&ended)
    );
    pod.status = Some(ended.clone());
    assert_eq!(short(&build_for(&pod, &[], &[], Ending::Over)), short(&ended));
}

#[test]
fn times_of_transition_and_conditions_of_others_stay() {
    let mut pod = sample::pod(&json!({"containers": [{"name": "a"}]}));
    let mut status = build_for(&pod, &["a=running"], &[], Ending::No);
    let earlier = Time(Timestamp::from_second(-100).unwrap());
    for condition in status.conditions.iter_mut().flatten() {
        condition.last_transition_time = Some(earlier.clone());
    }
    let foreign = serde_json::from_value(json!({"type": "x/y", "status": "True"})).unwrap();
    status.conditions.as_mut().unwrap().push(foreign);
    pod.status = Some(status.clone());
    assert_eq!(build_for(&pod, &["a=running"], &[], Ending::No), status);
}

#[test]
fn a_difference_is_a_merge_patch() {
    let check =
        |old: Value, new: Value, expected: Option<Value>| assert_eq!(difference(&old, &new), expected);
    check(json!({"a": 1}), json!({"a": 1}), None);
    check(json!({"a": 1, "b": 2}), json!({"a": 1}), Some(json!({"b": null})));
    check(json!({"a": {"x": 1, "y": 2}}), json!({"a": {"x": 1, "y": 3}}), Some(json!({"a": {"y": 3}})));
    check(json!({"l": [1, 2]}), json!({"l": [1]}), Some(json!({"l": [1]})));
}
