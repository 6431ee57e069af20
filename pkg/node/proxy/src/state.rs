//! What all Services together ask for, and what a change of some of them adds and removes.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddrV4};

use edgek_control_runtime::Key;

use crate::elements::{self, Elements};
use crate::rules::{Backend, Frontend};
use crate::view::Protocol;

/// The frontends of all Services.
#[derive(Debug, Default)]
pub(crate) struct State {
    /// Who wants which frontend; the first by name gets it.
    pub(crate) claims: BTreeMap<(Frontend, Key), Backend>,
    services: BTreeMap<Key, Vec<Frontend>>,
    /// How many endpoints have an address.
    hairpins: BTreeMap<Ipv4Addr, usize>,
}

/// What is to be done in the kernel, in this order.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) remove: Elements,
    pub(crate) add: Elements,
    /// UDP frontends and the endpoints that their flows may lead to.
    pub(crate) flows: BTreeMap<Frontend, Vec<SocketAddrV4>>,
}

impl State {
    /// The Services' frontends are now these.
    pub(crate) fn set(&mut self, services: BTreeMap<Key, BTreeMap<Frontend, Backend>>) -> Change {
        let mut affected = BTreeSet::new();
        for (service, frontends) in &services {
            affected.extend(self.services.get(service).into_iter().flatten().copied());
            affected.extend(frontends.keys().copied());
        }
        let before = self.elements(&affected);
        let hairpins = self.endpoints(&affected);
        for (service, frontends) in services {
            self.replace(&service, frontends);
        }
        let mut change = diff(&before, self.elements(&affected));
        self.count_hairpins(&hairpins, &self.endpoints(&affected), &mut change);
        let udp = affected.into_iter().filter(|frontend| frontend.protocol == Protocol::Udp);
        change.flows = udp.filter_map(|f| Some((f, self.backend(f)?.serving.clone()))).collect();
        change
    }

    /// Everything there is.
    pub(crate) fn all(&self) -> Change {
        let frontends: BTreeSet<Frontend> = self.claims.keys().map(|(frontend, _)| *frontend).collect();
        let mut add = self.elements(&frontends);
        self.hairpins.keys().for_each(|address| elements::add_hairpin(&mut add, *address));
        let udp = frontends.into_iter().filter(|frontend| frontend.protocol == Protocol::Udp);
        let flows = udp.filter_map(|f| Some((f, self.backend(f)?.serving.clone()))).collect();
        Change { remove: Elements::new(), add, flows }
    }

    fn replace(&mut self, service: &Key, frontends: BTreeMap<Frontend, Backend>) {
        for old in self.services.remove(service).into_iter().flatten() {
            self.claims.remove(&(old, service.clone()));
        }
        if frontends.is_empty() {
            return;
        }
        self.services.insert(service.clone(), frontends.keys().copied().collect());
        self.claims.extend(frontends.into_iter().map(|(f, backend)| ((f, service.clone()), backend)));
    }

    fn backend(&self, frontend: Frontend) -> Option<&Backend> {
        let (claim, backend) = self.claims.range((frontend, Key::default())..).next()?;
        (claim.0 == frontend).then_some(backend)
    }

    fn elements(&self, frontends: &BTreeSet<Frontend>) -> Elements {
        let mut all = Elements::new();
        for frontend in frontends {
            if let Some(backend) = self.backend(*frontend) {
                elements::add(&mut all, *frontend, backend);
            }
        }
        all
    }

    /// The address of every endpoint, as often as a frontend leads to it.
    fn endpoints(&self, frontends: &BTreeSet<Frontend>) -> Vec<Ipv4Addr> {
        let backends = frontends.iter().filter_map(|frontend| self.backend(*frontend));
        let endpoints = backends.flat_map(|b| b.endpoints.iter().chain(b.inside.iter().flatten()));
        endpoints.map(|endpoint| *endpoint.ip()).collect()
    }

