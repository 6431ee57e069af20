//! Which slices mirror Endpoints: one for each subset and address family (upstream:
//! `endpointslicemirroring/reconciler.go`).

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde_json::{Map, Value, json};

use crate::endpoint_slice::slice::{
    Changes, Conditions, Endpoint, EndpointSlice, Identity, MANAGED_BY, Port, SERVICE_NAME,
};
use crate::endpoints::Endpoints;
use crate::endpoints::subsets::{Address, repack};
use crate::service::TRIGGER_TIME;

/// Who writes the slices.
pub(super) const CONTROLLER: &str = "endpointslicemirroring-controller.k8s.io";
/// How many addresses of a subset are mirrored.
pub(super) const MAX_ADDRESSES: usize = 1000;
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// A slice's family and ports, which tell the slices of one object apart.
type Group = (&'static str, Vec<Port>);

/// Compares the slices that are there with the Endpoints of a service. Also says how many addresses are too many.
pub(super) fn plan(
    name: &str,
    uid: &str,
    endpoints: &Endpoints,
    there: Vec<EndpointSlice>,
) -> (Changes, usize) {
    let (desired, skipped) = desired(endpoints);
    let mut changes = Changes::default();
    let mut groups = BTreeMap::<(String, Vec<Port>), Vec<EndpointSlice>>::new();
    for slice in there {
        let mut ports = slice.ports.clone();
        ports.sort();
        groups.entry((slice.address_type.clone(), ports)).or_default().push(slice);
    }
    for ((family, ports), wanted) in desired {
        let mut there = groups.remove(&(family.to_owned(), ports.clone())).unwrap_or_default().into_iter();
        let mut slice = new_slice(name, uid, endpoints, wanted);
        (slice.address_type, slice.ports) = (family.to_owned(), ports);
        match there.next() {
            None => changes.create.push(slice),
            Some(old) if is_same(&old, &slice, uid) => {}
            Some(old) => {
                slice.replaces(&old);
                changes.update.push(slice);
            }
        }
        changes.delete.extend(there);
    }
    changes.delete.extend(groups.into_values().flatten());
    changes.reuse(|_| true);
    (changes, skipped)
}

/// The endpoints that should be, of each subset and family, and how many addresses are left out.
fn desired(endpoints: &Endpoints) -> (BTreeMap<Group, BTreeMap<Identity, Endpoint>>, usize) {
    let (mut desired, mut skipped) = (BTreeMap::<Group, BTreeMap<_, _>>::new(), 0);
    for subset in repack(&endpoints.subsets) {
        let port = |port: crate::endpoints::subsets::Port| Port {
            name: port.name,
            port: port.port,
            protocol: port.protocol,
            app_protocol: port.app_protocol,
        };
        let mut ports: Vec<Port> = subset.ports.into_iter().map(port).collect();
        ports.sort();
        let ready = subset.addresses.into_iter().map(|address| (address, true));
        let all = ready.chain(subset.not_ready_addresses.into_iter().map(|address| (address, false)));
        let valid = all.filter_map(|(address, ready)| endpoint(address, ready));
        let (mirrored, rest): (Vec<_>, Vec<_>) =
            valid.enumerate().partition(|(index, _)| *index < MAX_ADDRESSES);
        skipped += rest.len();
        for (_, (family, endpoint)) in mirrored {
            desired.entry((family, ports.clone())).or_default().insert(endpoint.identity(), endpoint);
        }
    }
    (desired, skipped)
}

/// An address as slices have it; `None` when it is none.
fn endpoint(address: Address, ready: bool) -> Option<(&'static str, Endpoint)> {
    let ip: IpAddr = address.ip.parse().ok()?;
    let family = if ip.is_ipv4() { "IPv4" } else { "IPv6" };
    let endpoint = Endpoint {
        addresses: vec![ip.to_string()],
        conditions: Conditions { ready: Some(ready), ..Conditions::default() },
        hostname: Some(address.hostname).filter(|hostname| !hostname.is_empty()),
        target_ref: address.target_ref,
        node_name: address.node_name,
        ..Endpoint::default()
    };
    Some((family, endpoint))
}

fn new_slice(
    name: &str,
    uid: &str,
    endpoints: &Endpoints,
    wanted: BTreeMap<Identity, Endpoint>,
) -> EndpointSlice {
    let mut labels = endpoints.strings("labels");
    labels.insert(SERVICE_NAME.to_owned(), json!(name));
    labels.insert(MANAGED_BY.to_owned(), json!(CONTROLLER));
    let mut slice = EndpointSlice::new("Endpoints", name, uid, labels);
    slice.endpoints = wanted.into_values().collect();
    let annotations: Map<String, Value> = endpoints
        .strings("annotations")
        .into_iter()
        .filter(|(name, _)| ![TRIGGER_TIME, LAST_APPLIED].contains(&&**name))
        .collect();
    slice.metadata.insert("annotations".to_owned(), annotations.into());
    slice
}

/// Whether a slice mirrors what it should, whatever the order of its endpoints.
fn is_same(old: &EndpointSlice, new: &EndpointSlice, uid: &str) -> bool {
    let by_identity = |slice: &EndpointSlice| -> BTreeMap<Identity, Endpoint> {
        slice.endpoints.iter().map(|endpoint| (endpoint.identity(), endpoint.clone())).collect()
    };
    old.is_owned_by("Endpoints", uid)
        && by_identity(old) == by_identity(new)
        && old.strings("labels") == new.strings("labels")
        && old.strings("annotations") == new.strings("annotations")
}
