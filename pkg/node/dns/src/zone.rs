//! `Zone`: the names of the cluster and what they stand for (Kubernetes DNS specification 1.1.0; where it is silent
//! the answers are CoreDNS's). It is kept up to date object by object and answers from memory.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::object::{Endpoint, Namespaced, Service};
use crate::wire::{self, Data, Owner, Record};

/// How long an answer is good, in seconds, as CoreDNS has it.
pub(crate) const TTL: u32 = 5;
const VERSION: &str = "1.1.0";

/// What the cluster says of a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Records; none when the name has no records of that type.
    Records { answers: Vec<Record>, additional: Vec<Record> },
    /// The name is another one's alias.
    Alias(String),
    /// There is no such name.
    NoName,
    /// The name is not of this cluster.
    Foreign,
}

impl Answer {
    fn records(answers: Vec<Record>) -> Self {
        Self::Records { answers, additional: Vec::new() }
    }

    fn nothing() -> Self {
        Self::records(Vec::new())
    }
}

/// The addresses of a range, whose reverse names belong to the cluster.
pub(crate) type Range = (Ipv4Addr, u8);

/// The names of the cluster.
#[derive(Debug)]
pub(crate) struct Zone {
    domain: String,
    /// Where this zone is served.
    address: IpAddr,
    ranges: Vec<Range>,
    namespaces: HashMap<Box<str>, Namespace>,
    serial: u32,
}

#[derive(Debug, Default)]
struct Namespace {
    exists: bool,
    services: HashMap<Box<str>, Entry>,
}

#[derive(Debug, Default)]
struct Entry {
    service: Option<Service>,
    /// The endpoints of each slice.
    slices: HashMap<Box<str>, Vec<Endpoint>>,
}

impl Entry {
    fn endpoints(&self) -> impl Iterator<Item = &Endpoint> {
        self.slices.values().flatten()
    }
}

impl Zone {
    pub(crate) fn new(domain: &str, address: IpAddr, ranges: Vec<Range>) -> Self {
        let domain = domain.trim_end_matches('.').to_ascii_lowercase();
        Self { domain, address, ranges, namespaces: HashMap::new(), serial: 1 }
    }

    pub(crate) fn set_namespace(&mut self, name: &str, exists: bool) {
        self.change(name, |namespace| namespace.exists = exists);
    }

    pub(crate) fn set_service(&mut self, at: &Namespaced<'_>, service: Option<Service>) {
        self.change_entry(at, |entry| entry.service = service);
    }

    /// The endpoints of a service that one of its slices holds; `None` when the slice is gone.
    pub(crate) fn set_slice(&mut self, at: &Namespaced<'_>, slice: &str, endpoints: Option<Vec<Endpoint>>) {
        self.change_entry(at, |entry| match endpoints {
            Some(endpoints) => drop(entry.slices.insert(slice.into(), endpoints)),
            None => drop(entry.slices.remove(slice)),
        });
    }

    fn change(&mut self, name: &str, change: impl FnOnce(&mut Namespace)) {
        let namespace = self.namespaces.entry(name.into()).or_default();
        change(namespace);
        if !namespace.exists && namespace.services.is_empty() {
            self.namespaces.remove(name);
        }
        self.serial = self.serial.wrapping_add(1);
    }

    fn change_entry(&mut self, at: &Namespaced<'_>, change: impl FnOnce(&mut Entry)) {
        self.change(at.namespace, |namespace| {
            let entry = namespace.services.entry(at.name.into()).or_default();
            change(entry);
            if entry.service.is_none() && entry.slices.is_empty() {
                namespace.services.remove(at.name);
            }
        });
    }

    /// What a name (lower case, without a final dot) stands for.
    pub(crate) fn answer(&self, name: &str, kind: u16) -> Answer {
        if let Some(reverse) = name.strip_suffix(".in-addr.arpa") {
            return reverse_v4(reverse).map_or(Answer::Foreign, |ip| self.reverse(ip.into(), kind));
        }
        if let Some(reverse) = name.strip_suffix(".ip6.arpa") {
            return reverse_v6(reverse).map_or(Answer::Foreign, |ip| self.reverse(ip.into(), kind));
        }
        if name == self.domain {
            return self.apex(kind);
        }
        match name.strip_suffix(&*self.domain).and_then(|name| name.strip_suffix('.')) {
            Some(name) => self.inside(name, kind),
            None => Answer::Foreign,
        }
    }

    /// Whose absence an answer tells.
    pub(crate) fn authority(&self) -> Record {
        let data = Data::Authority {
            server: self.name_server(),
            mailbox: format!("hostmaster.{}", self.domain),
            serial: self.serial,
            negative_ttl: TTL,
        };
        Record { owner: Owner::Name(self.domain.clone()), ttl: TTL, data }
    }

    fn name_server(&self) -> String {
        format!("ns.dns.{}", self.domain)
    }