    fn count_hairpins(&mut self, before: &[Ipv4Addr], after: &[Ipv4Addr], change: &mut Change) {
        let touched: BTreeSet<Ipv4Addr> = before.iter().chain(after).copied().collect();
        let known: BTreeSet<Ipv4Addr> =
            touched.iter().copied().filter(|address| self.hairpins.contains_key(address)).collect();
        for address in after {
            *self.hairpins.entry(*address).or_default() += 1;
        }
        for address in before {
            if let Some(count) = self.hairpins.get_mut(address) {
                *count -= 1;
                if *count == 0 {
                    self.hairpins.remove(address);
                }
            }
        }
        for address in touched {
            match (known.contains(&address), self.hairpins.contains_key(&address)) {
                (true, false) => elements::add_hairpin(&mut change.remove, address),
                (false, true) => elements::add_hairpin(&mut change.add, address),
                _ => {}
            }
        }
    }
}

/// What differs. An element with another value is removed and added.
fn diff(before: &Elements, after: Elements) -> Change {
    let remove = before.iter().filter(|(key, value)| after.get(*key) != Some(value));
    let remove = remove.map(|(key, value)| (key.clone(), value.clone())).collect();
    let add = after.into_iter().filter(|(key, value)| before.get(key) != Some(value)).collect();
    Change { remove, add, flows: BTreeMap::new() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::elements::{Set, Value};
    use crate::rules::Masquerade;

    /// What changes when this Service leads a port of 192.0.2.9 to one endpoint; without one it is gone.
    fn set(state: &mut State, service: &str, port: u16, endpoint: Option<&str>) -> Change {
        let frontend = Frontend { address: Ipv4Addr::new(192, 0, 2, 9), protocol: Protocol::Tcp, port };
        let backend = |endpoint: &str| Backend {
            endpoints: vec![endpoint.parse().unwrap()],
            inside: None,
            serving: Vec::new(),
            elsewhere: false,
            masquerade: Masquerade::Everyone,
            affinity: None,
            sources: Vec::new(),
        };
        let frontends = endpoint.map(|endpoint| (frontend, backend(endpoint))).into_iter().collect();
        state.set([(Key::new("a", service), frontends)].into())
    }

    /// The last bytes of the endpoints' addresses.
    fn endpoints(elements: &Elements) -> Vec<u8> {
        let addresses = elements.values().filter_map(|value| match value {
            Value::Address(address) => Some(address[3]),
            _ => None,
        });
        addresses.collect()
    }

    fn hairpins(elements: &Elements) -> usize {
        elements.keys().filter(|(set, _)| *set == Set::Hairpins).count()
    }

    #[test]
    fn of_services_that_want_the_same_address_and_port_the_first_by_name_gets_it() {
        let mut state = State::default();
        assert_eq!(endpoints(&set(&mut state, "b", 80, Some("10.42.0.2:80")).add), [2]);
        assert_eq!(endpoints(&set(&mut state, "a", 80, Some("10.42.0.1:80")).add), [1]);
        assert_eq!(endpoints(&set(&mut state, "c", 80, Some("10.42.0.3:80")).add), [0; 0]);
        assert_eq!(endpoints(&state.all().add), [1]);
        assert_eq!(endpoints(&set(&mut state, "a", 80, None).add), [2]);
    }

    #[test]
    fn a_pod_reaches_itself_as_long_as_a_service_leads_to_it() {
        let mut state = State::default();
        let mut change = |service, port, endpoint| {
            let change = set(&mut state, service, port, endpoint);
            (hairpins(&change.add), hairpins(&change.remove))
        };
        assert_eq!(change("a", 80, Some("10.42.0.1:80")), (1, 0));
        assert_eq!(change("b", 81, Some("10.42.0.1:80")), (0, 0));
        assert_eq!(change("a", 80, None), (0, 0));
        assert_eq!(change("b", 81, None), (0, 1));
    }
}
