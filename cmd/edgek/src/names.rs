//! The cluster's names on this node, and the Service by which pods and people find them.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use edgek_base_config::{Cidr, Component, Config};
use edgek_base_lifecycle::Scope;
use edgek_control_runtime::Informers;
use edgek_node_network::host;
use serde_json::{Value, json};

/// Where systemd-resolved keeps the name servers behind its own, which answers on loopback only.
const RESOLVED: &str = "/run/systemd/resolve/resolv.conf";

/// Answers at the cluster DNS address until the scope ends.
pub(crate) async fn start(config: &Config, informers: &Informers, scope: &Scope) -> Result<()> {
    if config.disable.contains(&Component::Dns) {
        return Ok(());
    }
    let address = address(config)?;
    host::own(address).await.context("giving the node the cluster DNS address")?;
    let settings = edgek_node_dns::Config {
        address,
        domain: config.cluster_domain.clone(),
        ranges: [&config.cluster_cidr, &config.service_cidr].into_iter().filter_map(range).collect(),
        resolv_conf: resolv_conf(config),
    };
    edgek_node_dns::start(scope, settings, informers)
        .await
        .context("another program answers there; stop it, or use --disable=dns")
}

/// Takes the address back; for `edgek uninstall`.
pub(crate) async fn remove(config: &Config) -> Result<()> {
    host::disown(address(config)?).await.context("taking the cluster DNS address back")
}

fn address(config: &Config) -> Result<Ipv4Addr> {
    match config.cluster_dns {
        IpAddr::V4(address) => Ok(address),
        IpAddr::V6(address) => bail!("cluster-dns: {address} is not an IPv4 address"),
    }
}

fn range(cidr: &Cidr) -> Option<(Ipv4Addr, u8)> {
    match cidr.network {
        IpAddr::V4(network) => Some((network, cidr.prefix)),
        IpAddr::V6(_) => None,
    }
}

/// The file that lists name servers which pods reach, too.
pub(crate) fn resolv_conf(config: &Config) -> PathBuf {
    let text = std::fs::read_to_string(&config.resolv_conf).unwrap_or_default();
    let servers = text.lines().filter_map(|line| line.trim().strip_prefix("nameserver"));
    let mut addresses = servers.filter_map(|server| server.trim().parse::<IpAddr>().ok());
    let only_loopback =
        addresses.next().is_some_and(|ip| ip.is_loopback()) && addresses.all(|ip| ip.is_loopback());
    if only_loopback && Path::new(RESOLVED).exists() { RESOLVED.into() } else { config.resolv_conf.clone() }
}

/// Service `kube-system/kube-dns`. Each node answers itself, so the service proxy leaves it alone.
pub(crate) fn service(config: &Config) -> Value {
    let port = |name: &str, protocol: &str| json!({"name": name, "protocol": protocol, "port": 53, "targetPort": 53});
    json!({
        "metadata": {
            "name": "kube-dns",
            "labels": {
                "k8s-app": "kube-dns",
                "kubernetes.io/cluster-service": "true",
                "kubernetes.io/name": "CoreDNS",
                "service.kubernetes.io/service-proxy-name": "edgek-dns",
            },
        },
        "spec": {
            "type": "ClusterIP",
            "clusterIP": config.cluster_dns,
            "clusterIPs": [config.cluster_dns],
            "ports": [port("dns", "UDP"), port("dns-tcp", "TCP")],
        },
    })
}
