//! The addresses and node ports of services: which are taken is read from the services themselves, so that no record
//! of it can be wrong. The registry serialises writes of services around it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::ops::RangeInclusive;

use ring::rand::{SecureRandom, SystemRandom};
use serde_json::{Value, json};

use crate::kinds::service::{
    CLUSTER_IPS, balances_locally, has_cluster_ip, has_foreign_endpoints, has_node_ports, is_headless,
};
use edgek_api::field::{ErrorList, Path};
use edgek_apiserver_admission::fields::Fields;

/// Where addresses and ports of services come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceRange {
    /// The network address of the service CIDR.
    pub network: Ipv4Addr,
    /// Its prefix length.
    pub prefix: u8,
    /// The ports of nodes that services may take.
    pub node_ports: RangeInclusive<u16>,
}

impl Default for ServiceRange {
    fn default() -> Self {
        Self { network: Ipv4Addr::new(10, 43, 0, 0), prefix: 16, node_ports: 30000..=32767 }
    }
}

/// What services have already.
#[derive(Debug, Clone, Default)]
pub(crate) struct Taken {
    pub(crate) addresses: BTreeSet<Ipv4Addr>,
    /// Of any protocol, and those for health checks.
    pub(crate) node_ports: BTreeSet<u16>,
}

impl Taken {
    /// Notes what a service has.
    pub(crate) fn add(&mut self, service: &Value) {
        self.addresses.extend(
            service.items("spec.clusterIPs").iter().filter_map(|ip| ip.as_str()?.parse::<Ipv4Addr>().ok()),
        );
        self.node_ports.extend(node_ports(service));
        self.node_ports.extend(health_port(service));
    }
}

/// The node ports of a service that are chosen.
fn node_ports(service: &Value) -> impl Iterator<Item = u16> {
    service.items("spec.ports").iter().filter_map(|port| port_of(port, "nodePort"))
}

/// Where load balancers ask for a service's health.
fn health_port(service: &Value) -> Option<u16> {
    port_of(service, "spec.healthCheckNodePort")
}

fn port_of(value: &Value, field: &str) -> Option<u16> {
    value.number(field).and_then(|number| u16::try_from(number).ok()).filter(|number| *number != 0)
}

impl ServiceRange {
    /// Gives a service the address and node ports it needs and lacks, and checks those it chose itself.
    pub(crate) fn allocate(
        &self,
        service: &mut Value,
        old: Option<&Value>,
        taken: &Taken,
        errors: &mut ErrorList,
    ) {
        if has_cluster_ip(service) {
            let names_others = has_foreign_endpoints(service);
            let spec = service.object_mut("spec");
            if names_others && !spec.has("ipFamilies") {
                spec.default_empty("ipFamilyPolicy", "RequireDualStack");
                if spec.text("ipFamilyPolicy") != "SingleStack" {
                    spec.set("ipFamilies", json!(["IPv4", "IPv6"]));
                }
            }
            spec.default_empty("ipFamilies", json!(["IPv4"]));
            spec.default_empty("ipFamilyPolicy", "SingleStack");
            if !is_headless(service) {
                self.allocate_address(service, old, taken, errors);
            }
        }
        let mut used = taken.node_ports.clone();
        if matches!(service.text("spec.type"), "NodePort" | "LoadBalancer") {
            self.allocate_node_ports(service, old, &mut used, errors);
        }
        if balances_locally(service) {
            self.allocate_health_port(service, old, &used, errors);
        }
    }

