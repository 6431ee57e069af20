//! UDP has no connections that end by themselves: flows that lead to an endpoint that is gone are forgotten, so that
//! the next packet of the client chooses anew (upstream: `pkg/proxy/conntrack/cleanup.go`).

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};

use nlink::netlink::netfilter::{ConntrackEntry, ConntrackFilter, IpProtocol};
use nlink::netlink::types::AddressFamily;
use nlink::netlink::{Connection, Netfilter};

use crate::rules::Frontend;
use crate::view::Protocol;
use crate::{Error, Step};

/// Forgets the flows to these frontends that lead elsewhere than to their endpoints.
pub(crate) async fn forget(flows: &BTreeMap<Frontend, Vec<SocketAddrV4>>) -> Result<(), Error> {
    if flows.is_empty() {
        return Ok(());
    }
    let failed = || "reading the flows of UDP".to_owned();
    let connection = Connection::<Netfilter>::new().step(failed)?;
    let udp = ConntrackFilter::new().family(AddressFamily::Inet).proto(IpProtocol::Udp);
    for entry in connection.get_conntrack_matching(&udp).await.step(failed)? {
        if !is_stale(&entry, flows) {
            continue;
        }
        match connection.del_conntrack_entry(&entry).await {
            Err(error) if error.is_not_found() => {}
            forgotten => forgotten.step(|| "forgetting a flow of UDP".to_owned())?,
        }
    }
    Ok(())
}

fn is_stale(entry: &ConntrackEntry, flows: &BTreeMap<Frontend, Vec<SocketAddrV4>>) -> bool {
    let (Some(to), Some(from)) =
        (v4(entry.orig.dst_ip, entry.orig.dst_port), v4(entry.reply.src_ip, entry.reply.src_port))
    else {
        return false;
    };
    let endpoints = |address| flows.get(&Frontend { address, protocol: Protocol::Udp, port: to.port() });
    // A node port without endpoints may be another program's port on another machine.
    let node_port = || endpoints(Ipv4Addr::UNSPECIFIED).filter(|endpoints| !endpoints.is_empty());
    endpoints(*to.ip()).or_else(node_port).is_some_and(|endpoints| !endpoints.contains(&from))
}

fn v4(address: Option<IpAddr>, port: Option<u16>) -> Option<SocketAddrV4> {
    match address? {
        IpAddr::V4(address) => Some(SocketAddrV4::new(address, port?)),
        IpAddr::V6(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use nlink::netlink::netfilter::ConntrackTuple;

    use super::*;

    #[test]
    fn flows_to_what_serves_stay_and_others_are_stale() {
        let service = Frontend { address: Ipv4Addr::new(10, 43, 0, 7), protocol: Protocol::Udp, port: 53 };
        let empty = Frontend { address: Ipv4Addr::new(10, 43, 0, 8), ..service };
        let port = Frontend { address: Ipv4Addr::UNSPECIFIED, port: 30053, ..service };
        let endpoint = "10.42.0.2:5353".parse().unwrap();
        let empty_port = Frontend { port: 30054, ..port };
        let flows = BTreeMap::from([
            (service, vec![endpoint]),
            (empty, vec![]),
            (port, vec![endpoint]),
            (empty_port, vec![]),
        ]);
        let stale = |to: &str, from: &str| {
            let (to, from): (SocketAddrV4, SocketAddrV4) = (to.parse().unwrap(), from.parse().unwrap());
            let client = Ipv4Addr::new(10, 42, 0, 9);
            let mut entry = ConntrackEntry::default();
            entry.orig = ConntrackTuple::v4(client, *to.ip()).ports(1, to.port());
            entry.reply = ConntrackTuple::v4(*from.ip(), client).ports(from.port(), 1);
            is_stale(&entry, &flows)
        };
        assert!(!stale("10.43.0.7:53", "10.42.0.2:5353"));
        assert!(stale("10.43.0.7:53", "10.42.0.3:5353"), "another endpoint");
        assert!(stale("10.43.0.7:53", "10.43.0.7:53"), "begun before there were endpoints");
        assert!(stale("10.43.0.8:53", "10.42.0.2:5353"), "no endpoints any more");
        assert!(!stale("10.43.0.9:53", "10.42.0.3:5353"), "no service of ours");
        assert!(stale("192.168.1.1:30053", "10.42.0.3:5353"), "a port of the node");
        assert!(!stale("192.168.1.1:30054", "10.42.0.3:5353"), "a port without endpoints");
    }
}
