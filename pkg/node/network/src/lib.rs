//! The pod network: veth, IPAM, routes, host ports and the way to other nodes, by netlink.
//!
//! The kubelet asks [`Network`] for a namespace with an address before it starts a pod's containers, and gives it
//! back after the last of them has ended. [`RoutedNetwork`] is the built-in network; [`follow`] tells it what Node
//! objects say: its own range, and where the other nodes are. [`fake::FakeNetwork`] is for tests. Everything that must be known after a restart lies in the run folder, which ends with a reboot exactly
//! as the namespaces do.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "tests"))]

pub mod fake;
pub mod features;
pub mod firewall;
pub mod host;
mod ipam;
mod netns;
mod nodes;
mod overlay;
mod record;
mod routed;
mod rules;
mod table;

pub use ipam::{ParseRangeError, Range};
pub use nodes::follow;
pub use overlay::Peer;
pub use routed::{Config, RoutedNetwork};
pub use table::TableWatch;

use std::net::IpAddr;
use std::path::PathBuf;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

/// A transport protocol of a host port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names of the protocols")]
pub enum Protocol {
    Tcp,
    Udp,
    Sctp,
}

/// A port of the node that leads to a port of the pod.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct HostPort {
    /// The protocol.
    pub protocol: Protocol,
    /// The address of the node it is open on; `None` for all.
    pub host_ip: Option<IpAddr>,
    /// The port of the node.
    pub host_port: u16,
    /// The port of the pod.
    pub container_port: u16,
}

/// What the network must know of a pod. Pods on the host's network are not its business.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodNetworkSpec {
    /// The pod's uid, under which the network remembers it.
    pub uid: String,
    /// Its namespace, for messages.
    pub namespace: String,
    /// Its name, for messages.
    pub name: String,
    /// The ports to open on the node.
    pub host_ports: Vec<HostPort>,
}

/// The network of a pod that is set up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodNetworkStatus {
    /// A file that is the pod's network namespace.
    pub netns: PathBuf,
    /// The pod's addresses, the first of each family counting.
    pub ips: Vec<IpAddr>,
}

/// Gives pods their network. All calls may be repeated: setting up a pod that is set up tells its status, tearing
/// down one that is not does nothing.
#[async_trait]
pub trait Network: Send + Sync {
    /// Makes the pod's namespace, address and host ports.
    async fn setup(&self, pod: &PodNetworkSpec) -> Result<PodNetworkStatus, Error>;

    /// Takes all of it back.
    async fn teardown(&self, uid: &str) -> Result<(), Error>;

    /// The network of a pod, if it is set up.
    fn status(&self, uid: &str) -> Option<PodNetworkStatus>;

    /// The uids of all pods that are set up, to find those that ended while nobody looked.
    fn pods(&self) -> Vec<String>;

    /// Whether pods can be set up: the node knows which addresses are its pods'.
    fn ready(&self) -> watch::Receiver<bool>;
}

/// Why the network could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A step of netlink failed.
    #[error("{step}")]
    Netlink {
        /// What was being done, to what.
        step: String,
        /// What the kernel answered.
        source: nlink::Error,
    },
    /// A file of the run folder or of /proc could not be read or written.
    #[error("{step} {path}")]
    File {
        /// What was being done.
        step: &'static str,
        /// The file.
        path: PathBuf,
        /// What the file system answered.
        source: std::io::Error,
    },
    /// The node was given no addresses yet.
    #[error("the node has no range of addresses for pods yet (spec.podCIDR of its Node object)")]
    NoRange,
    /// All addresses are taken.
    #[error("no free address in {0}; the node runs more pods than its range holds")]
    Exhausted(Range),
    /// Another pod has the host port.
    #[error("host port {port}/{protocol:?} is taken by pod {uid}")]
    PortTaken {
        /// The port of the node.
        port: u16,
        /// Its protocol.
        protocol: Protocol,
        /// The pod that has it.
        uid: String,
    },
}

pub(crate) trait Step<T> {
    /// Names the step that failed.
    fn step(self, step: impl FnOnce() -> String) -> Result<T, Error>;
}

impl<T> Step<T> for Result<T, nlink::Error> {
    fn step(self, step: impl FnOnce() -> String) -> Result<T, Error> {
        self.map_err(|source| Error::Netlink { step: step(), source })
    }
}
