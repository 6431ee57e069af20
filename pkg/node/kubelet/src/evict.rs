//! `Evictor`: ends pods when the node runs out of memory, disk or process ids, one at a time: first those that use more
//! than they requested, then by priority, then by how much more they use. The rules and texts are upstream's.

use std::cmp::Reverse;
use std::fmt::Write as _;

use edgek_api::quantity::{Format, Quantity};
use edgek_control_runtime::{Involved, Kind, Recorder};
use k8s_openapi::api::core::v1::Pod;
use tokio::sync::{mpsc, watch};
use tracing::{info, warn};

use crate::admit::requests;
use crate::node::pressure::{Met, Signal};
use crate::static_pods;
use crate::stats::{ContainerStats, Gatherer, PodStats};

/// Pods of this priority and above are needed by the cluster itself.
const CRITICAL_PRIORITY: i32 = 2_000_000_000;

/// A pod that is to end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Eviction {
    /// The pod.
    pub uid: String,
    /// Why, for its status and an event.
    pub message: String,
}

/// Whether a pod stays whatever the node runs out of.
pub fn is_critical(pod: &Pod) -> bool {
    let priority = pod.spec.as_ref().and_then(|spec| spec.priority).unwrap_or(0);
    static_pods::is_static(pod) || static_pods::is_mirror(pod) || priority >= CRITICAL_PRIORITY
}

/// Ends pods when the node runs out of something.
pub struct Evictor {
    /// What pods use.
    pub stats: Gatherer,
    /// Tells about the node.
    pub recorder: Recorder,
    /// The node's name.
    pub node: String,
    /// Where evictions go.
    pub evictions: mpsc::Sender<Eviction>,
}

impl Evictor {
    /// Relieves the node each time it is looked at and thresholds are met, until nobody looks any more.
    pub async fn run(self, mut looks: watch::Receiver<Vec<Met>>) {
        let mut disk_was_full = false;
        while looks.changed().await.is_ok() {
            let met = looks.borrow_and_update().first().copied();
            let disk_is_full = met.is_some_and(|met| resource(met.signal).is_disk());
            // A full disk costs unused images first, and pods only if it is still full when it is looked at again.
            if let Some(met) = met
                && (!disk_is_full || disk_was_full)
            {
                self.relieve(met).await;
            }
            disk_was_full = disk_is_full;
        }
    }

    async fn relieve(&self, met: Met) {
        let resource = resource(met.signal);
        let node = Involved {
            api_version: "v1".to_owned(),
            kind: "Node".to_owned(),
            namespace: String::new(),
            name: self.node.clone(),
            uid: self.node.clone(),
            field_path: String::new(),
        };
        let text = format!("Attempting to reclaim {}", resource.name());
        self.recorder.record(&node, Kind::Warning, "EvictionThresholdMet", text);
        let stats = self.stats.now().await;
        let Some(pod) = choose(&stats.pods, resource) else {
            warn!(resource = resource.name(), "the node runs out of it and no pod can be evicted");
            return;
        };
        let uid = pod.pod.metadata.uid.clone().unwrap_or_default();
        info!(uid, resource = resource.name(), "a pod is evicted");
        // The dispatcher lives as long as this task.
        let _ = self.evictions.send(Eviction { uid, message: message(pod, met) }).await;
    }
}

/// What pods are asked to give back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Resource {
    Memory,
    Storage,
    Inodes,
    Pids,
}

impl Resource {
    fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Storage => "ephemeral-storage",
            Self::Inodes => "inodes",
            Self::Pids => "pids",
        }
    }

    fn is_disk(self) -> bool {
        matches!(self, Self::Storage | Self::Inodes)
    }

    fn used_by(self, container: &ContainerStats) -> u64 {
        let usage = &container.usage;
        match self {
            Self::Memory => usage.memory_working_set,
            Self::Storage => usage.writable_layer.bytes + container.log_bytes,
            Self::Inodes => usage.writable_layer.inodes,
            Self::Pids => usage.processes,
        }
    }

    fn show(self, amount: u64) -> Quantity {
        let format = match self {
            Self::Memory | Self::Storage => Format::BinarySi,
            Self::Inodes | Self::Pids => Format::DecimalSi,
        };
        Quantity::new(i64::try_from(amount).unwrap_or(i64::MAX), format)
    }
}

fn resource(signal: Signal) -> Resource {
    match signal {
        Signal::MemoryAvailable => Resource::Memory,
        Signal::NodefsAvailable | Signal::ImagefsAvailable => Resource::Storage,
        Signal::NodefsInodesFree | Signal::ImagefsInodesFree => Resource::Inodes,
        Signal::PidAvailable => Resource::Pids,
    }
}

/// The pod that goes first.
fn choose(pods: &[PodStats], resource: Resource) -> Option<&PodStats> {
    let candidates = pods.iter().filter(|pod| !pod.containers.is_empty() && !is_critical(&pod.pod));
    candidates.min_by_key(|pod| {
        let spec = pod.pod.spec.as_ref();
        let request = spec.and_then(|spec| requests(spec).remove(resource.name())).unwrap_or_default();
        let used = i64::try_from(pod.sum(|container| resource.used_by(container))).unwrap_or(i64::MAX);
        let over = used.saturating_sub(request.value());
        // Process ids are not requested: nobody takes more than was asked for.
        let within = resource == Resource::Pids || over <= 0;
        (within, spec.and_then(|spec| spec.priority).unwrap_or(0), Reverse(over))
    })
}

fn message(pod: &PodStats, met: Met) -> String {
    let resource = resource(met.signal);
    let (name, threshold) = (resource.name(), resource.show(met.threshold));
    let mut text = format!(
        "The node was low on resource: {name}. Threshold quantity: {threshold}, available: {}. ",
        resource.show(met.available)
    );
    let spec = pod.pod.spec.as_ref();
    let known =
        || spec.into_iter().flat_map(|s| s.containers.iter().chain(s.init_containers.iter().flatten()));
    for stats in pod.containers.iter().filter(|_| matches!(resource, Resource::Memory | Resource::Storage)) {
        let Some(container) = known().find(|container| container.name == stats.name) else { continue };
        let requested = container.resources.as_ref().and_then(|r| r.requests.as_ref()?.get(name));
        let request: Quantity = requested.and_then(|q| q.0.parse().ok()).unwrap_or_default();
        let used = resource.show(resource.used_by(stats));
        if used > request {
            // Writing to a string cannot fail.
            let _ = write!(
                text,
                "Container {} was using {used}, request is {request}, has larger consumption of {name}. ",
                stats.name
            );
        }
    }
    text
}

#[cfg(test)]
mod tests;
