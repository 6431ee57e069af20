//! Node lifecycle: a node that gives no sign of life becomes unknown, and what a node's conditions say keeps pods away
//! from it by taints (upstream: `nodelifecycle/node_lifecycle_controller.go`).
//!
//! Silence is measured from what this process has seen itself, on a clock that stands still while the machine sleeps:
//! neither a restart nor a wrong clock nor a long suspend makes a node look lost. Who looks too late because the whole
//! process was stopped listens for another grace period.

mod plan;
mod zone;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use edgek_client::{Client, Error, Patch};
use edgek_control_runtime::{Change, Involved, Item, Key, Kind, Next, Queue, Recorder, run};
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, Time};
use parking_lot::Mutex;
use serde_json::json;
use tokio::time::Instant;
use tracing::warn;

use crate::informers::Informers;
use crate::{Start, object};
use plan::Silence;
use zone::{Evictions, Member};

/// Where the nodes renew their leases.
pub(crate) const LEASES: &str = "kube-node-lease";
/// One: two nodes of a zone must not begin at the same time.
const WORKERS: usize = 1;

/// Starts the controller; its keys are the names of nodes.
pub(crate) fn start(start: &Start<'_>, client: Client) {
    let queue = Queue::<String>::new();
    let controller = Controller {
        events: Recorder::start(start.scope, client.clone(), "node-controller", ""),
        informers: start.informers.clone(),
        client,
        pulses: Arc::default(),
        begun: Arc::default(),
    };
    let pulses = controller.pulses.clone();
    controller.informers.leases.on_change(move |change| {
        if let (Some(lease), Some(pulse)) = (change.new, pulses.lock().get_mut(&change.key().name)) {
            pulse.renewed(renewal(lease));
        }
    });
    let (waiting, nodes) = (queue.clone(), controller.informers.nodes.clone());
    controller.informers.nodes.on_change(move |change| {
        waiting.add(change.key().name);
        if changes_readiness(change) {
            nodes.items("").into_iter().for_each(|node| waiting.add(node.key.name.clone()));
        }
    });
    run(start.scope, "node-lifecycle-controller", &queue, WORKERS, move |name: String| {
        let controller = controller.clone();
        async move { controller.reconcile(&name).await }
    });
}

/// Whether other nodes' pods may have another number of places to go to.
fn changes_readiness(change: Change<'_>) -> bool {
    let ready =
        |item: Option<&Item>| item.and_then(Item::decode::<Node>).is_some_and(|node| plan::is_ready(&node));
    ready(change.old) != ready(change.new)
}

fn renewal(lease: &Item) -> Option<MicroTime> {
    lease.decode::<Lease>()?.spec?.renew_time
}

#[derive(Clone)]
struct Controller {
    client: Client,
    informers: Arc<Informers>,
    events: Recorder,
    pulses: Arc<Mutex<HashMap<String, Pulse>>>,
    /// When pods were last sent away from another node, by zone.
    begun: Arc<Mutex<HashMap<(String, String), Instant>>>,
}

/// The last sign of life of a node. A sign is anything new: clocks of nodes may go backwards.
#[derive(Debug, Clone)]
struct Pulse {
    renewed: Option<MicroTime>,
    posted: Option<Time>,
    at: Instant,
    /// Whether the node's pods were told when it was last seen ready or not; `None` before the first time.
    ready: Option<bool>,
}

impl Pulse {
    fn new() -> Self {
        Self { renewed: None, posted: None, at: Instant::now(), ready: None }
    }

    fn renewed(&mut self, renewed: Option<MicroTime>) {
        if renewed.is_some() && self.renewed != renewed {
            (self.renewed, self.at) = (renewed, Instant::now());
        }
    }

    fn posted(&mut self, posted: Option<Time>) {
        if posted.is_some() && self.posted != posted {
            (self.posted, self.at) = (posted, Instant::now());
        }
    }
}

impl Controller {
    async fn reconcile(&self, name: &str) -> Result<Next, Error> {
        self.informers.leases.synced().await;
        self.informers.pods.synced().await;
        let Some(node) = self.informers.nodes.get(&Key::new("", name)) else {
            self.pulses.lock().remove(name);
            return Ok(Next::Wait);
        };
        let quiet = self.listen(name, &node);
        let silence = plan::silence(&node, quiet);
        let grace = match silence {
            Silence::Short(rest) => Some(rest),
            Silence::Known => None,
            Silence::Missed => return Ok(self.listen_again(name)),
            Silence::Long => return self.lose(name, node).await,
        };
        self.tell_pods(name, &node).await?;
        let eviction = self.taint(name, &node).await?;
        Ok(grace.into_iter().chain(eviction).min().map_or(Next::Wait, Next::After))
    }

