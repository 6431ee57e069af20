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
