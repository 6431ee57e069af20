//! The nftables rules of the pod network: one table that is replaced as a whole, in one transaction, whenever the
//! host ports change. Deleting the table takes every trace of it out of the kernel.

use std::net::{IpAddr, Ipv4Addr};

use nlink::netlink::nftables::types::{
    BaseChain, Chain, Family, FibFlags, FilterHook, NatHook, Priority, Rule,
};
use nlink::netlink::types::route::RouteType;
use nlink::netlink::{Connection, Nftables};

use crate::record::Record;
use crate::routed::VETH;
use crate::{Error, HostPort, Protocol, Range, Step};

const FAMILY: Family = Family::Ip;
/// The mark of packets whose source must become the node's address.
const MASQUERADE: u32 = 0x4000;
const LOOPBACK: (Ipv4Addr, u8) = (Ipv4Addr::new(127, 0, 0, 0), 8);

/// What the rules are made from.
#[derive(Debug)]
pub(crate) struct Ruleset<'a> {
    pub(crate) table: &'a str,
    /// The addresses of all pods of the cluster, among whom nothing is masqueraded.
    pub(crate) cluster: Range,
    pub(crate) host_ports: Vec<(Ipv4Addr, HostPort)>,
}

impl<'a> Ruleset<'a> {
    pub(crate) fn new(table: &'a str, cluster: Range, pods: impl Iterator<Item = &'a Record>) -> Self {
        let ports_of = |pod: &Record| {
            let address = pod.ipv4()?;
            Some(pod.host_ports.iter().map(move |port| (address, port.clone())).collect::<Vec<_>>())
        };
        let mut host_ports: Vec<_> = pods.filter_map(ports_of).flatten().collect();
        // A port on one address goes before the same port on all addresses.
        host_ports.sort_by_key(|(_, port)| (port.host_ip.is_none(), port.clone()));
        Self { table, cluster, host_ports }
    }

    /// Puts the rules into the kernel, in place of those that are there.
    pub(crate) async fn apply(&self) -> Result<(), Error> {
        let failed = || format!("writing nftables table {}", self.table);
        let connection = Connection::<Nftables>::new().step(failed)?;
        let there =
            connection.list_tables_in(FAMILY).await.step(failed)?.iter().any(|t| t.name == self.table);
        let transaction = connection.transaction();
        let emptied = if there { transaction.del_table(self.table, FAMILY) } else { transaction };
        let mut transaction = emptied.add_table(self.table, FAMILY);
        for chain in self.chains().step(failed)? {
            transaction = transaction.add_chain(chain);
        }
        for rule in self.rules().step(failed)? {
            transaction = transaction.add_rule(rule);
        }
        transaction.commit(&connection).await.step(failed)
    }

    fn chains(&self) -> nlink::Result<Vec<Chain>> {
        let chain = |name: &str| Chain::new(self.table, name).map(|chain| chain.family(FAMILY));
        Ok(vec![
            chain("raw")?.base(BaseChain::filter(FilterHook::Prerouting, Priority::Raw)),
            chain("hostports")?,
            chain("prerouting")?.base(BaseChain::nat(NatHook::Prerouting, Priority::DstNat)),
            chain("output")?.base(BaseChain::nat(NatHook::Output, Priority::DstNat)),
            chain("postrouting")?.base(BaseChain::nat(NatHook::Postrouting, Priority::SrcNat)),
        ])
    }

    fn rules(&self) -> nlink::Result<Vec<Rule>> {
        let rule = |chain: &str| Rule::new(self.table, chain).family(FAMILY);
        // Loopback is routed to pods with host ports, but what listens there is not for pods.
        let (loopback, prefix) = LOOPBACK;
        let mut rules = vec![rule("raw").match_iif_prefix(VETH).match_daddr_v4(loopback, prefix).drop()];
        for chain in ["prerouting", "output"] {
            rules.push(rule(chain).match_fib_type(FibFlags::DADDR, RouteType::Local).try_jump("hostports")?);
        }
        for (pod, port) in &self.host_ports {
            rules.extend(host_port_rules(&rule("hostports"), *pod, port));
        }
        let Range { network, prefix } = self.cluster;
        // Pods that speak to the world do so with the node's address.
        rules.push(
            rule("postrouting")
                .match_saddr_v4(network, prefix)
                .match_daddr_v4_not(network, prefix)
                .masquerade(),
        );
        // Answers must come back through the node when a pod reaches itself, or the node's loopback a pod, by a host port.
        rules.push(rule("postrouting").match_mark(MASQUERADE).masquerade());
        Ok(rules)
    }
}

/// Leads a host port to the pod; also marks what would otherwise be answered past the node.
fn host_port_rules(rule: &Rule, pod: Ipv4Addr, port: &HostPort) -> Vec<Rule> {
    let matching = |rule: Rule| {
        let rule = match port.host_ip {
            Some(IpAddr::V4(address)) => rule.match_daddr_v4(address, 32),
            _ => rule,
        };
        match port.protocol {
            Protocol::Tcp => rule.match_tcp_dport(port.host_port),
            Protocol::Udp => rule.match_udp_dport(port.host_port),
            Protocol::Sctp => rule.match_l4proto(132),
        }
    };
    if matches!(port.host_ip, Some(IpAddr::V6(_))) || port.protocol == Protocol::Sctp {
        return Vec::new();
    }
    let mark =
        |source: Ipv4Addr, prefix| matching(rule.clone().match_saddr_v4(source, prefix)).set_mark(MASQUERADE);
    vec![
        mark(pod, 32),
        mark(LOOPBACK.0, LOOPBACK.1),
        matching(rule.clone()).dnat(pod, Some(port.container_port)),
    ]
}

/// Takes the table out of the kernel.
pub(crate) async fn remove(table: &str) -> Result<(), Error> {
    let failed = || format!("removing nftables table {table}");
    let connection = Connection::<Nftables>::new().step(failed)?;
    connection.del_table_if_exists(table, FAMILY).await.map(|_| ()).step(failed)
}
