//! `RoutedNetwork`: a veth pair and a route per pod, addresses from the node's range, a route to every other node's.
//!
//! Nothing is bridged. A pod has its address alone (/32) and sends everything to the node, even what is for a pod beside
//! it: the kernel then sees both directions of every connection, as Services need, whether or not the machine lets
//! bridges call netfilter.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use edgek_base_sys::files::{create_dir_private, write_atomic};
use nlink::netlink::addr::Ipv4Address;
use nlink::netlink::link::{BridgeLink, VethLink};
use nlink::netlink::neigh::Neighbor;
use nlink::netlink::route::Ipv4Route;
use nlink::netlink::types::route::{RouteScope, RouteType};
use nlink::netlink::{Connection, Route};
use tokio::sync::{Mutex, watch};
use tracing::{info, warn};

use crate::ipam::{Ipam, Range};
use crate::overlay::{Overlay, Peer};
use crate::record::{Record, Records};
use crate::rules::{self, Ruleset};
use crate::{Error, HostPort, Network, PodNetworkSpec, PodNetworkStatus, Step, TableWatch, netns};

/// What the names of pods' interfaces on the node begin with.
pub(crate) const VETH: &str = "veth";
/// The name of a pod's interface inside its namespace.
const POD_INTERFACE: &str = "eth0";
/// The hardware address of every pod's interface on the node. Each has only the pod at its other end, and both ends
/// know each other's address, so that nobody asks for one.
const NODE_HARDWARE: [u8; 6] = [0x0e, 0xed, 0, 0, 0, 1];

/// Names and ranges; all of them can differ between two nodes that share a kernel.
#[derive(Debug, Clone)]
pub struct Config {
    /// The name of the interface with the node's own address in the pod network, at most 15 bytes.
    pub gateway: String,
    /// The name of the interface to other nodes, at most 15 bytes.
    pub overlay: String,
    /// The nftables table's name.
    pub table: String,
    /// The addresses of all pods of the cluster.
    pub cluster: Range,
    /// The addresses of Services; the node asks them with its address in the pod network.
    pub services: Range,
    /// The longest packet of a pod, see [`crate::host::pod_mtu`].
    pub mtu: u32,
    /// The folder of namespaces and records; ends with a reboot.
    pub run_dir: PathBuf,
    /// Remembers the addresses of this node's pods, so that it starts without asking.
    pub range_file: PathBuf,
}

/// The built-in pod network.
pub struct RoutedNetwork {
    config: Config,
    connection: Connection<Route>,
    overlay: Overlay,
    /// Whether the node has a range.
    ready: watch::Sender<bool>,
    /// Also the lock that keeps setups and teardowns of host ports in order.
    state: Mutex<State>,
    /// A copy of the records for those who do not wait.
    known: parking_lot::RwLock<BTreeMap<String, PodNetworkStatus>>,
}

#[derive(Debug)]
struct State {
    /// The addresses of this node's pods; `None` until the node has a range.
    ipam: Option<Ipam>,
    records: Records,
}

impl RoutedNetwork {
    /// Makes the rules, adopts the pods that are set up, and takes up the range the node had before.
    /// Otherwise pods wait for [`Self::assign`].
    ///
    /// # Errors
    /// When the kernel refuses the rules, forwarding or the range, or the run folder cannot be used.
    pub async fn start(config: Config) -> Result<Self, Error> {
        let connection = Connection::<Route>::new().step(|| "opening netlink".to_owned())?;
        let mut records = Records::open(&config.run_dir.join("pods"))?;
        netns::forget_lost(&mut records)?;
        let known = records.by_uid.iter().map(|(uid, record)| (uid.clone(), record.status.clone())).collect();
        let state = Mutex::new(State { ipam: None, records });
        let network = Self {
            overlay: Overlay::new(config.overlay.clone(), config.mtu)?,
            config,
            connection,
            ready: watch::Sender::new(false),
            state,
            known: parking_lot::RwLock::new(known),
        };
        // Lets the kernel pass packets between pods, and between them and the world.
        enable("/proc/sys/net/ipv4/ip_forward")?;
        network.apply_rules(&*network.state.lock().await).await?;
        let remembered = fs::read_to_string(&network.config.range_file).ok();
        if let Some(range) = remembered.and_then(|text| text.trim().parse().ok()) {
            network.assign(range).await?;
        }
        Ok(network)
    }

