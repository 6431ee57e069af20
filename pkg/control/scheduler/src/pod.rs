//! `PodInfo`: a pod as scheduling sees it, made once per change of the pod.

use std::collections::BTreeMap;
use std::sync::Arc;

use edgek_control_runtime::{Involved, Key};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodSpec};

use crate::resources::{Resources, pod_requests};

/// What the scheduler calls itself in `spec.schedulerName`.
pub const NAME: &str = "default-scheduler";
/// What a container without requests counts as when nodes are compared (upstream's `schedutil`): 100 m and 200 MB.
const ASSUMED_CPU: i64 = 100;
const ASSUMED_MEMORY: i64 = 200 * 1024 * 1024;

/// A host port in use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPort {
    /// The address; `0.0.0.0` for all.
    pub ip: String,
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: String,
    /// The port.
    pub port: i32,
}

impl HostPort {
    /// Whether both cannot be had on one node.
    pub fn conflicts(&self, other: &Self) -> bool {
        let every = "0.0.0.0";
        self.port == other.port
            && self.protocol == other.protocol
            && (self.ip == other.ip || self.ip == every || other.ip == every)
    }
}

/// A pod and what was computed from it.
#[derive(Debug, Clone)]
pub struct PodInfo {
    /// Where it is.
    pub key: Key,
    /// Its uid.
    pub uid: String,
    /// Its spec, without containers and volumes, which would only cost memory.
    pub spec: PodSpec,
    /// The images of its containers.
    pub images: Vec<String>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// What it requests.
    pub requests: Resources,
    /// Its requests for comparing nodes, in which nothing is free: CPU and memory.
    pub assumed: [i64; 2],
    /// The host ports it uses.
    pub ports: Vec<HostPort>,
    /// Since when it exists.
    pub created: Option<Timestamp>,
    /// The phase it is in.
    pub phase: String,
    /// Whether it is ending.
    pub terminating: bool,
    /// The message of its condition `PodScheduled`; empty without one.
    pub told: String,
}

impl PodInfo {
    /// The pod as scheduling sees it.
    pub fn new(pod: Pod) -> Self {
        let meta = pod.metadata;
        let mut spec = pod.spec.unwrap_or_default();
        let status = pod.status.unwrap_or_default();
        let condition = status.conditions.unwrap_or_default().into_iter().find(|c| c.type_ == "PodScheduled");
        let (requests, assumed, ports) = (pod_requests(&spec), assumed(&spec), host_ports(&spec));
        let images = std::mem::take(&mut spec.containers).into_iter().filter_map(|c| c.image).collect();
        (spec.init_containers, spec.ephemeral_containers, spec.volumes) = (None, None, None);
        Self {
            key: Key::new(meta.namespace.unwrap_or_default(), meta.name.unwrap_or_default()),
            uid: meta.uid.unwrap_or_default(),
            labels: meta.labels.unwrap_or_default(),
            requests,
            assumed,
            ports,
            images,
            created: meta.creation_timestamp.map(|time| time.0),
            phase: status.phase.unwrap_or_default(),
            terminating: meta.deletion_timestamp.is_some(),
            told: condition.and_then(|c| c.message).unwrap_or_default(),
            spec,
        }
    }

    /// The node it is on; empty while it is pending.
    pub fn node(&self) -> &str {
        self.spec.node_name.as_deref().unwrap_or_default()
    }

    /// Its priority.
    pub fn priority(&self) -> i32 {
        self.spec.priority.unwrap_or_default()
    }

    /// Whether its containers have ended for good.
    pub fn has_ended(&self) -> bool {
        matches!(self.phase.as_str(), "Succeeded" | "Failed")
    }

    /// Whether it waits for this scheduler, gated or not.
    pub fn is_pending(&self) -> bool {
        let scheduler = self.spec.scheduler_name.as_deref().unwrap_or(NAME);
        self.node().is_empty() && !self.terminating && !self.has_ended() && scheduler == NAME
    }

    /// Whether somebody holds it back.
    pub fn is_gated(&self) -> bool {
        self.spec.scheduling_gates.as_ref().is_some_and(|gates| !gates.is_empty())
    }

    /// The same pod on a node.
    pub fn on(self: &Arc<Self>, node: &str) -> Arc<Self> {
        let mut pod = Self::clone(self);
        pod.spec.node_name = Some(node.to_owned());
        Arc::new(pod)
    }

    /// How events name it.
    pub fn involved(&self) -> Involved {
        Involved {
            api_version: "v1".into(),
            kind: "Pod".into(),
            namespace: self.key.namespace.clone(),
            name: self.key.name.clone(),
            uid: self.uid.clone(),
            ..Involved::default()
        }
    }
}

fn assumed(spec: &PodSpec) -> [i64; 2] {
    let mut total = [0, 0];
    for container in &spec.containers {
        let requests = container.resources.as_ref().and_then(|resources| resources.requests.as_ref());
        let own = Resources::parse(requests);
        let has = |name| requests.is_some_and(|requests| requests.contains_key(name));
        total[0] += if has("cpu") { own.get("cpu") } else { ASSUMED_CPU };
        total[1] += if has("memory") { own.get("memory") } else { ASSUMED_MEMORY };
    }
    total
}

fn host_ports(spec: &PodSpec) -> Vec<HostPort> {
    let sidecars = spec.init_containers.iter().flatten();
    let sidecars = sidecars.filter(|container| container.restart_policy.as_deref() == Some("Always"));
    let ports = spec.containers.iter().chain(sidecars).flat_map(|container| container.ports.iter().flatten());
    let used = ports.filter_map(|port| {
        Some(HostPort {
            ip: port.host_ip.clone().filter(|ip| !ip.is_empty()).unwrap_or_else(|| "0.0.0.0".into()),
            protocol: port.protocol.clone().unwrap_or_else(|| "TCP".into()),
            port: port.host_port.filter(|port| *port > 0)?,
        })
    });
    used.collect()
}