    fn allocate_address(
        &self,
        service: &mut Value,
        old: Option<&Value>,
        taken: &Taken,
        errors: &mut ErrorList,
    ) {
        let chosen = service.text("spec.clusterIP").to_owned();
        let listed = service.items("spec.clusterIPs").first();
        if listed.is_some_and(|listed| *listed != chosen) {
            // Validation refuses this.
            return;
        }
        if chosen.is_empty() {
            match self.free_address(taken) {
                Some(address) => {
                    let spec = service.object_mut("spec");
                    spec.set("clusterIP", address.to_string());
                    spec.set("clusterIPs", json!([address.to_string()]));
                }
                None => errors.invalid(&CLUSTER_IPS, Value::Null, "failed to allocate IP: range is full"),
            }
            return;
        }
        if old.is_some_and(|old| old.text("spec.clusterIP") == chosen) {
            return;
        }
        let problem = match chosen.parse::<Ipv4Addr>() {
            Err(_) => {
                let path = CLUSTER_IPS.index(0);
                return errors.invalid(
                    &path,
                    chosen,
                    "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
                );
            }
            Ok(address) if !self.contains(address) => {
                "the provided network does not match the current range".to_owned()
            }
            Ok(address) if taken.addresses.contains(&address) => {
                "provided IP is already allocated".to_owned()
            }
            Ok(_) => return,
        };
        errors.invalid(
            &CLUSTER_IPS,
            service.at("spec.clusterIPs").clone(),
            &format!("failed to allocate IP {chosen}: {problem}"),
        );
    }

    /// Ports of the same number and different protocols share a node port.
    fn allocate_node_ports(
        &self,
        service: &mut Value,
        old: Option<&Value>,
        used: &mut BTreeSet<u16>,
        errors: &mut ErrorList,
    ) {
        let list = Path::Root("spec.ports");
        let gives_out = has_node_ports(service);
        let mut own: BTreeSet<u16> = old.into_iter().flat_map(node_ports).collect();
        let chosen = service.items("spec.ports").iter();
        let mut shared: BTreeMap<(i64, String), u16> = BTreeMap::new();
        let chosen: Vec<_> =
            chosen.filter_map(|port| Some((target(port), port_of(port, "nodePort")?))).collect();
        for (index, port) in service.object_mut("spec").items_mut("ports").enumerate() {
            let path = list.index(index);
            let path = path.field("nodePort");
            let wanted = port.number("nodePort").unwrap_or_default();
            if wanted != 0 {
                self.check_node_port(wanted, &mut own, used, &path, errors);
                continue;
            }
            if !gives_out {
                continue;
            }
            let number = target(port);
            let protocol = port.text("protocol").to_owned();
            let of_others = shared.iter().filter(|((other, of), _)| *other == number && *of != protocol);
            let of_others = of_others.map(|(_, node_port)| *node_port);
            let by_hand =
                chosen.iter().filter(|(other, _)| *other == number).map(|(_, node_port)| *node_port);
            match of_others.chain(by_hand).next().or_else(|| self.free_node_port(used)) {
                Some(node_port) => {
                    shared.insert((number, protocol), node_port);
                    used.insert(node_port);
                    own.insert(node_port);
                    port.set("nodePort", node_port);
                }
                None => errors.invalid(&path, 0, "failed to allocate a nodePort: range is full"),
            }
        }
    }

    /// A port that the service has chosen must be in the range, and its own or nobody's.
    fn check_node_port(
        &self,
        wanted: i64,
        own: &mut BTreeSet<u16>,
        used: &mut BTreeSet<u16>,
        path: &Path<'_>,
        errors: &mut ErrorList,
    ) {
        let Some(port) =
            u16::try_from(wanted).ok().filter(|port| own.contains(port) || self.node_ports.contains(port))
        else {
            let range = format!("{}-{}", self.node_ports.start(), self.node_ports.end());
            let text = "provided port is not in the valid range. The range of valid ports is";
            return errors.invalid(path, wanted, &format!("{text} {range}"));
        };
        if own.insert(port) && !used.insert(port) {
            errors.invalid(path, wanted, "provided port is already allocated");
        }
    }

