//! Which slices a service's endpoints belong in (upstream: `endpointslice/reconciler.go`).

use std::cmp::Reverse;
use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::slice::{Changes, Conditions, Endpoint, EndpointSlice, Identity, MANAGED_BY, Port, SERVICE_NAME};
use crate::service::{HEADLESS, Pod, Service};

/// Who writes the slices.
pub(super) const CONTROLLER: &str = "endpointslice-controller.k8s.io";
/// How many endpoints a slice takes.
const MAX_ENDPOINTS: usize = 100;

type Endpoints = BTreeMap<Identity, Endpoint>;

/// A slice that stays, and whether it differs from what is stored.
struct Kept {
    slice: EndpointSlice,
    changed: bool,
}

/// Compares the slices of a service that are there with its pods. `zone_of` knows the zone of each node (empty when
/// it has none); pods of nodes that are unknown are left out until the node appears.
pub(super) fn plan(
    service: &Service,
    pods: &[Pod],
    zone_of: impl Fn(&str) -> Option<String>,
    there: Vec<EndpointSlice>,
) -> Changes {
    let families = service.families();
    let (there, mut delete): (Vec<_>, Vec<_>) =
        there.into_iter().partition(|slice| families.contains(&&*slice.address_type));
    let mut changes = Changes::default();
    for family in families {
        let of_family = there.iter().filter(|slice| slice.address_type == family).cloned().collect();
        let desired = desired(service, pods, &zone_of, family);
        let mut of_family = plan_family(service, family, desired, of_family);
        of_family.reuse(|slice| slice.is_owned_by("Service", &service.metadata.uid));
        changes.create.extend(of_family.create);
        changes.update.extend(of_family.update);
        delete.extend(of_family.delete);
    }
    if service.metadata.deletion_timestamp.is_some() {
        // The garbage collector is about to delete them.
        changes.create.clear();
    }
    Changes { delete, ..changes }
}

/// The endpoints that should be, by the ports they offer: named ports can differ between pods.
fn desired(
    service: &Service,
    pods: &[Pod],
    zone_of: impl Fn(&str) -> Option<String>,
    family: &str,
) -> BTreeMap<Vec<Port>, Endpoints> {
    let mut desired = BTreeMap::<_, Endpoints>::new();
    for pod in pods.iter().filter(|pod| pod.has_endpoint()) {
        let of_ports = desired.entry(ports(service, pod)).or_default();
        let zone = zone_of(&pod.spec.node_name);
        if zone.is_none() && !service.spec.publish_not_ready_addresses {
            continue;
        }
        let endpoint = endpoint(service, pod, zone, family);
        if !endpoint.addresses.is_empty() {
            of_ports.insert(endpoint.identity(), endpoint);
        }
    }
    desired
}

fn ports(service: &Service, pod: &Pod) -> Vec<Port> {
    let port = |port: &crate::service::ServicePort| {
        let (name, protocol) = (port.name.clone(), port.protocol.clone());
        Some(Port { name, port: pod.find_port(port)?, protocol, app_protocol: port.app_protocol.clone() })
    };
    let mut ports: Vec<Port> = service.spec.ports.iter().filter_map(port).collect();
    ports.sort();
    ports
}

fn endpoint(service: &Service, pod: &Pod, zone: Option<String>, family: &str) -> Endpoint {
    let (serving, terminating) = (pod.is_ready(), pod.is_terminating());
    let ready = service.spec.publish_not_ready_addresses || (serving && !terminating);
    let zone = zone.filter(|zone| !zone.is_empty());
    let node_name = Some(pod.spec.node_name.clone()).filter(|node| !node.is_empty());
    let metadata = &pod.metadata;
    Endpoint {
        addresses: pod.addresses(family),
        conditions: Conditions { ready: Some(ready), serving: Some(serving), terminating: Some(terminating) },
        hostname: pod.hostname(service),
        target_ref: Some(json!({
            "kind": "Pod", "namespace": metadata.namespace, "name": metadata.name, "uid": metadata.uid,
        })),
        hints: hints(&service.spec.traffic_distribution, zone.as_deref(), node_name.as_deref())
            .filter(|_| ready),
        node_name,
        zone,
    }
}

/// Whose clients should prefer an endpoint (upstream: `trafficdist.go`).
fn hints(distribution: &str, zone: Option<&str>, node: Option<&str>) -> Option<Value> {
    let mut hints = Map::new();
    if matches!(distribution, "PreferClose" | "PreferSameZone" | "PreferSameNode")
        && let Some(zone) = zone
    {
        hints.insert("forZones".to_owned(), json!([{"name": zone}]));
    }
    if distribution == "PreferSameNode"
        && let Some(node) = node
    {
        hints.insert("forNodes".to_owned(), json!([{"name": node}]));
    }
    (!hints.is_empty()).then(|| hints.into())
}