    /// Gives the node its range. Pods that have addresses of another one keep them until they end.
    ///
    /// # Errors
    /// When the kernel refuses an interface, address or route, or the range cannot be remembered.
    pub async fn assign(&self, range: Range) -> Result<(), Error> {
        let mut state = self.state.lock().await;
        if state.ipam.as_ref().is_some_and(|ipam| ipam.range() == range) {
            return Ok(());
        }
        self.ensure_gateway(range).await?;
        let path = &self.config.range_file;
        let failed = |source| Error::File { step: "writing", path: path.clone(), source };
        path.parent().map_or(Ok(()), create_dir_private).map_err(failed)?;
        write_atomic(path, format!("{range}\n").as_bytes(), 0o600).map_err(failed)?;
        info!(%range, "the node's pods have their addresses from this range");
        state.ipam = Some(Ipam::new(range, state.records.by_uid.values().filter_map(Record::ipv4)));
        self.ready.send_replace(true);
        Ok(())
    }

    /// Puts the rules into the kernel again whenever another program has removed them.
    ///
    /// # Errors
    /// When the kernel refuses them, or does not tell.
    pub(crate) async fn keep_rules(&self) -> Result<Infallible, Error> {
        let mut table = TableWatch::start(&self.config.table).await?;
        loop {
            // A removal before the watch began counts, too.
            self.apply_rules(&*self.state.lock().await).await?;
            table.gone().await?;
            warn!(
                table = self.config.table,
                "another program has removed the rules of the pod network; they are back"
            );
        }
    }

    /// These are the other nodes, all of them.
    ///
    /// # Errors
    /// When the kernel refuses the interface to them, or a route.
    pub async fn set_peers(&self, peers: &BTreeSet<Peer>) -> Result<(), Error> {
        let own = self.state.lock().await.ipam.as_ref().map(Ipam::range);
        match own {
            Some(own) => self.overlay.set_peers(own, peers).await,
            // They are set again when the node has a range.
            None => Ok(()),
        }
    }

    async fn ensure_gateway(&self, range: Range) -> Result<(), Error> {
        let Config { gateway, cluster, services, .. } = &self.config;
        let failed = || format!("making {gateway}");
        // A bridge that bridges nothing: every kernel for containers has one, but not all have dummy interfaces.
        match self.connection.add_link(BridgeLink::new(gateway)).await {
            Err(error) if error.is_already_exists() => {}
            made => made.step(failed)?,
        }
        let address = Ipv4Address::new(gateway.as_str(), range.gateway(), 32);
        self.connection.replace_address(address).await.step(failed)?;
        self.connection.set_link_up(gateway.as_str()).await.step(failed)?;
        // Services are never reached this way, but the node looks for one before their rules lead elsewhere.
        let services = Ipv4Route::from_addr(services.network, services.prefix)
            .dev(gateway.as_str())
            .scope(RouteScope::Link)
            .prefsrc(range.gateway());
        self.connection.replace_route(services).await.step(failed)?;
        // What is for a pod that is gone must not leave for the world.
        self.connection.replace_route(to_nobody(*cluster)).await.step(failed)
    }

    async fn apply_rules(&self, state: &State) -> Result<(), Error> {
        let pods = state.records.by_uid.values();
        Ruleset::new(&self.config.table, self.config.cluster, pods).apply().await
    }

