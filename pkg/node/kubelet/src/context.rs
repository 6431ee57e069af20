//! `Context`: what all pod tasks of a node share.

use std::net::IpAddr;
use std::sync::Arc;

use edgek_client::Client;
use edgek_control_runtime::Recorder;
use edgek_node_network::Network;
use edgek_node_runtime::{Container as Run, Runtime};

use crate::cgroup::Cgroups;
use crate::config::Config;
use crate::image::Images;
use crate::node::Node;
use crate::node::status::Allocatable;
use crate::objects::Objects;
use crate::static_pods::Mirrors;
use crate::volume::Volumes;

/// What all pod tasks of a node share.
pub struct Context {
    /// What the kubelet is told.
    pub config: Arc<Config>,
    /// The API server, as this node.
    pub client: Client,
    /// Runs containers.
    pub runtime: Arc<dyn Runtime>,
    /// Gives pods their network.
    pub network: Arc<dyn Network>,
    /// The node's object.
    pub node: Node,
    /// Config maps, secrets and services.
    pub objects: Objects,
    /// Brings images to the node.
    pub images: Images,
    /// Makes volumes.
    pub volumes: Volumes,
    /// The pods' cgroups.
    pub cgroups: Cgroups,
    /// Shows static pods in the API.
    pub mirrors: Mirrors,
    /// Tells people what happens.
    pub recorder: Recorder,
    /// What pods can have of the node, which containers without limits see as theirs.
    pub allocatable: Allocatable,
    /// Its memory in bytes.
    pub memory: u64,
}

impl Context {
    /// The containers of one pod, with the termination messages they left.
    ///
    /// # Errors
    /// When the runtime does not answer.
    pub async fn runs(&self, uid: &str) -> edgek_node_runtime::Result<Vec<Run>> {
        let mut runs = self.runtime.containers().await?;
        runs.retain(|run| run.pod.uid == uid);
        Ok(runs)
    }

    /// The address by which probes reach a pod.
    pub fn probe_ip(&self, pod_ips: &[IpAddr]) -> IpAddr {
        let own = self.config.node_ips.first().copied();
        pod_ips.first().copied().or(own).unwrap_or(IpAddr::from([127, 0, 0, 1]))
    }
}