/// Plans the slices of one address type.
fn plan_family(
    service: &Service,
    family: &str,
    desired: BTreeMap<Vec<Port>, Endpoints>,
    there: Vec<EndpointSlice>,
) -> Changes {
    let mut changes = Changes::default();
    let mut groups = BTreeMap::<Vec<Port>, Vec<EndpointSlice>>::new();
    let mut stays = false;
    for slice in there {
        let mut ports = slice.ports.clone();
        ports.sort();
        if desired.contains_key(&ports) && slice.is_owned_by("Service", &service.metadata.uid) {
            groups.entry(ports).or_default().push(slice);
        } else {
            changes.delete.push(slice);
        }
    }
    for (ports, endpoints) in desired {
        let new = || new_slice(service, family, ports.clone());
        let of_ports = groups.remove(&ports).unwrap_or_default();
        let (kept, emptied, created) = fill(service, endpoints, of_ports, new);
        stays |= !kept.is_empty();
        changes.update.extend(kept.into_iter().filter(|kept| kept.changed).map(|kept| kept.slice));
        changes.delete.extend(emptied);
        changes.create.extend(created);
    }
    if !stays && changes.create.is_empty() {
        keep_placeholder(new_slice(service, family, Vec::new()), &mut changes);
    }
    changes
}

/// A service without endpoints has one empty slice, so that it can be told from one that nobody looked at.
fn keep_placeholder(placeholder: EndpointSlice, changes: &mut Changes) {
    let is_placeholder = |slice: &EndpointSlice| {
        let same = |field: &str| slice.metadata.get(field) == placeholder.metadata.get(field);
        slice.endpoints.is_empty() && slice.ports.is_empty() && same("labels") && same("ownerReferences")
    };
    if matches!(&*changes.delete, [only] if is_placeholder(only)) {
        changes.delete.clear();
    } else {
        changes.create.push(placeholder);
    }
}

/// Puts endpoints of the same ports into slices, touching as few of them as possible: gives those that stay, those
/// that are empty now, and new ones.
fn fill(
    service: &Service,
    mut missing: Endpoints,
    there: Vec<EndpointSlice>,
    new: impl Fn() -> EndpointSlice,
) -> (Vec<Kept>, Vec<EndpointSlice>, Vec<EndpointSlice>) {
    let (mut kept, mut emptied, mut created) = (Vec::new(), Vec::new(), Vec::new());
    for slice in there {
        let refreshed = refresh(service, slice.clone(), &mut missing);
        if refreshed.slice.endpoints.is_empty() && !slice.endpoints.is_empty() {
            emptied.push(slice);
        } else {
            kept.push(refreshed);
        }
    }
    kept.sort_by_key(|kept| Reverse(kept.slice.endpoints.len()));
    for kept in kept.iter_mut().filter(|kept| kept.changed) {
        top_up(&mut kept.slice, &mut missing);
    }
    while !missing.is_empty() {
        // The fullest unchanged slice that takes all the rest.
        let fits =
            |kept: &&mut Kept| !kept.changed && kept.slice.endpoints.len() + missing.len() <= MAX_ENDPOINTS;
        if let Some(unchanged) = kept.iter_mut().find(fits) {
            unchanged.changed = true;
            top_up(&mut unchanged.slice, &mut missing);
        } else {
            let mut slice = new();
            top_up(&mut slice, &mut missing);
            created.push(slice);
        }
    }
    (kept, emptied, created)
}

/// A slice with the endpoints of it that are still desired, as they are now; they are missing no more.
fn refresh(service: &Service, mut slice: EndpointSlice, missing: &mut Endpoints) -> Kept {
    let before = std::mem::take(&mut slice.endpoints);
    slice.endpoints = before.iter().filter_map(|endpoint| missing.remove(&endpoint.identity())).collect();
    let labels = Value::Object(labels(service));
    let changed = slice.endpoints != before || slice.metadata.get("labels") != Some(&labels);
    slice.metadata.insert("labels".to_owned(), labels);
    Kept { slice, changed }
}

fn top_up(slice: &mut EndpointSlice, missing: &mut Endpoints) {
    while slice.endpoints.len() < MAX_ENDPOINTS
        && let Some((_, endpoint)) = missing.pop_first()
    {
        slice.endpoints.push(endpoint);
    }
}

fn new_slice(service: &Service, family: &str, ports: Vec<Port>) -> EndpointSlice {
    let metadata = &service.metadata;
    let slice = EndpointSlice::new("Service", &metadata.name, &metadata.uid, labels(service));
    EndpointSlice { address_type: family.to_owned(), ports, ..slice }
}

/// The service's labels, and those that say whose the slice is.
fn labels(service: &Service) -> Map<String, Value> {
    let own = service.metadata.labels.iter();
    let own = own.filter(|(name, _)| ![SERVICE_NAME, MANAGED_BY, HEADLESS].contains(&name.as_str()));
    let mut labels: Map<_, _> = own.map(|(name, value)| (name.clone(), json!(value))).collect();
    labels.insert(SERVICE_NAME.to_owned(), json!(service.metadata.name));
    labels.insert(MANAGED_BY.to_owned(), json!(CONTROLLER));
    if service.is_headless() {
        labels.insert(HEADLESS.to_owned(), json!(""));
    }
    labels
}
