//! Tests of `evict`.

use super::*;
use crate::sample;
use crate::stats::Cpu;
use edgek_node_runtime::{Stats, Usage};
use jiff::Timestamp;
use serde_json::json;
use std::sync::Arc;

const MIB: u64 = 1 << 20;

/// A pod with one container: its name, priority, requested and used MiB of memory.
fn pod(name: &str, priority: i32, request: u64, used: u64) -> PodStats {
    let requests = json!({"memory": format!("{request}Mi")});
    let container = json!({"name": "c", "resources": {"requests": requests}});
    let mut pod = sample::pod(&json!({"priority": priority, "containers": [container]}));
    pod.metadata.name = Some(name.to_owned());
    let usage = Stats {
        at: Timestamp::UNIX_EPOCH,
        cpu_usage_ns: 0,
        memory_usage: used * MIB,
        memory_working_set: used * MIB,
        memory_rss: 0,
        page_faults: 0,
        major_page_faults: 0,
        processes: used,
        writable_layer: Usage { bytes: used * MIB, inodes: used },
    };
    let container = ContainerStats {
        name: "c".to_owned(),
        started: Timestamp::UNIX_EPOCH,
        cpu: Cpu::default(),
        usage,
        log_bytes: MIB,
    };
    PodStats { pod: Arc::new(pod), cpu: Cpu::default(), containers: vec![container] }
}

#[test]
fn who_exceeds_the_request_goes_first_then_the_least_important_then_the_largest() {
    let check = |pods: &[PodStats], resource: Resource, expected: Option<&str>| {
        let chosen = choose(pods, resource).and_then(|pod| pod.pod.metadata.name.as_deref());
        assert_eq!(chosen, expected, "{resource:?}");
    };
    let within = pod("within", 0, 100, 90);
    let important = pod("important", 10, 10, 90);
    let small = pod("small", 0, 10, 20);
    let large = pod("large", 0, 10, 30);
    let critical = pod("critical", CRITICAL_PRIORITY, 0, 1000);
    let memory = Resource::Memory;
    check(&[within.clone(), important.clone(), critical.clone()], memory, Some("important"));
    check(&[important.clone(), small.clone(), within.clone()], memory, Some("small"));
    check(&[small.clone(), large.clone()], memory, Some("large"));
    check(&[within.clone(), critical.clone()], memory, Some("within"));
    check(&[small.clone(), within.clone()], Resource::Storage, Some("within"));
    check(&[important, small, within.clone()], Resource::Pids, Some("within"));
    check(&[critical, PodStats { containers: Vec::new(), ..within }], memory, None);
}

#[test]
fn the_message_says_what_ran_out_and_who_used_it() {
    let met = |signal| Met { signal, threshold: 100 * MIB, available: 50 * MIB };
    assert_eq!(
        message(&pod("p", 0, 10, 30), met(Signal::MemoryAvailable)),
        "The node was low on resource: memory. Threshold quantity: 100Mi, available: 50Mi. \
         Container c was using 30Mi, request is 10Mi, has larger consumption of memory. "
    );
    assert_eq!(
        message(&pod("p", 0, 10, 30), met(Signal::NodefsAvailable)),
        "The node was low on resource: ephemeral-storage. Threshold quantity: 100Mi, available: 50Mi. \
         Container c was using 31Mi, request is 0, has larger consumption of ephemeral-storage. "
    );
}
