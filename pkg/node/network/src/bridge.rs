//! `BridgeNetwork`: a bridge per node, a veth pair per pod, addresses from the node's range.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use nlink::netlink::addr::Ipv4Address;
use nlink::netlink::link::{BridgeLink, VethLink};
use nlink::netlink::route::Ipv4Route;
use nlink::netlink::{Connection, Route, namespace};
use tokio::sync::Mutex;
use tracing::warn;

use crate::ipam::{Ipam, Range};
use crate::record::{Record, Records};
use crate::rules::{self, Ruleset};
use crate::{Error, HostPort, Network, PodNetworkSpec, PodNetworkStatus, Step};

/// What fits into a vxlan packet on an Ethernet link, so that pods of all nodes can speak to each other.
const MTU: u32 = 1450;
/// The name of a pod's interface inside its namespace.
const POD_INTERFACE: &str = "eth0";

/// Names and ranges; all of them can differ between two nodes that share a kernel.
#[derive(Debug, Clone)]
pub struct Config {
    /// The bridge's name, at most 15 bytes.
    pub bridge: String,
    /// The nftables table's name.
    pub table: String,
    /// The addresses of all pods of the cluster.
    pub cluster: Range,
    /// The addresses of this node's pods.
    pub node: Range,
    /// The folder of namespaces and records; ends with a reboot.
    pub run_dir: PathBuf,
}

/// The built-in pod network.
pub struct BridgeNetwork {
    config: Config,
    connection: Connection<Route>,
    /// Also the lock that keeps setups and teardowns of host ports in order.
    state: Mutex<State>,
    /// A copy of the records for those who do not wait.
    known: parking_lot::RwLock<std::collections::BTreeMap<String, PodNetworkStatus>>,
}

#[derive(Debug)]
struct State {
    ipam: Ipam,
    records: Records,
}

impl BridgeNetwork {
    /// Makes the bridge and the rules, and adopts the pods that are set up.
    ///
    /// # Errors
    /// When the kernel refuses the bridge, the rules or forwarding, or the run folder cannot be used.
    pub async fn start(config: Config) -> Result<Self, Error> {
        let connection = Connection::<Route>::new().step(|| "opening netlink".to_owned())?;
        let mut records = Records::open(&config.run_dir.join("pods"))?;
        forget_lost_namespaces(&mut records)?;
        let ipam = Ipam::new(config.node, records.by_uid.values().filter_map(Record::ipv4));
        let known = records.by_uid.iter().map(|(uid, record)| (uid.clone(), record.status.clone())).collect();
        let state = Mutex::new(State { ipam, records });
        let network = Self { config, connection, state, known: parking_lot::RwLock::new(known) };
        network.ensure_bridge().await?;
        // Lets the kernel pass packets between pods and the world.
        enable("/proc/sys/net/ipv4/ip_forward")?;
        network.apply_rules(&*network.state.lock().await).await?;
        // Lets the node's loopback reach host ports; the rules keep pods from what listens there.
        enable(&format!("/proc/sys/net/ipv4/conf/{}/route_localnet", network.config.bridge))?;
        Ok(network)
    }

    async fn ensure_bridge(&self) -> Result<(), Error> {
        let name = &self.config.bridge;
        let failed = || format!("making bridge {name}");
        match self.connection.add_link(BridgeLink::new(name).mtu(MTU)).await {
            Err(error) if error.is_already_exists() => {}
            made => made.step(failed)?,
        }
        let gateway = Ipv4Address::new(name.as_str(), self.config.node.gateway(), self.config.node.prefix);
        self.connection.replace_address(gateway).await.step(failed)?;
        self.connection.set_link_up(name.as_str()).await.step(failed)
    }

    async fn apply_rules(&self, state: &State) -> Result<(), Error> {
        let pods = state.records.by_uid.values();
        let Config { table, bridge, .. } = &self.config;
        Ruleset::new(table, bridge, self.config.cluster, self.config.node, pods).apply().await
    }

