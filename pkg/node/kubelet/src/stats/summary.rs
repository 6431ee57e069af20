//! The summary API, `/stats/summary`: the statistics as upstream's JSON.

use serde_json::{Value, json};

use super::{ContainerStats, Cpu, NodeStats, PodStats};
use crate::node::facts::Disk;

/// The statistics as `stats.kubelet.k8s.io/v1alpha1`.
pub fn summary(stats: &NodeStats) -> Value {
    let (time, memory) = (stats.at.to_string(), &stats.memory);
    let mut node = json!({
        "nodeName": stats.name,
        "startTime": stats.booted.to_string(),
        "cpu": cpu(&time, stats.cpu),
        "memory": {
            "time": time,
            "availableBytes": memory.available,
            "usageBytes": memory.used(),
            "workingSetBytes": memory.working_set(),
            "rssBytes": memory.anonymous,
        },
    });
    if let Some(disk) = stats.disk {
        node["fs"] = file_system(&time, disk);
    }
    if let Some(disk) = stats.image_disk {
        let disk = file_system(&time, disk);
        node["runtime"] = json!({"imageFs": disk, "containerFs": disk});
    }
    if let Some((running, most)) = stats.tasks {
        node["rlimit"] = json!({"time": time, "maxpid": most, "curproc": running});
    }
    json!({"node": node, "pods": stats.pods.iter().map(|one| pod(&time, stats, one)).collect::<Value>()})
}

fn pod(time: &str, node: &NodeStats, stats: &PodStats) -> Value {
    let meta = &stats.pod.metadata;
    let mut value = json!({
        "podRef": {"name": meta.name, "namespace": meta.namespace, "uid": meta.uid},
        "startTime": stats.pod.status.as_ref().and_then(|status| status.start_time.clone()),
        "containers": stats.containers.iter().map(|one| container(node, one)).collect::<Value>(),
    });
    // A pod that does not run uses nothing.
    if stats.containers.is_empty() {
        return value;
    }
    value["cpu"] = cpu(time, stats.cpu);
    value["memory"] = json!({
        "time": time,
        "usageBytes": stats.sum(|container| container.usage.memory_usage),
        "workingSetBytes": stats.working_set(),
        "rssBytes": stats.sum(|container| container.usage.memory_rss),
        "pageFaults": stats.sum(|container| container.usage.page_faults),
        "majorPageFaults": stats.sum(|container| container.usage.major_page_faults),
    });
    let inodes = stats.sum(|container| container.usage.writable_layer.inodes);
    value["ephemeral-storage"] = used(time, node.disk, stats.disk(), inodes);
    value["process_stats"] = json!({"process_count": stats.sum(|container| container.usage.processes)});
    value
}

fn container(node: &NodeStats, stats: &ContainerStats) -> Value {
    let (usage, time) = (&stats.usage, stats.usage.at.to_string());
    json!({
        "name": stats.name,
        "startTime": stats.started.to_string(),
        "cpu": cpu(&time, stats.cpu),
        "memory": {
            "time": time,
            "usageBytes": usage.memory_usage,
            "workingSetBytes": usage.memory_working_set,
            "rssBytes": usage.memory_rss,
            "pageFaults": usage.page_faults,
            "majorPageFaults": usage.major_page_faults,
        },
        "rootfs": used(&time, node.image_disk, usage.writable_layer.bytes, usage.writable_layer.inodes),
        "logs": used(&time, node.disk, stats.log_bytes, 1),
    })
}

fn cpu(time: &str, cpu: Cpu) -> Value {
    json!({"time": time, "usageNanoCores": cpu.nanocores, "usageCoreNanoSeconds": cpu.total_ns})
}

fn file_system(time: &str, disk: Disk) -> Value {
    used(time, Some(disk), disk.used, disk.inodes.saturating_sub(disk.inodes_free))
}

/// What one user has of a disk.
fn used(time: &str, disk: Option<Disk>, bytes: u64, inodes: u64) -> Value {
    let mut value = json!({"time": time, "usedBytes": bytes, "inodesUsed": inodes});
    if let Some(disk) = disk {
        value["availableBytes"] = json!(disk.available);
        value["capacityBytes"] = json!(disk.total);
        value["inodesFree"] = json!(disk.inodes_free);
        value["inodes"] = json!(disk.inodes);
    }
    value
}
