//! The node's object: labels, capacity, conditions. Pure; the words are upstream's.

use std::collections::BTreeSet;

use edgek_node_runtime::{Image, Version};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::facts::Facts;
use super::pressure::{Condition, Signal, Thresholds};
use crate::config::Config;

/// Images and names per image in the status.
const MAX_IMAGES: usize = 50;
const MAX_IMAGE_NAMES: usize = 5;

/// What may change while the node runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Observed {
    /// Why the node cannot run pods; empty when it can.
    pub problems: Vec<String>,
    /// What runs out.
    pub pressures: BTreeSet<Condition>,
    /// The container runtime, if it answers.
    pub runtime: Option<Version>,
    /// The images on the node.
    pub images: Vec<Image>,
}

/// What pods may use of the node, in bytes and thousandths of CPUs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allocatable {
    /// CPU in thousandths.
    pub cpu_milli: i64,
    /// Memory in bytes.
    pub memory: i64,
    /// Ephemeral storage in bytes.
    pub storage: i64,
}

impl Allocatable {
    /// The capacity without what is to be left of it.
    pub fn of(facts: &Facts, thresholds: &Thresholds) -> Self {
        let hugepages: u64 = facts.hugepages.values().sum();
        let reserve = thresholds.left(Signal::MemoryAvailable, facts.memory);
        let memory = facts.memory.saturating_sub(reserve).saturating_sub(hugepages);
        let storage = facts.disk.saturating_sub(thresholds.left(Signal::NodefsAvailable, facts.disk));
        let signed = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        Self { cpu_milli: signed(facts.cpus as u64 * 1000), memory: signed(memory), storage: signed(storage) }
    }
}

/// The object to register.
pub fn registration(config: &Config, facts: &Facts, status: &Value) -> Value {
    let mut spec = Map::new();
    if !config.taints.is_empty() {
        spec.insert("taints".to_owned(), json!(config.taints));
    }
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": config.node_name, "labels": labels(config, facts)},
        "spec": spec,
        "status": status,
    })
}

/// The labels the node gives itself.
pub fn labels(config: &Config, facts: &Facts) -> Value {
    let mut labels = json!({
        "beta.kubernetes.io/arch": facts.architecture,
        "beta.kubernetes.io/os": "linux",
        "kubernetes.io/arch": facts.architecture,
        "kubernetes.io/hostname": config.node_name,
        "kubernetes.io/os": "linux",
    });
    for (name, value) in &config.labels {
        labels[name] = json!(value);
    }
    labels
}

/// The node's status now; `old` is the one the server has, whose conditions keep their times where nothing changed.
pub fn status(config: &Config, facts: &Facts, observed: &Observed, old: &Value, now: Timestamp) -> Value {
    let mut addresses: Vec<Value> =
        config.node_ips.iter().map(|ip| json!({"type": "InternalIP", "address": ip})).collect();
    addresses.push(json!({"type": "Hostname", "address": config.node_name}));
    json!({
        "addresses": addresses,
        "allocatable": allocatable(config, facts),
        "capacity": capacity(config, facts),
        "conditions": conditions(observed, old, now),
        "daemonEndpoints": {"kubeletEndpoint": {"Port": config.port}},
        "features": {"supplementalGroupsPolicy": true},
        "images": images(&observed.images),
        "nodeInfo": node_info(config, facts, observed),
        "runtimeHandlers": [{"name": "", "features": {"recursiveReadOnlyMounts": true, "userNamespaces": false}}],
    })
}

fn capacity(config: &Config, facts: &Facts) -> Value {
    let kibi = |bytes: u64| format!("{}Ki", bytes >> 10);
    let mut capacity = json!({
        "cpu": facts.cpus.to_string(),
        "ephemeral-storage": kibi(facts.disk),
        "memory": kibi(facts.memory),
        "pods": config.max_pods.to_string(),
    });
    hugepages(facts, &mut capacity);
    capacity
}

fn allocatable(config: &Config, facts: &Facts) -> Value {
    let own = Allocatable::of(facts, &config.thresholds);
    let mut allocatable = json!({
        "cpu": facts.cpus.to_string(),
        "ephemeral-storage": own.storage.to_string(),
        "memory": format!("{}Ki", own.memory >> 10),
        "pods": config.max_pods.to_string(),
    });
    hugepages(facts, &mut allocatable);
    allocatable
}