    async fn connect(
        &self,
        pod: &PodNetworkSpec,
        netns: &Path,
        address: std::net::Ipv4Addr,
    ) -> Result<(), Error> {
        let failed =
            || format!("connecting pod {}/{} to bridge {}", pod.namespace, pod.name, self.config.bridge);
        let veth = veth_name(&pod.uid);
        self.connection.del_link_if_exists(veth.as_str()).await.step(failed)?;
        let namespace_file = fs::File::open(netns).map_err(|source| Error::File {
            step: "opening",
            path: netns.to_owned(),
            source,
        })?;
        let link = VethLink::new(&veth, POD_INTERFACE).mtu(MTU).peer_mtu(MTU).peer_netns_fd(&namespace_file);
        self.connection.add_link(link).await.step(failed)?;
        self.connection.set_link_master(veth.as_str(), self.config.bridge.as_str()).await.step(failed)?;
        self.connection.set_link_up(veth.as_str()).await.step(failed)?;

        let inside = Connection::<Route>::new_in(netns).step(failed)?;
        inside.set_link_up("lo").await.step(failed)?;
        inside
            .add_address(Ipv4Address::new(POD_INTERFACE, address, self.config.node.prefix))
            .await
            .step(failed)?;
        inside.set_link_up(POD_INTERFACE).await.step(failed)?;
        inside.add_route(Ipv4Route::default_route().gateway(self.config.node.gateway())).await.step(failed)
    }

    async fn set_up(&self, state: &mut State, pod: &PodNetworkSpec) -> Result<PodNetworkStatus, Error> {
        check_ports_free(&state.records, pod)?;
        let address = state.ipam.take().ok_or(Error::Exhausted(self.config.node))?;
        let netns = self.config.run_dir.join("netns").join(&pod.uid);
        let status = PodNetworkStatus { netns: netns.clone(), ips: vec![IpAddr::V4(address)] };
        let made = async {
            make_namespace(&netns).await?;
            self.connect(pod, &netns, address).await?;
            let record = Record { status: status.clone(), host_ports: pod.host_ports.clone() };
            state.records.insert(&pod.uid, record)?;
            if pod.host_ports.is_empty() { Ok(()) } else { self.apply_rules(state).await }
        }
        .await;
        if let Err(error) = made {
            if let Err(left) = self.take_back(state, &pod.uid, Some(address)).await {
                warn!(error = %left, pod = %pod.name, "cleaning up after a failed network setup");
            }
            return Err(error);
        }
        self.known.write().insert(pod.uid.clone(), status.clone());
        Ok(status)
    }

    async fn take_back(
        &self,
        state: &mut State,
        uid: &str,
        address: Option<std::net::Ipv4Addr>,
    ) -> Result<(), Error> {
        self.known.write().remove(uid);
        let failed = || format!("disconnecting pod {uid}");
        self.connection.del_link_if_exists(veth_name(uid).as_str()).await.step(failed)?;
        remove_namespace(&self.config.run_dir.join("netns").join(uid))?;
        let record = state.records.by_uid.get(uid).cloned();
        state.records.remove(uid)?;
        if let Some(address) = address.or_else(|| record.as_ref().and_then(Record::ipv4)) {
            state.ipam.free(address);
        }
        if record.is_some_and(|record| !record.host_ports.is_empty()) {
            self.apply_rules(state).await
        } else {
            Ok(())
        }
    }

    /// Takes everything the network made out of the kernel; for `edgek uninstall`.
    ///
    /// # Errors
    /// At the first thing that cannot be removed.
    pub async fn remove(config: &Config) -> Result<(), Error> {
        let connection = Connection::<Route>::new().step(|| "opening netlink".to_owned())?;
        let records = Records::open(&config.run_dir.join("pods"))?;
        for uid in records.by_uid.keys() {
            connection
                .del_link_if_exists(veth_name(uid).as_str())
                .await
                .step(|| format!("disconnecting pod {uid}"))?;
            remove_namespace(&config.run_dir.join("netns").join(uid))?;
        }
        let bridge = config.bridge.as_str();
        connection.del_link_if_exists(bridge).await.step(|| format!("removing bridge {bridge}"))?;
        rules::remove(&config.table).await
    }
}

