//! What each address and port of a Service leads to: a pure function of the Service, its EndpointSlices and the node
//! (upstream: `pkg/proxy/topology.go` chooses the endpoints in the same way).

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};

use edgek_node_network::Range;

use crate::view::{Named, Protocol, Service, ServicePort, Slice};

/// Whoever wants another proxy to serve a Service says so with this label.
const PROXY_NAME: &str = "service.kubernetes.io/service-proxy-name";
/// Services and slices with this label are for name servers only.
const HEADLESS: &str = "service.kubernetes.io/headless";
/// How long a client stays with its endpoint unless the Service says otherwise.
const AFFINITY_SECONDS: u32 = 10_800;

/// Where a client knocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Frontend {
    /// The address; [`Ipv4Addr::UNSPECIFIED`] is every address of the node, for node ports.
    pub(crate) address: Ipv4Addr,
    pub(crate) protocol: Protocol,
    pub(crate) port: u16,
}

/// Whose source address becomes the node's, so that answers come back through it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Masquerade {
    /// Everybody's: the packet may leave for another node.
    Everyone,
    /// Theirs who are not pods.
    Outsiders,
    /// Only the node's own: endpoints see who asks.
    Node,
}

/// Where a frontend leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Backend {
    /// One of these is chosen for each connection.
    pub(crate) endpoints: Vec<SocketAddrV4>,
    /// What pods and the node itself choose from, when it is not the same.
    pub(crate) inside: Option<Vec<SocketAddrV4>>,
    /// Every endpoint that takes part in old connections, chosen for new ones or not.
    pub(crate) serving: Vec<SocketAddrV4>,
    /// Whether another node has endpoints: then packets are dropped here, not refused, when there are none.
    pub(crate) elsewhere: bool,
    pub(crate) masquerade: Masquerade,
    /// For how many seconds a client comes back to the same endpoint.
    pub(crate) affinity: Option<u32>,
    /// Whoever is not in one of these is dropped; nobody is when there are none.
    pub(crate) sources: Vec<Range>,
}

/// Where the proxy is.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Place<'a> {
    /// The node's name.
    pub(crate) node: &'a str,
    /// The node's zone; empty when it has none.
    pub(crate) zone: &'a str,
}

/// All frontends of a Service, seen from `place`.
pub(crate) fn frontends(
    service: &Service,
    slices: &[Slice],
    place: Place<'_>,
) -> BTreeMap<Frontend, Backend> {
    let mut frontends = BTreeMap::new();
    let Some(cluster_ip) = cluster_ip(service) else { return frontends };
    for port in &service.spec.ports {
        let endpoints = Endpoints::of(port, slices, place);
        let mut add = |address: Ipv4Addr, number: u16, backend: Backend| {
            frontends.insert(Frontend { address, protocol: port.protocol, port: number }, backend);
        };
        add(cluster_ip, port.port, internal(service, &endpoints));
        let external = external(service, &endpoints);
        for address in service.spec.external_ips.iter().filter_map(|ip| ip.parse().ok()) {
            add(address, port.port, external.clone());
        }
        if service.spec.kind == "LoadBalancer" {
            let sources = source_ranges(service);
            for address in load_balancer_ips(service) {
                add(address, port.port, Backend { sources: sources.clone(), ..external.clone() });
            }
        }
        if port.node_port != 0 {
            add(Ipv4Addr::UNSPECIFIED, port.node_port, external);
        }
    }
    frontends
}

/// The address of a Service that this proxy serves.
fn cluster_ip(service: &Service) -> Option<Ipv4Addr> {
    let labels = &service.metadata.labels;
    if service.spec.kind == "ExternalName" || labels.contains_key(PROXY_NAME) || labels.contains_key(HEADLESS)
    {
        return None;
    }
    let all = service.spec.cluster_ips.iter().chain([&service.spec.cluster_ip]);
    all.filter_map(|ip| ip.parse().ok()).next()
}

fn load_balancer_ips(service: &Service) -> impl Iterator<Item = Ipv4Addr> {
    let ingress = service.status.load_balancer.ingress.iter();
    ingress.filter(|i| i.ip_mode.is_empty() || i.ip_mode == "VIP").filter_map(|i| i.ip.parse().ok())
}

fn source_ranges(service: &Service) -> Vec<Range> {
    service.spec.load_balancer_source_ranges.iter().filter_map(|text| text.trim().parse().ok()).collect()
}

fn affinity(service: &Service) -> Option<u32> {
    let seconds = service.spec.session_affinity_config.client_ip.timeout_seconds;
    (service.spec.session_affinity == "ClientIP").then(|| seconds.unwrap_or(AFFINITY_SECONDS))
}

