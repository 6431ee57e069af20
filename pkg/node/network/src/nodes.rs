//! What Node objects tell the pod network: the range of this node's pods, and where the other nodes are.

use std::collections::BTreeSet;
use std::error::Error as _;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use edgek_base_lifecycle::{Backoff, Scope};
use edgek_control_runtime::{Informer, Item};
use k8s_openapi::api::core::v1::Node;
use serde::Deserialize;
use tokio::sync::Notify;
use tracing::warn;

use crate::{Error, Peer, Range, RoutedNetwork};

/// Has the network follow the Node objects, and keep its rules, until the scope ends. `own` is this node's name.
pub fn follow(scope: &Scope, network: Arc<RoutedNetwork>, nodes: Informer<Node>, own: String) {
    let changed = Arc::new(Notify::new());
    let wake = changed.clone();
    nodes.on_change(move |change| {
        // Most changes are of a node's status.
        if change.old.map(Place::of) != change.new.map(Place::of) {
            wake.notify_one();
        }
    });
    let kept = network.clone();
    scope.spawn("pod network rules", async move {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(30));
        loop {
            let Err(error) = kept.keep_rules().await;
            let why = error.source().map(ToString::to_string);
            warn!(%error, why, "keeping the rules of the pod network failed; it will be tried again");
            backoff.wait().await;
        }
    });
    scope.spawn("pod network", async move {
        nodes.synced().await;
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(30));
        loop {
            let changed = changed.notified();
            match apply(&network, &nodes, &own).await {
                Ok(()) => {
                    backoff.reset();
                    changed.await;
                }
                Err(error) => {
                    let why = error.source().map(ToString::to_string);
                    warn!(%error, why, "following the nodes failed; it will be tried again");
                    backoff.wait().await;
                }
            }
        }
    });
}

async fn apply(network: &RoutedNetwork, nodes: &Informer<Node>, own: &str) -> Result<(), Error> {
    let mut peers = BTreeSet::new();
    for node in nodes.items("") {
        let place = Place::of(&node);
        match place {
            Place { range: Some(range), .. } if node.key.name == own => network.assign(range).await?,
            Place { range: Some(range), address: Some(address) } if node.key.name != own => {
                peers.insert(Peer { range, address });
            }
            _ => {}
        }
    }
    network.set_peers(&peers).await
}

/// Where a node and its pods are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Place {
    range: Option<Range>,
    address: Option<Ipv4Addr>,
}

impl Place {
    fn of(item: &Item) -> Self {
        let Some(View { spec, status }) = item.decode::<View>() else { return Self::default() };
        let ranges = spec.pod_cidrs.iter().chain([&spec.pod_cidr]);
        let internal = status.addresses.iter().filter(|address| address.kind == "InternalIP");
        Self {
            range: ranges.filter_map(|range| range.parse().ok()).next(),
            address: internal.filter_map(|internal| internal.address.parse().ok()).next(),
        }
    }
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct View {
    spec: Spec,
    status: Status,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Spec {
    #[serde(rename = "podCIDR")]
    pod_cidr: String,
    #[serde(rename = "podCIDRs")]
    pod_cidrs: Vec<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Status {
    addresses: Vec<Address>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Address {
    #[serde(rename = "type")]
    kind: String,
    address: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nodes_place_is_its_ipv4_range_and_internal_address() {
        let place = |text: &'static str| {
            let place = Place::of(&Item { bytes: text.into(), ..Item::default() });
            (place.range.map(|range| range.to_string()), place.address.map(|address| address.to_string()))
        };
        let both = r#"{"spec":{"podCIDR":"fd00::/64","podCIDRs":["fd00::/64","10.42.3.0/24"]},"status":{"addresses":[
            {"type":"ExternalIP","address":"192.0.2.1"},{"type":"InternalIP","address":"fd00::1"},
            {"type":"InternalIP","address":"192.0.2.2"}]}}"#;
        assert_eq!(place(both), (Some("10.42.3.0/24".into()), Some("192.0.2.2".into())));
        assert_eq!(place(r#"{"spec":{}}"#), (None, None));
    }
}
