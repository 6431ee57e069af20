//! `Config`: what the kubelet is told about its node, and where its files are.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{Pod, Taint};

use crate::gc::ImageGc;
use crate::node::pressure::Thresholds;
use crate::resources;

/// What the kubelet is told about its node.
#[derive(Debug, Clone)]
pub struct Config {
    /// The node's name.
    pub node_name: String,
    /// Its addresses, the first of each family counting.
    pub node_ips: Vec<IpAddr>,
    /// The folder of pods' files.
    pub root: PathBuf,
    /// The folder of pods' logs: `/var/log/pods`.
    pub logs: PathBuf,
    /// The cgroup of all pods, from the root of each hierarchy: `/kubepods`.
    pub cgroup: PathBuf,
    /// The addresses of the cluster's DNS service.
    pub cluster_dns: Vec<IpAddr>,
    /// `cluster.local`.
    pub cluster_domain: String,
    /// The node's own resolver configuration: `/etc/resolv.conf`.
    pub resolv_conf: PathBuf,
    /// How many pods fit on the node.
    pub max_pods: u32,
    /// Labels to register the node with.
    pub labels: BTreeMap<String, String>,
    /// Taints to register the node with.
    pub taints: Vec<Taint>,
    /// The port of the kubelet's API.
    pub port: u16,
    /// How much is to be left of the node's memory and disks.
    pub thresholds: Thresholds,
    /// When unused images go.
    pub image_gc: ImageGc,
    /// `v1.37.0+edgek1`.
    pub version: String,
}

impl Config {
    /// The folder of a pod's files.
    pub fn pod_dir(&self, uid: &str) -> PathBuf {
        self.root.join("pods").join(uid)
    }

    /// The cgroup of a pod, from the root of each hierarchy.
    pub fn pod_cgroup(&self, pod: &Pod) -> PathBuf {
        self.cgroup.join(resources::pod_cgroup(pod))
    }

    /// The folder of static pods' manifests: `pod-manifests` beside the folder of pods' files.
    pub fn static_pods(&self) -> PathBuf {
        self.root.parent().unwrap_or(&self.root).join("pod-manifests")
    }

    /// The folder of a container's logs; the file is `<attempt>.log`.
    pub fn container_logs(&self, pod: &Pod, container: &str) -> PathBuf {
        self.pod_logs(pod).join(container)
    }

    /// The folder of a pod's logs.
    pub fn pod_logs(&self, pod: &Pod) -> PathBuf {
        let meta = &pod.metadata;
        let part = |text: &Option<String>| text.clone().unwrap_or_default();
        self.logs.join(format!("{}_{}_{}", part(&meta.namespace), part(&meta.name), part(&meta.uid)))
    }

    /// The file that becomes the termination message of one run of a container.
    pub fn termination_message(&self, uid: &str, container: &str, attempt: u32) -> PathBuf {
        self.pod_dir(uid).join("containers").join(container).join(format!("{attempt}.message"))
    }

    /// The file that is `/etc/hosts` in the pod's containers.
    pub fn hosts_file(&self, uid: &str) -> PathBuf {
        self.pod_dir(uid).join("etc-hosts")
    }

    /// The file that is `/etc/resolv.conf` in the pod's containers.
    pub fn resolv_file(&self, uid: &str) -> PathBuf {
        self.pod_dir(uid).join("resolv.conf")
    }

    /// The file that is `/etc/hostname` in the pod's containers.
    pub fn hostname_file(&self, uid: &str) -> PathBuf {
        self.pod_dir(uid).join("hostname")
    }
}

/// The last part of a termination message's length that is kept, in bytes.
pub const MESSAGE_LIMIT: usize = 4096;

/// Reads at most the last `limit` bytes of a file as text; empty when it cannot be read.
pub fn read_tail(path: &Path, limit: usize) -> String {
    let bytes = std::fs::read(path).unwrap_or_default();
    String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(limit)..]).into_owned()
}