    fn allocate_health_port(
        &self,
        service: &mut Value,
        old: Option<&Value>,
        used: &BTreeSet<u16>,
        errors: &mut ErrorList,
    ) {
        let path = Path::Root("spec.healthCheckNodePort");
        let before = old.and_then(health_port);
        match health_port(service) {
            None => match self.free_node_port(used) {
                Some(port) => service.object_mut("spec").set("healthCheckNodePort", port),
                None => errors.invalid(&path, 0, "failed to allocate a HealthCheck NodePort: range is full"),
            },
            port if port == before => {}
            Some(port) => {
                self.check_node_port(port.into(), &mut BTreeSet::new(), &mut used.clone(), &path, errors)
            }
        }
    }

    fn size(&self) -> u32 {
        1u32.checked_shl(32 - u32::from(self.prefix)).unwrap_or(u32::MAX)
    }

    fn contains(&self, address: Ipv4Addr) -> bool {
        let offset = u32::from(address).wrapping_sub(u32::from(self.network));
        // Neither the network's own address nor the broadcast address.
        offset > 0 && offset < self.size() - 1
    }

    /// A free address, from above the band that upstream leaves to addresses chosen by hand while there are any.
    fn free_address(&self, taken: &Taken) -> Option<Ipv4Addr> {
        let last = self.size().checked_sub(2)?;
        let band = (last / 16).clamp(16, 256).min(last / 2);
        let dynamic = band + 1..=last;
        let start = random_below(last - band);
        let candidates = dynamic.clone().skip(usize::try_from(start).ok()?).chain(dynamic).chain(1..=band);
        candidates
            .map(|offset| Ipv4Addr::from(u32::from(self.network) + offset))
            .find(|address| !taken.addresses.contains(address))
    }

    /// A free port, from above the band that upstream leaves to ports chosen by hand while there are any.
    fn free_node_port(&self, used: &BTreeSet<u16>) -> Option<u16> {
        let (first, last) = (*self.node_ports.start(), *self.node_ports.end());
        let size = u32::from(last - first) + 1;
        let band = if size <= 16 { 0 } else { (size / 32).clamp(16, 128) };
        let dynamic = band..size;
        let start = band + random_below(size - band);
        let candidates = (start..size).chain(dynamic).chain(0..band);
        candidates
            .filter_map(|offset| u16::try_from(u32::from(first) + offset).ok())
            .find(|port| !used.contains(port))
    }
}

/// The number under which a port of a service is known inside the cluster.
fn target(port: &Value) -> i64 {
    port.number("port").unwrap_or_default()
}