    fn apex(&self, kind: u16) -> Answer {
        match kind {
            wire::SOA => Answer::records(vec![Record { owner: Owner::Question, ..self.authority() }]),
            wire::NS => {
                let server = self.name_server();
                let additional = vec![named(&server, Data::Address(self.address))];
                Answer::Records { answers: vec![own(Data::Server(server))], additional }
            }
            _ => Answer::nothing(),
        }
    }

    /// A name below the domain.
    fn inside(&self, name: &str, kind: u16) -> Answer {
        match name {
            "dns-version" if kind == wire::TXT => return Answer::records(vec![own(Data::Text(VERSION))]),
            "svc" | "pod" | "dns" | "dns-version" => return Answer::nothing(),
            "ns.dns" => return addresses(std::iter::once(self.address), kind),
            _ => {}
        }
        if let Some(name) = name.strip_suffix(".pod") {
            return self.pod(name, kind);
        }
        match name.strip_suffix(".svc") {
            Some(name) => self.service(name, kind),
            None => Answer::NoName,
        }
    }

    /// `10-42-0-7.namespace`: the address that the name itself says, whether a pod has it or not.
    fn pod(&self, name: &str, kind: u16) -> Answer {
        let (ip, namespace) = name.rsplit_once('.').map_or((None, name), |(ip, rest)| (Some(ip), rest));
        if !self.namespaces.get(namespace).is_some_and(|namespace| namespace.exists) {
            return Answer::NoName;
        }
        let Some(ip) = ip else { return Answer::nothing() };
        let parsed = ip.replace('-', ".").parse::<Ipv4Addr>().map(IpAddr::from);
        let parsed = parsed.or_else(|_| ip.replace('-', ":").parse::<Ipv6Addr>().map(IpAddr::from));
        parsed.map_or(Answer::NoName, |ip| addresses(std::iter::once(ip), kind))
    }

    /// `service.namespace`, with an endpoint or a port and its protocol before it.
    fn service(&self, name: &str, kind: u16) -> Answer {
        let mut labels = name.rsplit('.');
        let namespace = labels.next().and_then(|label| self.namespaces.get(label));
        let Some(namespace) = namespace.filter(|namespace| namespace.exists) else { return Answer::NoName };
        let Some(label) = labels.next() else { return Answer::nothing() };
        let Some(entry) = namespace.services.get(label) else { return Answer::NoName };
        let Some(service) = &entry.service else { return Answer::NoName };
        let host = format!("{}.{}", &name[name.len() - owner_length(name)..], self.svc());
        if let Some(external) = &service.external_name {
            return if labels.next().is_none() { Answer::Alias(external.clone()) } else { Answer::NoName };
        }
        match (labels.next(), labels.next(), labels.next()) {
            (None, ..) if kind == wire::SRV => ports(entry, service, &host, None),
            (None, ..) if service.is_headless() => self.headless(entry, kind),
            (None, ..) => addresses(service.cluster_ips.iter().copied(), kind),
            (Some(protocol), None, _) if protocol.starts_with('_') => {
                let protocol = &protocol[1..];
                let known =
                    all_ports(entry, service).any(|port| port.protocol.eq_ignore_ascii_case(protocol));
                if known { Answer::nothing() } else { Answer::NoName }
            }
            (Some(endpoint), None, _) => one_endpoint(entry, endpoint, kind),
            (Some(protocol), Some(port), None) => {
                let (Some(protocol), Some(port)) = (protocol.strip_prefix('_'), port.strip_prefix('_'))
                else {
                    return Answer::NoName;
                };
                let known = all_ports(entry, service)
                    .any(|it| it.protocol.eq_ignore_ascii_case(protocol) && &*it.name == port);
                match (known, kind) {
                    (false, _) => Answer::NoName,
                    (true, wire::SRV) => ports(entry, service, &host, Some((port, protocol))),
                    (true, _) => Answer::nothing(),
                }
            }
            _ => Answer::NoName,
        }
    }

    fn svc(&self) -> String {
        format!("svc.{}", self.domain)
    }

    /// A headless service without endpoints is a name that does not exist, as CoreDNS has it.
    fn headless(&self, entry: &Entry, kind: u16) -> Answer {
        if entry.endpoints().next().is_none() {
            return Answer::NoName;
        }
        addresses(entry.endpoints().map(|endpoint| endpoint.ip), kind)
    }

    fn reverse(&self, ip: IpAddr, kind: u16) -> Answer {
        let svc = self.svc();
        let mut names = Vec::new();
        for (namespace, name, entry) in self.entries() {
            let is_own = |service: &Service| service.cluster_ips.contains(&ip);
            if entry.service.as_ref().is_some_and(is_own) {
                names = vec![format!("{name}.{namespace}.{svc}")];
                break;
            }
            for endpoint in entry.endpoints().filter(|endpoint| endpoint.ip == ip && entry.service.is_some())
            {
                names.push(format!("{}.{name}.{namespace}.{svc}", endpoint.label()));
            }
        }
        names.sort();
        match kind {
            _ if names.is_empty() && self.is_own(ip) => Answer::NoName,
            _ if names.is_empty() => Answer::Foreign,
            wire::PTR => Answer::records(names.into_iter().map(|name| own(Data::Pointer(name))).collect()),
            _ => Answer::nothing(),
        }
    }