/// What the Service's own address leads to.
fn internal(service: &Service, endpoints: &Endpoints) -> Backend {
    let local = service.spec.internal_traffic_policy == "Local";
    Backend {
        endpoints: if local { endpoints.local() } else { endpoints.cluster() },
        inside: None,
        serving: endpoints.serving(),
        elsewhere: local && !endpoints.cluster().is_empty(),
        masquerade: Masquerade::Outsiders,
        affinity: affinity(service),
        sources: Vec::new(),
    }
}

/// What node ports and addresses from outside lead to.
fn external(service: &Service, endpoints: &Endpoints) -> Backend {
    let backend = Backend {
        endpoints: endpoints.cluster(),
        inside: None,
        serving: endpoints.serving(),
        elsewhere: false,
        masquerade: Masquerade::Everyone,
        affinity: affinity(service),
        sources: Vec::new(),
    };
    if service.spec.external_traffic_policy != "Local" {
        return backend;
    }
    Backend {
        endpoints: endpoints.local(),
        elsewhere: !backend.endpoints.is_empty(),
        inside: Some(backend.endpoints),
        masquerade: Masquerade::Node,
        ..backend
    }
}

/// The endpoints of one port of a Service.
struct Endpoints(BTreeMap<SocketAddrV4, Traits>);

#[derive(Debug, Clone, Copy)]
struct Traits {
    ready: bool,
    serving: bool,
    terminating: bool,
    local: bool,
    /// Whether it is meant for this node, if it says for which.
    for_node: Option<bool>,
    /// Whether it is meant for this zone, if it says for which.
    for_zone: Option<bool>,
}

impl Endpoints {
    fn of(port: &ServicePort, slices: &[Slice], place: Place<'_>) -> Self {
        let mut found = BTreeMap::<SocketAddrV4, Traits>::new();
        let served =
            |slice: &&Slice| slice.address_type == "IPv4" && !slice.metadata.labels.contains_key(HEADLESS);
        for slice in slices.iter().filter(served) {
            let same = slice.ports.iter().filter(|p| p.name == port.name && p.protocol == port.protocol);
            for number in same.filter_map(|p| p.port) {
                for endpoint in &slice.endpoints {
                    let conditions = &endpoint.conditions;
                    let ready = conditions.ready.unwrap_or(true);
                    let traits = Traits {
                        ready,
                        serving: conditions.serving.unwrap_or(ready),
                        terminating: conditions.terminating.unwrap_or(false),
                        local: endpoint.node_name == place.node,
                        for_node: meant(&endpoint.hints.for_nodes, place.node),
                        for_zone: meant(&endpoint.hints.for_zones, place.zone),
                    };
                    let Some(IpAddr::V4(address)) = endpoint.addresses.first() else { continue };
                    let known = found.entry(SocketAddrV4::new(*address, number)).or_insert(traits);
                    // While an endpoint moves between two slices the better news counts.
                    if traits.ready && !known.ready {
                        *known = traits;
                    }
                }
            }
        }
        Self(found)
    }

    /// Those for new connections among the ones that `among` picks: the ready ones, or else those that still serve
    /// while they end.
    fn usable(&self, among: impl Fn(&Traits) -> bool) -> Vec<SocketAddrV4> {
        let pick = |wanted: &dyn Fn(&Traits) -> bool| -> Vec<SocketAddrV4> {
            self.0.iter().filter(|(_, t)| among(t) && wanted(t)).map(|(address, _)| *address).collect()
        };
        let ready = pick(&|t| t.ready);
        if ready.is_empty() { pick(&|t| t.serving && t.terminating) } else { ready }
    }

    /// Those for everybody: the nearest, if every ready one says whom it is meant for and one is meant for us.
    fn cluster(&self) -> Vec<SocketAddrV4> {
        let helps = |hint: &fn(&Traits) -> Option<bool>| {
            let mut ready = self.0.values().filter(|traits| traits.ready).map(hint);
            ready.clone().all(|meant| meant.is_some()) && ready.any(|meant| meant == Some(true))
        };
        let hints: [fn(&Traits) -> Option<bool>; 2] = [|traits| traits.for_node, |traits| traits.for_zone];
        let hint = hints.into_iter().find(helps);
        self.usable(|traits| hint.is_none_or(|hint| !traits.ready || hint(traits) == Some(true)))
    }

    fn local(&self) -> Vec<SocketAddrV4> {
        self.usable(|traits| traits.local)
    }

    fn serving(&self) -> Vec<SocketAddrV4> {
        self.0.iter().filter(|(_, traits)| traits.serving).map(|(address, _)| *address).collect()
    }
}

/// Whether hints name this place; `None` when there are no hints.
fn meant(hints: &[Named], place: &str) -> Option<bool> {
    (!hints.is_empty()).then(|| hints.iter().any(|hint| hint.name == place))
}

#[cfg(test)]
mod tests;
