//! Facts about the node's own network.

use std::net::{IpAddr, Ipv4Addr};

use nlink::netlink::{Connection, Route};

use crate::{Error, Step};

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
