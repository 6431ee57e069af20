//! The subsets of Endpoints: which addresses offer which ports, in one canonical form (upstream:
//! `api/v1/endpoints/util.go`).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// How many addresses Endpoints hold.
pub(super) const CAPACITY: usize = 1000;

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Subset {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) addresses: Vec<Address>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) not_ready_addresses: Vec<Address>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) ports: Vec<Port>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Address {
    pub(crate) ip: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) hostname: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) node_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) target_ref: Option<Value>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Port {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) name: String,
    pub(crate) port: i32,
    pub(crate) protocol: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) app_protocol: Option<String>,
}

/// The same address of another object is another one; the target's uid tells them apart.
type Identity = (String, String);

impl Address {
    fn identity(&self) -> Identity {
        let uid = self.target_ref.as_ref().and_then(|target| target["uid"].as_str());
        (self.ip.clone(), uid.unwrap_or_default().to_owned())
    }
}

impl Subset {
    fn len(&self) -> usize {
        self.addresses.len() + self.not_ready_addresses.len()
    }
}

/// The canonical form: the ports that the same addresses offer are together, and everything has its order. An address
/// that is ready and not ready for a port is not ready. Upstream orders by hashes; here the ports give the order.
pub(crate) fn repack(subsets: &[Subset]) -> Vec<Subset> {
    let mut addresses = BTreeMap::<Identity, &Address>::new();
    // No port stands for the addresses without ports.
    let mut by_port = BTreeMap::<Option<&Port>, BTreeMap<Identity, bool>>::new();
    for subset in subsets {
        let ready = subset.addresses.iter().map(|address| (address, true));
        let all = ready.chain(subset.not_ready_addresses.iter().map(|address| (address, false)));
        for (address, ready) in all {
            addresses.entry(address.identity()).or_insert(address);
            let ports = subset.ports.iter().map(Some).chain(subset.ports.is_empty().then_some(None));
            for port in ports {
                let offered = by_port.entry(port).or_default().entry(address.identity()).or_insert(ready);
                *offered &= ready;
            }
        }
    }
    let mut ports_of = BTreeMap::<BTreeMap<Identity, bool>, Vec<Port>>::new();
    for (port, offered) in by_port {
        ports_of.entry(offered).or_default().extend(port.cloned());
    }
    let packed = ports_of.into_iter().map(|(offered, ports)| {
        let having = |wanted: bool| {
            let having = offered.iter().filter(move |(_, ready)| **ready == wanted);
            having
                .filter_map(|(identity, _)| addresses.get(identity).map(|&address| address.clone()))
                .collect()
        };
        Subset { addresses: having(true), not_ready_addresses: having(false), ports }
    });
    let mut packed: Vec<Subset> = packed.collect();
    packed.sort_by(|a, b| a.ports.cmp(&b.ports));
    packed
}

/// Leaves out what is more than Endpoints hold, ready addresses last, from each subset in proportion. Whether it did.
pub(super) fn truncate(subsets: &mut [Subset]) -> bool {
    if subsets.iter().map(Subset::len).sum::<usize>() <= CAPACITY {
        return false;
    }
    let ready: usize = subsets.iter().map(|subset| subset.addresses.len()).sum();
    let not_ready: usize = subsets.iter().map(|subset| subset.not_ready_addresses.len()).sum();
    let (total, room) = if ready > CAPACITY { (ready, CAPACITY) } else { (not_ready, CAPACITY - ready) };
    let mut left = room;
    for subset in subsets {
        let list = if ready > CAPACITY {
            subset.not_ready_addresses.clear();
            &mut subset.addresses
        } else {
            &mut subset.not_ready_addresses
        };
        list.truncate((list.len() * room).div_ceil(total).min(left));
        left -= list.len();
    }
    true
}
