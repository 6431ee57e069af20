//! What a frontend is in the kernel: elements of maps and sets, all of whose rules are the same for all Services.
//!
//! | set | key | value |
//! |---|---|---|
//! | services | frontend | the chain that chooses, or drop |
//! | endpoints | frontend, number | address and port |
//! | members | frontend, address and port | – (only with session affinity) |
//! | refused | frontend | – |
//! | hairpins | address, the same address | – |

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};

use crate::chain::Pick;
use crate::rules::{Backend, Frontend};

/// A set or map of the table; [`crate::kernel`] declares them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Set {
    Services,
    Endpoints,
    Members,
    Refused,
    Hairpins,
}

/// What an element says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    Present,
    Address(Vec<u8>),
    Drop,
    Pick(Pick),
}

impl Value {
    /// The chain it leads to.
    pub(crate) fn pick(&self) -> Option<&Pick> {
        match self {
            Self::Pick(pick) => Some(pick),
            _ => None,
        }
    }
}

/// Elements by set and key, the key as the kernel has it in its registers.
pub(crate) type Elements = BTreeMap<(Set, Vec<u8>), Value>;

/// Adds the elements of a frontend.
pub(crate) fn add(elements: &mut Elements, frontend: Frontend, backend: &Backend) {
    let key = frontend_key(frontend);
    let inside = backend.inside.as_deref().unwrap_or_default();
    if backend.endpoints.is_empty() && inside.is_empty() {
        let (set, value) =
            if backend.elsewhere { (Set::Services, Value::Drop) } else { (Set::Refused, Value::Present) };
        elements.insert((set, key), value);
        return;
    }
    elements.insert((Set::Services, key.clone()), Value::Pick(Pick::of(frontend, backend)));
    for (number, endpoint) in (0_u32..).zip(backend.endpoints.iter().chain(inside)) {
        let (numbered, address) = ([&key[..], &number.to_ne_bytes()].concat(), address(*endpoint));
        if backend.affinity.is_some() {
            elements.insert((Set::Members, [&key[..], &address].concat()), Value::Present);
        }
        elements.insert((Set::Endpoints, numbered), Value::Address(address));
    }
}

/// Adds what lets a pod reach itself by a Service.
pub(crate) fn add_hairpin(elements: &mut Elements, endpoint: Ipv4Addr) {
    elements.insert((Set::Hairpins, [endpoint.octets(), endpoint.octets()].concat()), Value::Present);
}

/// Every field fills a word of four bytes.
fn frontend_key(Frontend { address, protocol, port }: Frontend) -> Vec<u8> {
    let [high, low] = port.to_be_bytes();
    [address.octets(), [protocol.number(), 0, 0, 0], [high, low, 0, 0]].concat()
}

fn address(endpoint: SocketAddrV4) -> Vec<u8> {
    let [high, low] = endpoint.port().to_be_bytes();
    [endpoint.ip().octets(), [high, low, 0, 0]].concat()
}
