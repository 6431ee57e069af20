//! The node: containerd, the pod network and the kubelet.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use edgek_base_config::{Cidr, Component, Config};
use edgek_base_lifecycle::Scope;
use edgek_base_sys::memory;
use edgek_client::Client;
use edgek_control_runtime::Informers;
use edgek_node_kubelet::config as kubelet;
use edgek_node_kubelet::gc::ImageGc;
use edgek_node_kubelet::kubelet::Kubelet;
use edgek_node_kubelet::node::pressure::Thresholds;
use edgek_node_network::{Range, RoutedNetwork};
use edgek_node_runtime::containerd::{
    self, Containerd, Daemon, DaemonConfig, LogLimits, Program, Registries,
};
use k8s_openapi::api::core::v1::Taint;
use tracing::warn;

use crate::bundle::{Bundle, NODE};
use crate::{archives, names, sources};

/// The nftables table of the service proxy.
pub(crate) const PROXY_TABLE: &str = "edgek-services";

fn range(setting: &str, cidr: &Cidr) -> Result<Range> {
    match cidr.network {
        IpAddr::V4(network) => Ok(Range { network, prefix: cidr.prefix }),
        IpAddr::V6(_) => bail!("{setting}: {cidr} is not an IPv4 range"),
    }
}

/// The pod network of a node whose interface carries packets of pods of `mtu` bytes.
pub(crate) fn network_config(config: &Config, mtu: u32) -> Result<edgek_node_network::Config> {
    Ok(edgek_node_network::Config {
        gateway: "edgek0".to_owned(),
        overlay: "edgek1".to_owned(),
        table: "edgek".to_owned(),
        cluster: range("cluster-cidr", &config.cluster_cidr)?,
        services: range("service-cidr", &config.service_cidr)?,
        mtu,
        run_dir: config.run_dir.join("network"),
        range_file: config.data_dir.join("agent/pod-cidr"),
    })
}

async fn start_network(
    config: &Config,
    name: &str,
    address: IpAddr,
    informers: &Informers,
    scope: &Scope,
) -> Result<Arc<RoutedNetwork>> {
    let mtu = edgek_node_network::host::pod_mtu(address).await?;
    let network = network_config(config, mtu)?;
    let proxy = edgek_node_proxy::Config {
        node: name.to_owned(),
        table: PROXY_TABLE.to_owned(),
        cluster: network.cluster,
        services: network.services,
    };
    let network = Arc::new(RoutedNetwork::start(network).await.context("starting the pod network")?);
    edgek_node_network::follow(scope, network.clone(), informers.cluster(), name.to_owned());
    if config.disable.contains(&Component::ServiceProxy) {
        // What an earlier start has left must not stand in the way of who serves instead.
        edgek_node_proxy::remove(PROXY_TABLE).await?;
    } else {
        edgek_node_proxy::start(scope, proxy, informers).context("starting the service proxy")?;
    }
    Ok(network)
}

/// Unpacks what is missing and starts the parts of the node. It becomes Ready by itself.
pub(crate) async fn start(
    config: &Config,
    name: &str,
    address: IpAddr,
    client: Client,
    scope: &Scope,
) -> Result<Kubelet> {
    let bundle = Bundle::new(config.data_dir.join("bin"));
    let unpacking = {
        let bundle = bundle.clone();
        tokio::task::spawn_blocking(move || bundle.unpack(&NODE))
    };
    // Shared by all parts of the node that look at the cluster.
    let informers = Informers::new(scope, client.clone());
    let network = start_network(config, name, address, &informers, scope).await?;
    names::start(config, &informers, scope).await?;
    unpacking.await??;
    let runtime = start_runtime(config, &bundle, scope)?;
    finish_in_background(bundle, scope);
    let imported = {
        let agent = config.data_dir.join("agent");
        archives::import(agent.join("images"), agent.join("imported.json"), runtime.clone(), scope)
    };
    let kubelet_config = kubelet_config(config, name, address)?;
    Ok(Kubelet::start(scope, kubelet_config, client, runtime, network, imported))
}

