//! `NodeStats`: what the node, its pods and their containers use now. Gathered when somebody asks, never before:
//! [`summary`] and [`metrics`] are the two forms monitoring reads, eviction ranks pods by it.

pub mod metrics;
pub mod summary;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use edgek_node_runtime::{Container as Run, State, Stats};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use parking_lot::Mutex;

use crate::context::Context;
use crate::node::facts::{self, Disk, Memory};
use crate::record::{Record, Records};

/// What the node uses.
#[derive(Debug, Clone)]
pub struct NodeStats {
    /// When it was read.
    pub at: Timestamp,
    /// The node's name.
    pub name: String,
    /// When the machine started.
    pub booted: Timestamp,
    /// CPU time since then, in nanoseconds, and as a rate.
    pub cpu: Cpu,
    /// Its memory.
    pub memory: Memory,
    /// Tasks, and how many there can be.
    pub tasks: Option<(u64, u64)>,
    /// The disk of pods' files.
    pub disk: Option<Disk>,
    /// The disk of images and containers.
    pub image_disk: Option<Disk>,
    /// Its pods.
    pub pods: Vec<PodStats>,
}

/// What a pod uses.
#[derive(Debug, Clone)]
pub struct PodStats {
    /// The pod.
    pub pod: Arc<Pod>,
    /// CPU of all its containers.
    pub cpu: Cpu,
    /// Its running containers.
    pub containers: Vec<ContainerStats>,
}

/// What a running container uses.
#[derive(Debug, Clone)]
pub struct ContainerStats {
    /// Its name.
    pub name: String,
    /// When it started.
    pub started: Timestamp,
    /// CPU since then.
    pub cpu: Cpu,
    /// The rest.
    pub usage: Stats,
    /// Bytes of its log files.
    pub log_bytes: u64,
}

/// CPU use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cpu {
    /// All time, in nanoseconds.
    pub total_ns: u64,
    /// Nanoseconds per second, since it was last asked for or else since the start.
    pub nanocores: u64,
}

impl PodStats {
    /// A sum over the containers.
    pub fn sum(&self, of: impl Fn(&ContainerStats) -> u64) -> u64 {
        self.containers.iter().map(of).sum()
    }

    /// Memory that cannot be reclaimed easily.
    pub fn working_set(&self) -> u64 {
        self.sum(|container| container.usage.memory_working_set)
    }

    /// What its containers and logs take of the disk.
    pub fn disk(&self) -> u64 {
        self.sum(|container| container.usage.writable_layer.bytes + container.log_bytes)
    }
}

/// Gathers statistics. Clones share what rates are computed from.
#[derive(Clone)]
pub struct Gatherer {
    context: Arc<Context>,
    records: Records,
    last: Arc<Mutex<BTreeMap<String, (Timestamp, u64)>>>,
}

impl Gatherer {
    /// Over the pods in `records`.
    pub fn new(context: Arc<Context>, records: Records) -> Self {
        Self { context, records, last: Arc::default() }
    }

    /// What is used now.
    pub async fn now(&self) -> NodeStats {
        let config = &self.context.config;
        let (at, booted) = (Timestamp::now(), facts::booted());
        let mut asked = BTreeMap::new();
        let mut pods = Vec::new();
        for record in self.records.all() {
            pods.push(self.pod(record, at, &mut asked).await);
        }
        let image_disk = self.context.runtime.image_filesystem().await.ok();
        let cpu = self.cpu(&mut asked, String::new(), at, booted, facts::cpu_ns());
        // Of what has ended nobody asks again.
        *self.last.lock() = asked;
        NodeStats {
            at,
            name: config.node_name.clone(),
            booted,
            cpu,
            memory: Memory::read(),
            tasks: facts::tasks(),
            disk: Disk::read(&config.root),
            image_disk: image_disk.and_then(|disk| Disk::read(&disk.path)),
            pods,
        }
    }

    async fn pod(
        &self,
        record: Record,
        at: Timestamp,
        asked: &mut BTreeMap<String, (Timestamp, u64)>,
    ) -> PodStats {
        let mut containers = Vec::new();
        for run in &record.runs {
            let State::Running { started_at, .. } = run.state else { continue };
            // It may have ended since.
            let Ok(usage) = self.context.runtime.container_stats(&run.id).await else { continue };
            let cpu = self.cpu(asked, run.id.to_string(), usage.at, started_at, usage.cpu_usage_ns);
            let (name, log_bytes) = (run.name.clone(), log_bytes(run));
            containers.push(ContainerStats { name, started: started_at, cpu, usage, log_bytes });
        }
        let sum = containers.iter().map(|container| container.cpu.total_ns).sum();
        let total = self.context.cgroups.cpu_usage(&record.pod).unwrap_or(sum);
        let started = containers.iter().map(|container| container.started).min().unwrap_or(at);
        let uid = record.pod.metadata.uid.clone().unwrap_or_default();
        let cpu = self.cpu(asked, uid, at, started, total);
        PodStats { pod: record.pod, cpu, containers }
    }

    fn cpu(
        &self,
        asked: &mut BTreeMap<String, (Timestamp, u64)>,
        key: String,
        at: Timestamp,
        started: Timestamp,
        total_ns: u64,
    ) -> Cpu {
        let (since, before) = self.last.lock().get(&key).copied().unwrap_or((started, 0));
        asked.insert(key, (at, total_ns));
        let millis = u64::try_from(at.duration_since(since).as_millis()).unwrap_or(0).max(1);
        let nanocores = u128::from(total_ns.saturating_sub(before)) * 1000 / u128::from(millis);
        Cpu { total_ns, nanocores: u64::try_from(nanocores).unwrap_or(u64::MAX) }
    }
}

fn log_bytes(run: &Run) -> u64 {
    let folder = run.log.as_ref().and_then(|log| log.path.parent());
    let files = folder.and_then(|folder: &Path| folder.read_dir().ok()).into_iter().flatten().flatten();
    files.filter_map(|file| file.metadata().ok()).map(|file| file.len()).sum()
}
