//! The way to the pods of other nodes: a vxlan interface with one route, one neighbour and one forwarding entry a node,
//! all of them permanent. Nothing is learnt or broadcast, and a cluster of one node has no interface.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use nlink::netlink::addr::Ipv4Address;
use nlink::netlink::fdb::FdbEntryBuilder;
use nlink::netlink::link::VxlanLink;
use nlink::netlink::neigh::Neighbor;
use nlink::netlink::route::Ipv4Route;
use nlink::netlink::{Connection, Route};
use tokio::sync::Mutex;

use crate::{Error, Range, Step};

/// The network's number and UDP port; all nodes must agree on them.
const NETWORK: u32 = 1;
const PORT: u16 = 8472;

/// Another node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Peer {
    /// The addresses of its pods.
    pub range: Range,
    /// Where it is reached.
    pub address: Ipv4Addr,
}

impl Peer {
    /// The hardware address of its interface. It follows from the range, so nobody has to be told.
    fn hardware(&self) -> [u8; 6] {
        hardware(self.range)
    }
}

/// A locally administered address of its own for each range.
fn hardware(range: Range) -> [u8; 6] {
    let [a, b, c, d] = range.network.octets();
    [0x0e, 0xed, a, b, c, d]
}

/// The interface.
pub(crate) struct Overlay {
    connection: Connection<Route>,
    name: String,
    mtu: u32,
    /// The nodes that have their entries, and this node's own range then.
    state: Mutex<Option<(Range, BTreeSet<Peer>)>>,
}

impl Overlay {
    pub(crate) fn new(name: String, mtu: u32) -> Result<Self, Error> {
        let connection = Connection::<Route>::new().step(|| "opening netlink".to_owned())?;
        Ok(Self { connection, name, mtu, state: Mutex::new(None) })
    }

    /// Makes `peers` the nodes that are reached; `own` are the addresses of this node's pods.
    pub(crate) async fn set_peers(&self, own: Range, peers: &BTreeSet<Peer>) -> Result<(), Error> {
        let mut state = self.state.lock().await;
        if state.as_ref().is_some_and(|state| (state.0, &state.1) == (own, peers)) {
            return Ok(());
        }
        let known = state.take();
        if peers.is_empty() {
            let failed = || format!("removing {}", self.name);
            self.connection.del_link_if_exists(self.name.as_str()).await.step(failed)?;
        } else {
            let kept = self.ensure_interface(own).await?;
            let known = known.filter(|_| kept).map(|(_, peers)| peers).unwrap_or_default();
            for gone in known.difference(peers) {
                self.remove(gone, peers).await?;
            }
            self.remove_unknown_routes(peers).await?;
            for new in peers.difference(&known) {
                self.add(new, own).await?;
            }
        }
        *state = Some((own, peers.clone()));
        Ok(())
    }

    /// Makes the interface unless it is there and right; tells whether it was.
    async fn ensure_interface(&self, own: Range) -> Result<bool, Error> {
        let name = self.name.as_str();
        let failed = || format!("making {name}");
        if let Some(link) = self.connection.get_link_by_name(name).await.step(failed)? {
            if link.address() == Some(&hardware(own)) && link.mtu() == Some(self.mtu) {
                return Ok(true);
            }
            self.connection.del_link(name).await.step(failed)?;
        }
        let link = VxlanLink::new(name, NETWORK).port(PORT).address(hardware(own)).mtu(self.mtu);
        self.connection.add_link(link.learning(false)).await.step(failed)?;
        // What leaves by it with the node's address can be answered by it.
        self.connection.replace_address(Ipv4Address::new(name, own.gateway(), 32)).await.step(failed)?;
        self.connection.set_link_up(name).await.step(failed)?;
        Ok(false)
    }

    async fn add(&self, peer: &Peer, own: Range) -> Result<(), Error> {
        let name = self.name.as_str();
        let failed = || format!("adding the route to {} at {}", peer.range, peer.address);
        let entry = FdbEntryBuilder::new(peer.hardware()).dev(name).dst(IpAddr::V4(peer.address)).self_();
        self.connection.replace_fdb(entry.permanent()).await.step(failed)?;
        let gateway = peer.range.network;
        let neighbor = Neighbor::new_v4(name, gateway).lladdr(peer.hardware()).permanent();
        self.connection.replace_neighbor(neighbor).await.step(failed)?;
        self.connection.replace_route(self.route(peer.range).prefsrc(own.gateway())).await.step(failed)
    }

    fn route(&self, range: Range) -> Ipv4Route {
        Ipv4Route::from_addr(range.network, range.prefix).dev(&self.name).gateway(range.network).onlink()
    }

    /// Removes the entries of a node that is gone or has moved; what `peers` still use is replaced instead.
    async fn remove(&self, peer: &Peer, peers: &BTreeSet<Peer>) -> Result<(), Error> {
        if peers.iter().any(|other| other.range == peer.range) {
            return Ok(());
        }
        let name = self.name.as_str();
        let failed = || format!("removing the route to {}", peer.range);
        self.connection.del_route_if_exists(self.route(peer.range)).await.step(failed)?;
        let neighbor = Neighbor::new_v4(name, peer.range.network);
        self.connection.del_neighbor_if_exists(neighbor).await.step(failed)?;
        match self.connection.del_fdb(name, peer.hardware(), None).await {
            Err(error) if error.is_not_found() => Ok(()),
            removed => removed.step(failed),
        }
    }

    /// Removes the routes to nodes that went away while nobody looked.
    async fn remove_unknown_routes(&self, peers: &BTreeSet<Peer>) -> Result<(), Error> {
        let failed = || format!("reading the routes of {}", self.name);
        let link = self.connection.get_link_by_name(self.name.as_str()).await.step(failed)?;
        let index = link.map(|link| link.ifindex());
        for route in self.connection.get_routes().await.step(failed)? {
            let Some(IpAddr::V4(network)) = route.destination().copied() else { continue };
            let range = Range { network, prefix: route.dst_len() };
            if route.oif() == index && route.gateway().is_some() && peers.iter().all(|p| p.range != range) {
                self.connection.del_route_if_exists(self.route(range)).await.step(failed)?;
            }
        }
        Ok(())
    }
}
