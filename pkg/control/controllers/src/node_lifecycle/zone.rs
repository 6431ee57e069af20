//! How fast pods are sent away from the nodes of a zone that are not ready. Pure.
//!
//! When many nodes seem lost at once it is more likely that this server is the one that is cut off; and when no node
//! is left there is nowhere to go. So the rate falls with the number of nodes that are ready (upstream:
//! `handleDisruption`).

use std::time::Duration;

use k8s_openapi::api::core::v1::Node;

use super::plan::is_ready;

/// Between two nodes of a zone (`--node-eviction-rate` 0.1), and in a large zone that is unhealthy
/// (`--secondary-node-eviction-rate` 0.01).
const INTERVAL: Duration = Duration::from_secs(10);
const UNHEALTHY_INTERVAL: Duration = Duration::from_secs(100);
/// The nodes of a zone that is no longer small (`--large-cluster-size-threshold`).
const LARGE: usize = 50;
/// The share of nodes, in percent, and the number from which a zone is unhealthy (`--unhealthy-zone-threshold`).
const UNHEALTHY_PERCENT: usize = 55;
const UNHEALTHY: usize = 3;

const EXCLUDED: &str = "node.kubernetes.io/exclude-disruption";

/// Whether pods may be sent away from a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Evictions {
    /// They may.
    Now,
    /// They may after this time, if the node has not begun.
    After(Duration),
    /// They may only where it has begun.
    Held,
    /// They stay wherever they are.
    Stopped,
}

/// A node as its zone counts it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Member {
    zone: (String, String),
    ready: bool,
}

impl Member {
    /// The node as a member; `None` for a node that does not count.
    pub(super) fn of(node: &Node) -> Option<Self> {
        let labels = node.metadata.labels.as_ref();
        let excluded = labels.is_some_and(|labels| labels.contains_key(EXCLUDED));
        (!excluded).then(|| Self { zone: of(node), ready: is_ready(node) })
    }
}

/// The region and zone a node is in.
pub(super) fn of(node: &Node) -> (String, String) {
    let label = |name: &str| node.metadata.labels.as_ref().and_then(|labels| labels.get(name)).cloned();
    let text = |name: &str| label(&format!("topology.kubernetes.io/{name}")).unwrap_or_default();
    (text("region"), text("zone"))
}

/// Whether pods may be sent away from nodes of a zone whose last node began this long ago.
pub(super) fn evictions(members: &[Member], zone: &(String, String), last: Option<Duration>) -> Evictions {
    if members.iter().all(|member| !member.ready) {
        return Evictions::Stopped;
    }
    let of_zone = || members.iter().filter(|member| member.zone == *zone);
    let (all, lost) = (of_zone().count(), of_zone().filter(|member| !member.ready).count());
    // A zone without any ready node is itself the reason: its pods have other zones to go to.
    let unhealthy = lost < all && lost >= UNHEALTHY && lost * 100 >= all * UNHEALTHY_PERCENT;
    let interval = match unhealthy {
        true if all <= LARGE => return Evictions::Held,
        true => UNHEALTHY_INTERVAL,
        false => INTERVAL,
    };
    let wait = last.and_then(|last| interval.checked_sub(last)).unwrap_or_default();
    if wait.is_zero() { Evictions::Now } else { Evictions::After(wait) }
}
