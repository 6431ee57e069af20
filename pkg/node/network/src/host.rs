//! The node's own addresses.

use std::net::{IpAddr, Ipv4Addr};

use nlink::netlink::addr::Ipv4Address;
use nlink::netlink::types::addr::Scope;
use nlink::netlink::{Connection, Route};

use crate::{Error, Step};

/// What an Ethernet link carries.
const ETHERNET: u32 = 1500;
/// The headers of IPv4, UDP, vxlan and the Ethernet packet inside.
const VXLAN_HEADERS: u32 = 50;
/// What every host must accept.
const LEAST_MTU: u32 = 576;
/// The interface of addresses that every node has for itself.
const LOOPBACK: &str = "lo";

/// The address to be reached at: that of the interface of the default route, else of the first interface that is
/// up, else loopback. A node without a network still runs its pods.
///
/// # Errors
/// When the kernel does not answer.
pub async fn address() -> Result<IpAddr, Error> {
    let failed = || "reading the node's addresses".to_owned();
    let connection = Connection::<Route>::new().step(failed)?;
    let routes = connection.get_routes().await.step(failed)?;
    let default =
        routes.iter().filter(|route| route.dst_len() == 0 && route.is_ipv4()).min_by_key(|r| r.priority());
    let addresses = connection.get_addresses().await.step(failed)?;
    let global: Vec<(u32, Ipv4Addr)> = addresses
        .iter()
        // What a node has for itself, such as the cluster DNS address, reaches no other one.
        .filter(|address| address.scope() != Scope::Host)
        .filter_map(|address| match address.local().or(address.address()) {
            Some(IpAddr::V4(ip)) if !ip.is_loopback() && !ip.is_link_local() => {
                Some((address.ifindex(), *ip))
            }
            _ => None,
        })
        .collect();
    let on_default =
        default.and_then(|r| r.oif()).and_then(|oif| global.iter().find(|(index, _)| *index == oif));
    let address = on_default.or(global.first()).map_or(Ipv4Addr::LOCALHOST, |(_, ip)| *ip);
    Ok(IpAddr::V4(address))
}

/// The longest packet of a pod that other nodes get in one piece: what the interface with the node's address carries,
/// without what vxlan puts around it.
///
/// # Errors
/// When the kernel does not answer.
pub async fn pod_mtu(address: IpAddr) -> Result<u32, Error> {
    let failed = || "reading the node's interfaces".to_owned();
    let connection = Connection::<Route>::new().step(failed)?;
    let addresses = connection.get_addresses().await.step(failed)?;
    let own = addresses.iter().find(|a| a.local().or(a.address()) == Some(&address));
    let Some(own) = own.filter(|_| !address.is_loopback()) else { return Ok(ETHERNET - VXLAN_HEADERS) };
    let link = connection.get_link_by_index(own.ifindex()).await.step(failed)?;
    let mtu = link.and_then(|link| link.mtu()).unwrap_or(ETHERNET);
    Ok(mtu.max(LEAST_MTU + VXLAN_HEADERS) - VXLAN_HEADERS)
}

/// Gives the node an address that every node has for itself. Nothing happens when it has it.
///
/// # Errors
/// When the kernel refuses.
pub async fn own(address: Ipv4Addr) -> Result<(), Error> {
    let failed = || format!("adding {address} to {LOOPBACK}");
    let connection = Connection::<Route>::new().step(failed)?;
    let own = Ipv4Address::new(LOOPBACK, address, 32).scope(Scope::Host);
    connection.replace_address(own).await.step(failed)
}

/// Takes such an address back.
///
/// # Errors
/// When the kernel refuses.
pub async fn disown(address: Ipv4Addr) -> Result<(), Error> {
    let failed = || format!("removing {address} from {LOOPBACK}");
    let connection = Connection::<Route>::new().step(failed)?;
    connection.del_address_if_exists(LOOPBACK, address.into(), 32).await.map(|_| ()).step(failed)
}