    /// How long the node has given no sign of life.
    fn listen(&self, name: &str, node: &Node) -> Duration {
        let lease = self.informers.leases.item(&Key::new(LEASES, name));
        let mut pulses = self.pulses.lock();
        let pulse = pulses.entry(name.to_owned()).or_insert_with(|| {
            let message = format!("Node {name} event: Registered Node {name} in Controller");
            self.events.record(&involved(node), Kind::Normal, "RegisteredNode", message);
            Pulse::new()
        });
        pulse.renewed(lease.and_then(|lease| renewal(&lease)));
        pulse.posted(plan::condition(node, "Ready").and_then(|ready| ready.last_heartbeat_time.clone()));
        pulse.at.elapsed()
    }

    fn listen_again(&self, name: &str) -> Next {
        if let Some(pulse) = self.pulses.lock().get_mut(name) {
            pulse.at = Instant::now();
        }
        Next::After(Duration::ZERO)
    }

    /// Says that a node is lost, unless its lease tells better: the informer may be behind.
    async fn lose(&self, name: &str, mut node: Node) -> Result<Next, Error> {
        let renewed = match self.client.namespaced::<Lease>(LEASES).get(name).await {
            Ok(lease) => lease.spec.and_then(|spec| spec.renew_time),
            Err(error) if error.is_not_found() => None,
            Err(error) => return Err(error),
        };
        let known = self.pulses.lock().get(name).and_then(|pulse| pulse.renewed.clone());
        if renewed.is_some() && renewed != known {
            return Ok(self.listen_again(name));
        }
        warn!(node = name, "the node gives no sign of life");
        let conditions = plan::lost(&node, Timestamp::now());
        node.status.get_or_insert_default().conditions = Some(conditions);
        self.client.cluster::<Node>().replace_part(name, "status", &node).await?;
        // What follows from it comes with the node's change.
        Ok(Next::Wait)
    }

    /// Once a node is not ready any more, neither are its pods. Its kubelet may say otherwise afterwards.
    async fn tell_pods(&self, name: &str, node: &Node) -> Result<(), Error> {
        let ready = plan::is_ready(node);
        let told = self.pulses.lock().get(name).and_then(|pulse| pulse.ready);
        if !ready && told == Some(true) {
            let message = format!("Node {name} status is now: NodeNotReady");
            self.events.record(&involved(node), Kind::Normal, "NodeNotReady", message);
        }
        if !ready && told != Some(false) && plan::condition(node, "Ready").is_some() {
            for pod in self.informers.pods_on(name) {
                self.tell(&pod).await?;
            }
        }
        if let Some(pulse) = self.pulses.lock().get_mut(name) {
            pulse.ready = Some(ready);
        }
        Ok(())
    }

    async fn tell(&self, pod: &Pod) -> Result<(), Error> {
        if object::ready_since(pod).is_none() {
            return Ok(());
        }
        let Key { namespace, name } = object::key(&pod.metadata);
        let condition =
            json!({"type": "Ready", "status": "False", "lastTransitionTime": Time(Timestamp::now())});
        let patch = json!({"metadata": {"uid": pod.metadata.uid}, "status": {"conditions": [condition]}});
        let pods = self.client.namespaced::<Pod>(&namespace);
        object::unless_gone(pods.patch(&name, "status", &Patch::Strategic(patch)).await.map(|_| ()))?;
        let about = object::involved("v1", "Pod", &pod.metadata);
        self.events.record(&about, Kind::Warning, "NodeNotReady", "Node is not ready");
        Ok(())
    }

    /// Gives the node the taints it should have; tells when to look again.
    async fn taint(&self, name: &str, node: &Node) -> Result<Option<Duration>, Error> {
        let zone = zone::of(node);
        let taints = plan::taints(node, self.evictions(node, &zone), Timestamp::now());
        let Some(change) = &taints.change else { return Ok(taints.next) };
        let metadata = json!({"resourceVersion": node.metadata.resource_version});
        let patch = Patch::Merge(json!({"metadata": metadata, "spec": {"taints": change}}));
        self.client.cluster::<Node>().patch(name, "", &patch).await?;
        if taints.evict(node) {
            self.begun.lock().insert(zone, Instant::now());
        }
        Ok(taints.next)
    }

    fn evictions(&self, node: &Node, zone: &(String, String)) -> Evictions {
        if plan::is_ready(node) {
            return Evictions::Stopped;
        }
        let members: Vec<_> = self.informers.nodes.list("").iter().filter_map(Member::of).collect();
        zone::evictions(&members, zone, self.begun.lock().get(zone).map(Instant::elapsed))
    }
}

fn involved(node: &Node) -> Involved {
    object::involved("v1", "Node", &node.metadata)
}

#[cfg(test)]
mod tests;
