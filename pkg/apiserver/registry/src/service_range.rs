//! The addresses and node ports of services: which are taken is read from the services themselves, so that no record
//! of it can be wrong. The registry serialises writes of services around it.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::ops::RangeInclusive;

use ring::rand::{SecureRandom, SystemRandom};
use serde_json::{Value, json};

use crate::kinds::service::{
    CLUSTER_IPS, has_cluster_ip, has_foreign_endpoints, has_node_ports, is_headless,
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
    /// Protocol and port.
    pub(crate) node_ports: BTreeSet<(String, u16)>,
}

impl Taken {
    /// Notes what a service has.
    pub(crate) fn add(&mut self, service: &Value) {
        self.addresses.extend(
            service.items("spec.clusterIPs").iter().filter_map(|ip| ip.as_str()?.parse::<Ipv4Addr>().ok()),
        );
        for port in service.items("spec.ports") {
            if let Some(number) = port
                .number("nodePort")
                .and_then(|number| u16::try_from(number).ok())
                .filter(|number| *number != 0)
            {
                self.node_ports.insert((port.text("protocol").to_owned(), number));
            }
        }
    }
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
        if has_node_ports(service) {
            self.allocate_node_ports(service, old, taken, errors);
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

    fn allocate_node_ports(
        &self,
        service: &mut Value,
        old: Option<&Value>,
        taken: &Taken,
        errors: &mut ErrorList,
    ) {
        let mut used = taken.node_ports.clone();
        let own: BTreeSet<i64> = old
            .into_iter()
            .flat_map(|old| old.items("spec.ports"))
            .filter_map(|port| port.number("nodePort"))
            .collect();
        let spec = Path::Root("spec");
        let list = spec.field("ports");
        let mut same_number: std::collections::BTreeMap<i64, u16> = std::collections::BTreeMap::new();
        for (index, port) in service.object_mut("spec").items_mut("ports").enumerate() {
            let path = list.index(index);
            let path = path.field("nodePort");
            let protocol = port.text("protocol").to_owned();
            let target = port.number("port").unwrap_or_default();
            match port.number("nodePort").unwrap_or_default() {
                0 => {
                    // The same port of two protocols gets the same node port, as upstream does.
                    let shared = same_number
                        .get(&target)
                        .copied()
                        .filter(|number| !used.contains(&(protocol.clone(), *number)));
                    match shared.or_else(|| self.free_node_port(&protocol, &used)) {
                        Some(number) => {
                            same_number.insert(target, number);
                            used.insert((protocol, number));
                            port.set("nodePort", number);
                        }
                        None => errors.invalid(&path, 0, "failed to allocate a nodePort: range is full"),
                    }
                }
                number if own.contains(&number) => {}
                number => {
                    match u16::try_from(number).ok().filter(|number| self.node_ports.contains(number)) {
                        None => {
                            let range = format!("{}-{}", self.node_ports.start(), self.node_ports.end());
                            errors.invalid(&path, number, &format!("provided port is not in the valid range. The range of valid ports is {range}"));
                        }
                        Some(chosen) if !used.insert((protocol, chosen)) => {
                            errors.invalid(&path, number, "provided port is already allocated");
                        }
                        Some(_) => {}
                    }
                }
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

    fn free_node_port(&self, protocol: &str, used: &BTreeSet<(String, u16)>) -> Option<u16> {
        let (first, last) = (*self.node_ports.start(), *self.node_ports.end());
        let start = u16::try_from(random_below(u32::from(last - first) + 1)).ok()?;
        (first + start..=last).chain(first..=last).find(|port| !used.contains(&(protocol.to_owned(), *port)))
    }
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

    #[test]
    fn node_ports_are_unique_per_protocol_and_in_range() {
        let mut taken = Taken::default();
        let service = check(json!({"spec": {"type": "NodePort", "ports": [{"port": 80, "protocol": "TCP"}, {"port": 80, "protocol": "UDP"}]}}), &taken).unwrap();
        let ports = service.items("spec.ports");
        assert_eq!(ports[0].number("nodePort"), ports[1].number("nodePort"));
        taken.add(&service);
        let taken_port = ports[0].number("nodePort").unwrap();
        let again = json!({"spec": {"type": "NodePort", "ports": [{"port": 80, "protocol": "TCP", "nodePort": taken_port}]}});
        assert_eq!(
            check(again, &taken).unwrap_err(),
            format!(
                "spec.ports[0].nodePort: Invalid value: {taken_port}: provided port is already allocated"
            )
        );
        let outside =
            json!({"spec": {"type": "NodePort", "ports": [{"port": 80, "protocol": "TCP", "nodePort": 80}]}});
        assert_eq!(
            check(outside, &taken).unwrap_err(),
            "spec.ports[0].nodePort: Invalid value: 80: provided port is not in the valid range. The range of valid ports is 30000-30001"
        );
    }
}