fn hugepages(facts: &Facts, resources: &mut Value) {
    for (size, bytes) in &facts.hugepages {
        let text = if *bytes == 0 { "0".to_owned() } else { format!("{}Mi", bytes >> 20) };
        resources[format!("hugepages-{size}")] = json!(text);
    }
}

fn node_info(config: &Config, facts: &Facts, observed: &Observed) -> Value {
    let runtime = observed.runtime.as_ref().map(|version| format!("{}://{}", version.name, version.version));
    json!({
        "architecture": facts.architecture,
        "bootID": facts.boot_id,
        "containerRuntimeVersion": runtime.unwrap_or_default(),
        "kernelVersion": facts.kernel,
        "kubeProxyVersion": "",
        "kubeletVersion": config.version,
        "machineID": facts.machine_id,
        "operatingSystem": "linux",
        "osImage": facts.os_image,
        "systemUUID": facts.system_uuid,
    })
}

fn images(images: &[Image]) -> Value {
    let mut sorted: Vec<&Image> = images.iter().collect();
    sorted.sort_by(|a, b| b.size.cmp(&a.size).then_with(|| a.id.cmp(&b.id)));
    let entry = |image: &Image| {
        let names: Vec<&String> = image.digests.iter().chain(&image.tags).take(MAX_IMAGE_NAMES).collect();
        json!({"names": names, "sizeBytes": image.size})
    };
    sorted.into_iter().take(MAX_IMAGES).map(entry).collect()
}

fn conditions(observed: &Observed, old: &Value, now: Timestamp) -> Value {
    let pressure = |kind: Condition, words: [(&str, &str); 2]| {
        let (status, (reason, message)) = match observed.pressures.contains(&kind) {
            false => ("False", words[0]),
            true => ("True", words[1]),
        };
        condition(&format!("{kind:?}"), status, reason, message, old, now)
    };
    let ready = if observed.problems.is_empty() {
        condition("Ready", "True", "KubeletReady", "kubelet is posting ready status", old, now)
    } else {
        let message = match observed.problems.as_slice() {
            [one] => one.clone(),
            many => format!("[{}]", many.join(", ")),
        };
        condition("Ready", "False", "KubeletNotReady", &message, old, now)
    };
    json!([
        pressure(
            Condition::MemoryPressure,
            [
                ("KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
                ("KubeletHasInsufficientMemory", "kubelet has insufficient memory available"),
            ]
        ),
        pressure(
            Condition::DiskPressure,
            [
                ("KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
                ("KubeletHasDiskPressure", "kubelet has disk pressure"),
            ]
        ),
        pressure(
            Condition::PIDPressure,
            [
                ("KubeletHasSufficientPID", "kubelet has sufficient PID available"),
                ("KubeletHasInsufficientPID", "kubelet has insufficient PID available"),
            ]
        ),
        ready,
    ])
}

fn condition(kind: &str, status: &str, reason: &str, message: &str, old: &Value, now: Timestamp) -> Value {
    let before = old["conditions"].as_array().and_then(|all| all.iter().find(|c| c["type"] == kind));
    let now = seconds(now);
    let since = match before {
        Some(before) if before["status"] == status => before["lastTransitionTime"].clone(),
        _ => json!(now),
    };
    json!({
        "type": kind, "status": status, "reason": reason, "message": message,
        "lastHeartbeatTime": now, "lastTransitionTime": since,
    })
}

/// Whether the two differ in more than the time of the report.
pub fn differs(a: &Value, b: &Value) -> bool {
    let without_beat = |status: &Value| {
        let mut status = status.clone();
        for condition in status["conditions"].as_array_mut().into_iter().flatten() {
            if let Some(condition) = condition.as_object_mut() {
                condition.remove("lastHeartbeatTime");
            }
        }
        status
    };
    let (a, b) = (without_beat(a), without_beat(b));
    a.as_object().into_iter().flatten().any(|(name, value)| b[name] != *value)
}

fn seconds(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

#[cfg(test)]
mod tests;