    async fn connect(
        &self,
        pod: &PodNetworkSpec,
        netns: &Path,
        address: Ipv4Addr,
        gateway: Ipv4Addr,
    ) -> Result<(), Error> {
        let failed = || format!("connecting pod {}/{}", pod.namespace, pod.name);
        let veth = veth_name(&pod.uid);
        let veth = veth.as_str();
        self.connection.del_link_if_exists(veth).await.step(failed)?;
        let namespace_file = fs::File::open(netns).map_err(|source| Error::File {
            step: "opening",
            path: netns.to_owned(),
            source,
        })?;
        let (mtu, hardware) = (self.config.mtu, pod_hardware(address));
        let node_end = VethLink::new(veth, POD_INTERFACE).mtu(mtu).address(NODE_HARDWARE);
        let link = node_end.peer_mtu(mtu).peer_address(hardware).peer_netns_fd(&namespace_file);
        self.connection.add_link(link).await.step(failed)?;
        self.connection.set_link_up(veth).await.step(failed)?;
        let neighbor = Neighbor::new_v4(veth, address).lladdr(hardware).permanent();
        self.connection.replace_neighbor(neighbor).await.step(failed)?;
        let to_pod = Ipv4Route::from_addr(address, 32).dev(veth).scope(RouteScope::Link).prefsrc(gateway);
        self.connection.replace_route(to_pod).await.step(failed)?;
        if !pod.host_ports.is_empty() {
            // Lets the node's loopback reach them; the rules keep pods from what listens there.
            enable(&format!("/proc/sys/net/ipv4/conf/{veth}/route_localnet"))?;
        }

        let inside = Connection::<Route>::new_in(netns).step(failed)?;
        inside.set_link_up("lo").await.step(failed)?;
        inside.add_address(Ipv4Address::new(POD_INTERFACE, address, 32)).await.step(failed)?;
        inside.set_link_up(POD_INTERFACE).await.step(failed)?;
        let neighbor = Neighbor::new_v4(POD_INTERFACE, gateway).lladdr(NODE_HARDWARE).permanent();
        inside.add_neighbor(neighbor).await.step(failed)?;
        let to_node = Ipv4Route::from_addr(gateway, 32).dev(POD_INTERFACE).scope(RouteScope::Link);
        inside.add_route(to_node).await.step(failed)?;
        inside.add_route(Ipv4Route::default_route().gateway(gateway)).await.step(failed)
    }

    async fn set_up(&self, state: &mut State, pod: &PodNetworkSpec) -> Result<PodNetworkStatus, Error> {
        check_ports_free(&state.records, pod)?;
        let ipam = state.ipam.as_mut().ok_or(Error::NoRange)?;
        let address = ipam.take().ok_or(Error::Exhausted(ipam.range()))?;
        let gateway = ipam.range().gateway();
        let netns = self.config.run_dir.join("netns").join(&pod.uid);
        let status = PodNetworkStatus { netns: netns.clone(), ips: vec![IpAddr::V4(address)] };
        let made = async {
            netns::make(&netns).await?;
            self.connect(pod, &netns, address, gateway).await?;
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

    async fn take_back(&self, state: &mut State, uid: &str, address: Option<Ipv4Addr>) -> Result<(), Error> {
        self.known.write().remove(uid);
        let failed = || format!("disconnecting pod {uid}");
        self.connection.del_link_if_exists(veth_name(uid).as_str()).await.step(failed)?;
        netns::remove(&self.config.run_dir.join("netns").join(uid))?;
        let record = state.records.by_uid.get(uid).cloned();
        state.records.remove(uid)?;
        if let Some(address) = address.or_else(|| record.as_ref().and_then(Record::ipv4)) {
            state.ipam.iter_mut().for_each(|ipam| ipam.free(address));
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
            netns::remove(&config.run_dir.join("netns").join(uid))?;
        }
        let failed = || format!("removing the route to {}", config.cluster);
        connection.del_route_if_exists(to_nobody(config.cluster)).await.step(failed)?;
        for link in [config.overlay.as_str(), config.gateway.as_str()] {
            connection.del_link_if_exists(link).await.step(|| format!("removing {link}"))?;
        }
        rules::remove(&config.table).await
    }
}

#[async_trait]
impl Network for RoutedNetwork {
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

    fn ready(&self) -> watch::Receiver<bool> {
        self.ready.subscribe()
    }
}

/// The name of a pod's interface on the node: `veth` and eleven hex digits that differ between pods (FNV-1a).
fn veth_name(uid: &str) -> String {
    let hash =
        uid.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    format!("{VETH}{:011x}", hash & 0xfff_ffff_ffff)
}

/// The route of last resort to the addresses of pods.
fn to_nobody(cluster: Range) -> Ipv4Route {
    Ipv4Route::from_addr(cluster.network, cluster.prefix).route_type(RouteType::Unreachable)
}

/// The hardware address of a pod's own interface.
fn pod_hardware(address: Ipv4Addr) -> [u8; 6] {
    let [a, b, c, d] = address.octets();
    [0x0a, 0x58, a, b, c, d]
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
