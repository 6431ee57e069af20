//! Node IPAM: every node has a range of the cluster's pod addresses of its own (upstream:
//! `nodeipam/ipam/range_allocator.go`).

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

use edgek_client::{Client, Error, Patch};
use edgek_control_runtime::{Item, Key, Kind, Next, Queue, Recorder, run};
use k8s_openapi::api::core::v1::Node;
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::json;
use tracing::{info, warn};

use crate::informers::Informers;
use crate::{Start, object};

/// The addresses of all pods, and how they are shared out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PodRanges {
    /// The first address.
    pub network: Ipv4Addr,
    /// The number of leading bits that all addresses share.
    pub prefix: u8,
    /// The number of leading bits that the addresses of one node share.
    pub node_prefix: u8,
}

/// Starts the controller; its keys are the names of nodes.
pub(crate) fn start(start: &Start<'_>, client: Client, ranges: PodRanges) {
    let queue = Queue::<String>::new();
    let controller = Controller {
        events: Recorder::start(start.scope, client.clone(), "cidrAllocator", ""),
        informers: start.informers.clone(),
        client,
        ranges,
        given: Arc::default(),
    };
    let (waiting, nodes) = (queue.clone(), start.informers.nodes.clone());
    start.informers.nodes.on_change(move |change| match change.new {
        Some(node) if range_of(node).is_none() => waiting.add(node.key.name.clone()),
        Some(_) => {}
        // Its range is free for those who wait for one.
        None => {
            let without = nodes.items("").into_iter().filter(|node| range_of(node).is_none());
            without.for_each(|node| waiting.add(node.key.name.clone()));
        }
    });
    // One worker: no range is given twice.
    run(start.scope, "node-ipam-controller", &queue, 1, move |name: String| {
        let controller = controller.clone();
        async move { controller.reconcile(&name).await }
    });
}

#[derive(Clone)]
struct Controller {
    client: Client,
    informers: Arc<Informers>,
    events: Recorder,
    ranges: PodRanges,
    /// Ranges that were given to nodes whose change the informer has not seen yet.
    given: Arc<Mutex<BTreeMap<String, String>>>,
}

impl Controller {
    async fn reconcile(&self, name: &str) -> Result<Next, Error> {
        self.informers.nodes.synced().await;
        let nodes = self.informers.nodes.items("");
        let Some(node) = self.informers.nodes.item(&Key::new("", name)) else { return Ok(Next::Wait) };
        if range_of(&node).is_some() {
            return Ok(Next::Wait);
        }
        let mut taken: Vec<String> = nodes.iter().filter_map(|node| range_of(node)).collect();
        {
            let mut given = self.given.lock();
            let seen = |name: &String| nodes.iter().find(|node| node.key.name == *name).map(|n| range_of(n));
            given.retain(|name, _| matches!(seen(name), Some(None)));
            taken.extend(given.values().cloned());
        }
        let Some(range) = free(self.ranges, &taken) else {
            warn!(node = name, "all ranges of cluster-cidr are taken; the node runs no pods");
            let about = object::involved_item("v1", "Node", &node);
            let message = format!("Node {name} status is now: CIDRNotAvailable");
            self.events.record(&about, Kind::Normal, "CIDRNotAvailable", message);
            return Ok(Next::Wait);
        };
        let spec = json!({"podCIDR": range, "podCIDRs": [range]});
        let metadata = json!({"uid": node.uid});
        let patch = Patch::Merge(json!({"metadata": metadata, "spec": spec}));
        object::unless_gone(self.client.cluster::<Node>().patch(name, "", &patch).await.map(|_| ()))?;
        info!(node = name, range, "the node has its pod addresses");
        self.given.lock().insert(name.to_owned(), range);
        Ok(Next::Wait)
    }
}

/// The first range that overlaps none of the taken ones.
fn free(ranges: PodRanges, taken: &[String]) -> Option<String> {
    let PodRanges { network, prefix, node_prefix } = ranges;
    let size = 1_u64 << (32 - u32::from(node_prefix));
    let first = u64::from(u32::from(network));
    let end = first + (1_u64 << (32 - u32::from(prefix)));
    let taken: Vec<(u64, u64)> = taken.iter().filter_map(|text| span(text)).collect();
    let mut begin = first;
    while begin + size <= end {
        match taken.iter().find(|(from, to)| *from < begin + size && begin < *to) {
            None => return Some(format!("{}/{node_prefix}", Ipv4Addr::from(u32::try_from(begin).ok()?))),
            // Behind what is in the way, at the next place where a range may begin.
            Some((_, to)) => begin = first + (to - first).next_multiple_of(size),
        }
    }
    None
}

/// The first address of a range, and the one after its last.
fn span(text: &str) -> Option<(u64, u64)> {
    let (address, prefix) = text.split_once('/')?;
    let (address, prefix) = (address.parse::<Ipv4Addr>().ok()?, prefix.parse::<u32>().ok()?);
    let size = 1_u64 << 32_u32.checked_sub(prefix)?;
    let first = u64::from(u32::from(address)) / size * size;
    Some((first, first + size))
}

#[derive(Deserialize)]
struct View {
    spec: Spec,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    #[serde(rename = "podCIDR", default)]
    pod_cidr: String,
}

/// The range a node has.
fn range_of(node: &Item) -> Option<String> {
    let range = node.decode::<View>()?.spec.pod_cidr;
    (!range.is_empty()).then_some(range)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_gets_the_first_free_range() {
        let ranges = PodRanges { network: Ipv4Addr::new(10, 42, 0, 0), prefix: 22, node_prefix: 24 };
        let check = |taken: &[&str], expected: Option<&str>| {
            let taken: Vec<String> = taken.iter().map(|&range| range.to_owned()).collect();
            assert_eq!(free(ranges, &taken).as_deref(), expected, "{taken:?}");
        };
        check(&[], Some("10.42.0.0/24"));
        check(&["10.42.1.0/24", "10.42.0.0/24"], Some("10.42.2.0/24"));
        check(&["10.42.1.0/24"], Some("10.42.0.0/24"));
        check(&["10.42.0.64/26"], Some("10.42.1.0/24"));
        check(&["10.42.0.0/23", "fd00::/64", "192.168.0.0/16"], Some("10.42.2.0/24"));
        check(&["10.0.0.0/8"], None);
        check(&["10.42.0.0/24", "10.42.1.0/24", "10.42.2.0/24", "10.42.3.0/24"], None);
    }

    #[test]
    fn the_last_addresses_of_all_can_be_given() {
        let ranges = PodRanges { network: Ipv4Addr::new(255, 255, 255, 0), prefix: 24, node_prefix: 25 };
        let first = "255.255.255.0/25".to_owned();
        assert_eq!(free(ranges, std::slice::from_ref(&first)).as_deref(), Some("255.255.255.128/25"));
        assert_eq!(free(ranges, &[first, "255.255.255.128/25".to_owned()]), None);
    }
}