#[async_trait]
impl Network for BridgeNetwork {
    async fn setup(&self, pod: &PodNetworkSpec) -> Result<PodNetworkStatus, Error> {
        let mut state = self.state.lock().await;
        if let Some(record) = state.records.by_uid.get(&pod.uid) {
            return Ok(record.status.clone());
        }
        self.set_up(&mut state, pod).await
    }

    async fn teardown(&self, uid: &str) -> Result<(), Error> {
        let mut state = self.state.lock().await;
        self.take_back(&mut state, uid, None).await
    }

    fn status(&self, uid: &str) -> Option<PodNetworkStatus> {
        self.known.read().get(uid).cloned()
    }

    fn pods(&self) -> Vec<String> {
        self.known.read().keys().cloned().collect()
    }
}

/// The name of a pod's interface on the node: `veth` and eleven hex digits that differ between pods (FNV-1a).
fn veth_name(uid: &str) -> String {
    let hash =
        uid.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    format!("veth{:011x}", hash & 0xfff_ffff_ffff)
}

fn check_ports_free(records: &Records, pod: &PodNetworkSpec) -> Result<(), Error> {
    let same = |a: &HostPort, b: &HostPort| {
        let same_address = a.host_ip.is_none() || b.host_ip.is_none() || a.host_ip == b.host_ip;
        a.protocol == b.protocol && a.host_port == b.host_port && same_address
    };
    for port in &pod.host_ports {
        let holder =
            records.by_uid.iter().find(|(_, record)| record.host_ports.iter().any(|held| same(held, port)));
        if let Some((uid, _)) = holder {
            return Err(Error::PortTaken { port: port.host_port, protocol: port.protocol, uid: uid.clone() });
        }
    }
    Ok(())
}

/// A pod whose namespace is gone (after a reboot that kept the run folder) is not set up.
fn forget_lost_namespaces(records: &mut Records) -> Result<(), Error> {
    let lost: Vec<String> = records
        .by_uid
        .iter()
        .filter(|(_, record)| !namespace::is_namespace_path(&record.status.netns))
        .map(|(uid, _)| uid.clone())
        .collect();
    for uid in lost {
        records.remove(&uid)?;
    }
    Ok(())
}

async fn make_namespace(path: &Path) -> Result<(), Error> {
    remove_namespace(path)?;
    let path = path.to_owned();
    let made = {
        let path = path.clone();
        // The call changes its thread's namespace for a moment, so it must not run on a worker of the runtime.
        tokio::task::spawn_blocking(move || namespace::create_path(&path)).await
    };
    let step = || format!("making network namespace {}", path.display());
    match made {
        Ok(made) => made.step(step),
        Err(_) => Err(Error::File { step: "making", path, source: std::io::ErrorKind::Interrupted.into() }),
    }
}

fn remove_namespace(path: &Path) -> Result<(), Error> {
    if !path.exists() {
        return Ok(());
    }
    namespace::delete_path(path).step(|| format!("removing network namespace {}", path.display()))
}

/// Sets a kernel parameter to 1.
fn enable(path: &str) -> Result<(), Error> {
    let path = Path::new(path);
    let failed = |step| move |source| Error::File { step, path: path.to_owned(), source };
    if fs::read_to_string(path).map_err(failed("reading"))?.trim() == "1" {
        return Ok(());
    }
    fs::write(path, "1").map_err(failed("writing"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interface_names_fit_the_kernel_and_differ() {
        let (a, b) = (veth_name("7a4d3c9e-1"), veth_name("7a4d3c9e-2"));
        assert!(a != b && a.len() == 15 && b.len() == 15, "{a} {b}");
    }
}