fn start_runtime(config: &Config, bundle: &Bundle, scope: &Scope) -> Result<Arc<Containerd>> {
    let daemon = DaemonConfig {
        bin_dir: bundle.current(),
        root_dir: config.data_dir.join("agent/containerd"),
        state_dir: config.run_dir.join("containerd"),
        environment: sources::proxies(),
    };
    let settings = containerd::Config {
        socket: daemon.socket(),
        state_dir: daemon.state_dir.clone(),
        root_dir: daemon.root_dir.clone(),
        runc: None,
        registries: registries(config)?,
        log_limits: LogLimits {
            max_size: config.kubelet.container_log_max_size,
            max_files: config.kubelet.container_log_max_files as usize,
        },
        holder: Program { program: std::env::current_exe()?, args: vec!["pause".to_owned()] },
    };
    Daemon::start(scope, daemon)?;
    Ok(Containerd::start(scope, settings)?)
}

/// Reads `registries.yaml`, if there is one.
fn registries(config: &Config) -> Result<Registries> {
    let path = &config.private_registry;
    match std::fs::read_to_string(path) {
        Ok(text) => {
            serde_saphyr::from_str(&text).map_err(|error| anyhow::anyhow!("{}: {error}", path.display()))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Registries::default()),
        Err(error) => Err(error).with_context(|| format!("reading {}", path.display())),
    }
}

fn finish_in_background(bundle: Bundle, scope: &Scope) {
    scope.spawn("unpack", async move {
        let finished = tokio::task::spawn_blocking(move || bundle.finish()).await;
        memory::trim();
        if let Ok(Err(error)) = finished {
            warn!(
                error = format!("{error:#}"),
                "unpacking the tools; they are unpacked when they are first used"
            );
        }
    });
}

fn kubelet_config(config: &Config, name: &str, address: IpAddr) -> Result<kubelet::Config> {
    let mut labels: std::collections::BTreeMap<String, String> = config.node_labels.iter().cloned().collect();
    // An agent joins a server; a server has none.
    if config.server.is_none() {
        labels.insert("node-role.kubernetes.io/control-plane".to_owned(), "true".to_owned());
    }
    Ok(kubelet::Config {
        node_name: name.to_owned(),
        node_ips: vec![address],
        root: config.data_dir.join("agent/kubelet"),
        logs: config.pod_logs_dir.clone(),
        cgroup: pods_cgroup(config),
        cluster_dns: vec![config.cluster_dns],
        cluster_domain: config.cluster_domain.clone(),
        resolv_conf: names::resolv_conf(config),
        max_pods: config.kubelet.max_pods,
        labels,
        taints: config.node_taints.iter().map(|text| taint(text)).collect::<Result<_>>()?,
        port: 10250,
        thresholds: match &config.kubelet.eviction_hard {
            Some(text) => text.parse().context("kubelet-arg: eviction-hard")?,
            None => Thresholds::default(),
        },
        image_gc: ImageGc {
            high: config.kubelet.image_gc_high_threshold.into(),
            low: config.kubelet.image_gc_low_threshold.into(),
        },
        version: "v1.37.0+edgek1".to_owned(),
    })
}

/// The cgroup of all pods, from the root of each hierarchy.
pub(crate) fn pods_cgroup(config: &Config) -> PathBuf {
    config.cgroup_root.join("kubepods")
}

/// `key=value:Effect` or `key:Effect`.
fn taint(text: &str) -> Result<Taint> {
    let wrong = || anyhow::anyhow!("node-taint: {text:?} is not KEY=VALUE:EFFECT");
    let (pair, effect) = text.rsplit_once(':').ok_or_else(wrong)?;
    if !["NoSchedule", "PreferNoSchedule", "NoExecute"].contains(&effect) {
        return Err(wrong());
    }
    let (key, value) =
        pair.split_once('=').map_or((pair, None), |(key, value)| (key, Some(value.to_owned())));
    Ok(Taint { key: key.to_owned(), value, effect: effect.to_owned(), time_added: None })
}

/// The node's name: the configured one, or the host's.
pub(crate) fn name(config: &Config) -> Result<String> {
    if let Some(name) = &config.node_name {
        return Ok(name.clone());
    }
    let name = nix::unistd::gethostname().context("reading the host name; set --node-name")?;
    Ok(name.to_string_lossy().to_lowercase())
}

/// The node's address, or loopback's when there is none: a node without a network still runs pods.
pub(crate) async fn address(config: &Config) -> Result<IpAddr> {
    if let Some(address) = config.node_ip {
        return Ok(address);
    }
    let found = edgek_node_network::host::address().await.context("set --node-ip")?;
    if found == IpAddr::V4(Ipv4Addr::LOCALHOST) {
        warn!("no network interface has an address; pods run, but reach only this machine");
    }
    Ok(found)
}