    fn entries(&self) -> impl Iterator<Item = (&str, &str, &Entry)> {
        let existing = self.namespaces.iter().filter(|(_, namespace)| namespace.exists);
        existing.flat_map(|(namespace, of)| {
            of.services.iter().map(move |(name, entry)| (&**namespace, &**name, entry))
        })
    }

    /// Whether nobody else can know a name for an address.
    fn is_own(&self, ip: IpAddr) -> bool {
        let IpAddr::V4(ip) = ip else { return false };
        self.ranges.iter().any(|(network, prefix)| {
            let mask = u32::MAX.checked_shl(32 - u32::from(*prefix)).unwrap_or(0);
            u32::from(ip) & mask == u32::from(*network)
        })
    }
}

/// How many bytes the last two labels of a name have.
fn owner_length(name: &str) -> usize {
    name.rsplit('.').take(2).map(|label| label.len() + 1).sum::<usize>() - 1
}

fn own(data: Data) -> Record {
    Record { owner: Owner::Question, ttl: TTL, data }
}

fn named(name: &str, data: Data) -> Record {
    Record { owner: Owner::Name(name.to_owned()), ttl: TTL, data }
}

/// The addresses of the family that was asked for, each once.
fn addresses(ips: impl Iterator<Item = IpAddr>, kind: u16) -> Answer {
    let mut ips: Vec<IpAddr> = ips
        .filter(|ip| match kind {
            wire::A => ip.is_ipv4(),
            wire::AAAA => ip.is_ipv6(),
            _ => false,
        })
        .collect();
    ips.sort();
    ips.dedup();
    Answer::records(ips.into_iter().map(|ip| own(Data::Address(ip))).collect())
}

fn one_endpoint(entry: &Entry, label: &str, kind: u16) -> Answer {
    let ips: Vec<IpAddr> =
        entry.endpoints().filter(|endpoint| endpoint.label() == label).map(|endpoint| endpoint.ip).collect();
    if ips.is_empty() { Answer::NoName } else { addresses(ips.into_iter(), kind) }
}

fn all_ports<'a>(entry: &'a Entry, service: &'a Service) -> impl Iterator<Item = &'a crate::object::Port> {
    let of_endpoints = entry.endpoints().filter(|_| service.is_headless());
    service.ports.iter().chain(of_endpoints.flat_map(|endpoint| endpoint.ports.iter()))
}

/// The ports of a service, or those of one name and protocol: at the service, or at each endpoint of a headless one.
fn ports(entry: &Entry, service: &Service, host: &str, only: Option<(&str, &str)>) -> Answer {
    let wanted = |port: &crate::object::Port| {
        only.is_none_or(|(name, protocol)| {
            &*port.name == name && port.protocol.eq_ignore_ascii_case(protocol)
        })
    };
    let mut offers: Vec<(u16, String, Vec<IpAddr>)> = Vec::new();
    if service.is_headless() {
        for endpoint in entry.endpoints() {
            let target = format!("{}.{host}", endpoint.label());
            for port in endpoint.ports.iter().filter(|port| wanted(port)) {
                offers.push((port.number, target.clone(), vec![endpoint.ip]));
            }
        }
    } else {
        let ports = service.ports.iter().filter(|port| wanted(port));
        offers.extend(ports.map(|port| (port.number, host.to_owned(), service.cluster_ips.clone())));
    }
    offers.sort();
    offers.dedup();
    if offers.is_empty() && service.is_headless() && entry.endpoints().next().is_none() {
        return Answer::NoName;
    }
    let weight = 100 / u16::try_from(offers.len().max(1)).unwrap_or(u16::MAX);
    let weight = weight.max(1);
    let (mut answers, mut additional) = (Vec::new(), Vec::new());
    for (port, target, ips) in offers {
        for ip in ips {
            let record = named(&target, Data::Address(ip));
            if !additional.contains(&record) {
                additional.push(record);
            }
        }
        answers.push(own(Data::Service { port, weight, target }));
    }
    Answer::Records { answers, additional }
}

/// The address of `7.0.42.10`.
fn reverse_v4(labels: &str) -> Option<Ipv4Addr> {
    let mut octets = [0; 4];
    let mut labels = labels.rsplit('.');
    for octet in &mut octets {
        *octet = labels.next()?.parse().ok()?;
    }
    labels.next().is_none().then(|| Ipv4Addr::from(octets))
}

/// The address of 32 hexadecimal digits in reverse.
fn reverse_v6(labels: &str) -> Option<Ipv6Addr> {
    let mut number: u128 = 0;
    let mut count = 0;
    for label in labels.rsplit('.') {
        let digit = u8::from_str_radix(label, 16).ok().filter(|_| label.len() == 1)?;
        number = number << 4 | u128::from(digit);
        count += 1;
    }
    (count == 32).then(|| Ipv6Addr::from(number))
}
