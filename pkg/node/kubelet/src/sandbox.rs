//! The sandbox of a pod: its folders and files, its network and its volumes. Made before the first container, taken
//! away after the last.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use edgek_node_network::{HostPort, PodNetworkSpec, Protocol};
use edgek_node_runtime::NetworkNamespace;
use k8s_openapi::api::core::v1::Pod;

use crate::context::Context;
use crate::dns::{self, Resolver};
use crate::volume::Mounted;

/// A pod's sandbox that exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sandbox {
    /// The pod's addresses.
    pub ips: Vec<IpAddr>,
    /// Its network namespace; `None` for the node's own.
    pub netns: Option<PathBuf>,
    /// Its volumes.
    pub volumes: Mounted,
}

impl Sandbox {
    /// The network of the pod's containers.
    pub fn network(&self) -> NetworkNamespace {
        self.netns.clone().map_or(NetworkNamespace::Host, NetworkNamespace::Path)
    }
}

/// Why a sandbox cannot be made or taken away.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The network.
    #[error("failed to set up the network: {0}")]
    Network(#[source] edgek_node_network::Error),
    /// A file.
    #[error("failed to {action} {}: {source}", path.display())]
    File {
        /// What was done.
        action: &'static str,
        /// To which file.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
    /// A volume.
    #[error(transparent)]
    Volume(#[from] crate::volume::Error),
    /// A cgroup.
    #[error("failed to remove the pod's cgroup")]
    Cgroup(#[source] std::io::Error),
    /// The runtime.
    #[error(transparent)]
    Runtime(#[from] edgek_node_runtime::Error),
}

/// Makes the sandbox, or finds it.
///
/// # Errors
/// See [`Error`].
pub async fn set_up(context: &Context, pod: &Pod) -> Result<Sandbox, Error> {
    let config = &context.config;
    let uid = pod.metadata.uid.as_deref().unwrap_or_default();
    let host_network = pod.spec.as_ref().and_then(|spec| spec.host_network).unwrap_or(false);
    make_folder(&config.pod_dir(uid))?;
    make_folder(&config.pod_logs(pod))?;
    let volumes = context.volumes.mount(pod).await?;
    context.cgroups.ensure_pod(pod);
    let sandbox = if host_network {
        Sandbox { ips: config.node_ips.clone(), netns: None, volumes }
    } else {
        let status = context.network.setup(&network_spec(pod)).await.map_err(Error::Network)?;
        Sandbox { ips: status.ips, netns: Some(status.netns), volumes }
    };
    let base = host_network.then(|| std::fs::read_to_string("/etc/hosts").unwrap_or_default());
    let hosts = dns::hosts(pod, &sandbox.ips, &config.cluster_domain, base.as_deref());
    write(&config.hosts_file(uid), &hosts)?;
    let host = Resolver::parse(&std::fs::read_to_string(&config.resolv_conf).unwrap_or_default());
    write(&config.resolv_file(uid), &dns::resolver(pod, config, &host).text())?;
    let (hostname, _) = dns::hostname(pod, &config.cluster_domain);
    write(&config.hostname_file(uid), &format!("{hostname}\n"))?;
    Ok(sandbox)
}

/// Takes back what the pod's containers shared while they ran. Its files and logs stay.
///
/// # Errors
/// See [`Error`].
pub async fn tear_down(context: &Context, uid: &str) -> Result<(), Error> {
    context.network.teardown(uid).await.map_err(Error::Network)?;
    context.runtime.remove_pod(uid).await?;
    context.cgroups.remove_pod(uid).await.map_err(Error::Cgroup)
}

/// Removes the files of a pod that is gone.
///
/// # Errors
/// See [`Error`].
pub fn remove_files(dir: &Path) -> Result<(), Error> {
    match std::fs::remove_dir_all(dir) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::File { action: "remove", path: dir.to_owned(), source })
        }
        _ => Ok(()),
    }
}

/// Makes a folder and those above it.
///
/// # Errors
/// [`Error::File`].
pub fn make_folder(path: &Path) -> Result<(), Error> {
    std::fs::create_dir_all(path).map_err(|source| Error::File {
        action: "create",
        path: path.to_owned(),
        source,
    })
}

/// Writes a file in place: containers have it mounted, so it must stay the same file.
///
/// # Errors
/// [`Error::File`].
pub fn write(path: &Path, text: &str) -> Result<(), Error> {
    std::fs::write(path, text).map_err(|source| Error::File {
        action: "write",
        path: path.to_owned(),
        source,
    })
}

fn network_spec(pod: &Pod) -> PodNetworkSpec {
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let spec = pod.spec.as_ref();
    let init = spec.iter().flat_map(|s| s.init_containers.iter().flatten());
    let containers = init.chain(spec.iter().flat_map(|s| &s.containers));
    let ports = containers.flat_map(|container| container.ports.iter().flatten());
    let host_port = |port: &k8s_openapi::api::core::v1::ContainerPort| {
        let host_port = port.host_port.filter(|port| *port > 0)?;
        Some(HostPort {
            protocol: match port.protocol.as_deref() {
                Some("UDP") => Protocol::Udp,
                Some("SCTP") => Protocol::Sctp,
                _ => Protocol::Tcp,
            },
            // The unspecified address means all.
            host_ip: port
                .host_ip
                .as_deref()
                .and_then(|ip| ip.parse::<IpAddr>().ok())
                .filter(|ip| !ip.is_unspecified()),
            host_port: u16::try_from(host_port).ok()?,
            container_port: u16::try_from(port.container_port).ok()?,
        })
    };
    PodNetworkSpec {
        uid: text(&pod.metadata.uid),
        namespace: text(&pod.metadata.namespace),
        name: text(&pod.metadata.name),
        host_ports: ports.filter_map(host_port).collect(),
    }
}