fn random_below(bound: u32) -> u32 {
    let mut bytes = [0; 4];
    SystemRandom::new().fill(&mut bytes).expect("the system's random generator works");
    u32::from_le_bytes(bytes) % bound.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range() -> ServiceRange {
        ServiceRange { network: Ipv4Addr::new(10, 0, 0, 0), prefix: 29, node_ports: 30000..=30001 }
    }

    fn check(service: Value, taken: &Taken) -> Result<Value, String> {
        let mut service = service;
        let mut errors = ErrorList::default();
        range().allocate(&mut service, None, taken, &mut errors);
        match errors.0.first() {
            None => Ok(service),
            Some(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn every_address_is_given_once() {
        let mut taken = Taken::default();
        for _ in 0..6 {
            let service = check(json!({"spec": {"type": "ClusterIP"}}), &taken).unwrap();
            let before = taken.addresses.len();
            taken.add(&service);
            assert_eq!(taken.addresses.len(), before + 1);
        }
        assert_eq!(
            check(json!({"spec": {"type": "ClusterIP"}}), &taken).unwrap_err(),
            "spec.clusterIPs: Invalid value: null: failed to allocate IP: range is full"
        );
    }

    #[test]
    fn an_address_chosen_by_hand_is_checked() {
        let ask = |ip: &str| json!({"spec": {"type": "ClusterIP", "clusterIP": ip, "clusterIPs": [ip]}});
        let mut taken = Taken::default();
        taken.add(&ask("10.0.0.2"));
        assert!(check(ask("10.0.0.3"), &taken).is_ok());
        assert_eq!(
            check(ask("10.0.0.2"), &taken).unwrap_err(),
            r#"spec.clusterIPs: Invalid value: ["10.0.0.2"]: failed to allocate IP 10.0.0.2: provided IP is already allocated"#
        );
        assert_eq!(
            check(ask("10.1.0.2"), &taken).unwrap_err(),
            r#"spec.clusterIPs: Invalid value: ["10.1.0.2"]: failed to allocate IP 10.1.0.2: the provided network does not match the current range"#
        );
    }

    fn node_port(ports: &Value) -> Value {
        json!({"spec": {"type": "NodePort", "ports": ports}})
    }

    fn node_ports_of(service: &Value) -> Vec<u16> {
        node_ports(service).collect()
    }

    #[test]
    fn node_ports_are_unique_and_in_range_and_shared_between_protocols() {
        let mut taken = Taken::default();
        let both = json!([{"port": 80, "protocol": "TCP"}, {"port": 80, "protocol": "UDP"}]);
        let service = check(node_port(&both), &taken).unwrap();
        let ports = node_ports_of(&service);
        assert_eq!(ports[0], ports[1]);
        taken.add(&service);
        let refused = |port: u16, protocol: &str| {
            let port = json!([{"port": 80, "protocol": protocol, "nodePort": port}]);
            check(node_port(&port), &taken).unwrap_err()
        };
        let already = format!(
            "spec.ports[0].nodePort: Invalid value: {}: provided port is already allocated",
            ports[0]
        );
        assert_eq!((refused(ports[0], "TCP"), refused(ports[0], "UDP")), (already.clone(), already));
        assert_eq!(
            refused(80, "TCP"),
            "spec.ports[0].nodePort: Invalid value: 80: provided port is not in the valid range. The range of valid ports is 30000-30001"
        );
        let half =
            json!([{"port": 80, "protocol": "TCP"}, {"port": 80, "protocol": "UDP", "nodePort": 30001}]);
        assert_eq!(node_ports_of(&check(node_port(&half), &Taken::default()).unwrap()), [30001, 30001]);
    }

    #[test]
    fn a_balancer_that_asks_nodes_for_their_health_has_a_port_for_that() {
        let balancer = |health: u16| {
            let port = json!({"port": 80, "protocol": "TCP", "nodePort": 30000});
            json!({"spec": {"type": "LoadBalancer", "externalTrafficPolicy": "Local", "healthCheckNodePort": health, "ports": [port]}})
        };
        let service = check(balancer(0), &Taken::default()).unwrap();
        assert_eq!(health_port(&service), Some(30001));
        let mut taken = Taken::default();
        taken.add(&service);
        assert_eq!(taken.node_ports, BTreeSet::from([30000, 30001]));
        let mut kept = service.clone();
        let mut errors = ErrorList::default();
        range().allocate(&mut kept, Some(&service), &Taken::default(), &mut errors);
        assert_eq!((kept, errors.0.len()), (service, 0));
        let other = BTreeSet::from([30001]);
        let text = check(balancer(30001), &Taken { node_ports: other, ..Taken::default() }).unwrap_err();
        assert_eq!(
            text,
            "spec.healthCheckNodePort: Invalid value: 30001: provided port is already allocated"
        );
    }

    #[test]
    fn ports_by_hand_are_left_alone_while_there_are_others() {
        let wide = ServiceRange { node_ports: 30000..=30031, ..range() };
        let mut used: BTreeSet<u16> = BTreeSet::new();
        for _ in 0..16 {
            let port = wide.free_node_port(&used).unwrap();
            assert!(port >= 30016, "{port}");
            used.insert(port);
        }
        assert!(wide.free_node_port(&used).unwrap() < 30016);
    }
}
