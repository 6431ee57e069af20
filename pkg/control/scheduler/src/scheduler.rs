//! The loop: take a pod, find a node, assume it there, bind it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use edgek_base_lifecycle::Scope;
use edgek_client::{Client, Error, ListQuery, Patch};
use edgek_control_runtime::{Change, Informer, Item, Key, Kind, Recorder};
use k8s_openapi::api::core::v1::{Namespace, Node, Pod};
use parking_lot::Mutex;
use serde_json::json;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tracing::{debug, warn};

use crate::affinity::Namespaces;
use crate::filter::refuses;
use crate::pod::{NAME, PodInfo};
use crate::queue::{Gate, Pending};
use crate::score;
use crate::snapshot::Snapshot;

/// Requests about pods that may be on their way at the same time.
const IN_FLIGHT: usize = 32;

/// Starts the scheduler as the user of `client` until the scope ends. It begins once it knows the cluster.
pub fn start(scope: &Scope, client: Client) {
    let shared = Arc::new(Shared { state: Mutex::default(), changed: Notify::new() });
    let all = ListQuery::default;
    let namespaces = Informer::start(scope, client.cluster::<Namespace>(), all());
    let nodes = Informer::start(scope, client.cluster::<Node>(), all());
    let pods = Informer::start(scope, client.all::<Pod>(), all());
    let tell = shared.clone();
    namespaces.on_change(move |change| tell.update(|state| state.namespace_changed(change)));
    let tell = shared.clone();
    nodes.on_change(move |change| tell.update(|state| state.node_changed(change)));
    let tell = shared.clone();
    pods.on_change(move |change| tell.update(|state| state.pod_changed(change)));
    let recorder = Recorder::start(scope, client.clone(), NAME, "");
    let scheduler = Scheduler { scope: scope.clone(), client, recorder, shared };
    scope.spawn("scheduler", async move {
        tokio::join!(namespaces.synced(), nodes.synced(), pods.synced());
        scheduler.run().await;
    });
}

struct Shared {
    state: Mutex<State>,
    changed: Notify,
}

impl Shared {
    fn update(&self, update: impl FnOnce(&mut State)) {
        update(&mut self.state.lock());
        self.changed.notify_one();
    }
}

/// Everything the scheduler knows. One lock: a decision and what it assumes are one step.
#[derive(Default)]
struct State {
    snapshot: Snapshot,
    pending: Pending,
    /// The pods in `pending`.
    waiting: HashMap<Key, Arc<PodInfo>>,
    /// The pods whose binding is on its way.
    assumed: HashMap<Key, Arc<PodInfo>>,
    namespaces: Namespaces,
}

impl State {
    fn namespace_changed(&mut self, change: Change<'_>) {
        match change.new {
            Some(item) => self.namespaces.insert(item.key.name.clone(), item.labels.clone()),
            None => self.namespaces.remove(&change.key().name),
        };
    }

    fn node_changed(&mut self, change: Change<'_>) {
        match change.new.and_then(Item::decode::<Node>) {
            // Heartbeats and images change nodes all the time; a pod that fits nowhere cares for other things.
            Some(node) => {
                let old = change.old.and_then(Item::decode::<Node>);
                let helps = old.is_none_or(|old| schedulable_part(&old) != schedulable_part(&node));
                self.snapshot.set_node(node);
                if helps {
                    self.pending.stir();
                }
            }
            None => self.snapshot.remove_node(&change.key().name),
        }
    }

    fn pod_changed(&mut self, change: Change<'_>) {
        let Some(pod) = change.new.and_then(Item::decode::<Pod>) else {
            return self.pod_gone(&change.key());
        };
        let pod = Arc::new(PodInfo::new(pod));
        if pod.is_pending() {
            return self.pod_waits(&pod);
        }
        self.forget(&pod.key);
        let frees = pod.has_ended() && self.snapshot.has_pod(&pod.key);
        let arrives = !self.snapshot.has_pod(&pod.key);
        self.snapshot.set_pod(pod);
        // A pod that ends makes room; one that arrives may be the company another waits for.
        if frees || arrives {
            self.pending.stir();
        }
    }

    fn pod_gone(&mut self, key: &Key) {
        self.forget(key);
        self.snapshot.remove_pod(key);
        self.pending.stir();
    }

    fn forget(&mut self, key: &Key) {
        self.pending.remove(key);
        self.waiting.remove(key);
        self.assumed.remove(key);
    }

    fn pod_waits(&mut self, pod: &Arc<PodInfo>) {
        if self.assumed.get(&pod.key).is_some_and(|assumed| assumed.uid == pod.uid) {
            return;
        }
        let old = self.waiting.insert(pod.key.clone(), pod.clone());
        // The scheduler's own condition is no reason to try again.
        if old.is_none_or(|old| old.uid != pod.uid || old.spec != pod.spec || old.labels != pod.labels) {
            let gate = if pod.is_gated() { Gate::Closed } else { Gate::Open };
            self.pending.add(&pod.key, pod.priority(), gate);
        }
    }

    /// Decides about the next pod, or tells when there may be one.
    fn decide(&mut self, now: Instant) -> Result<Decision, Option<Instant>> {
        loop {
            let key = self.pending.pop(now)?;
            let Some(pod) = self.waiting.get(&key).cloned() else { continue };
            let node = match place(&pod, &self.snapshot, &self.namespaces) {
                Ok(node) => node,
                Err(message) => {
                    self.pending.unschedulable(&key, now);
                    return Ok(Decision::Nowhere(pod, message));
                }
            };
            let pod = pod.on(&node);
            self.snapshot.set_pod(pod.clone());
            self.assumed.insert(key.clone(), pod.clone());
            return Ok(Decision::Bind(pod));
        }
    }

    /// The pod could not be bound. It may try again later, unless it was bound or deleted meanwhile.
    fn not_bound(&mut self, pod: &PodInfo, now: Instant) {
        if self.assumed.remove(&pod.key).is_some() {
            self.snapshot.remove_pod(&pod.key);
            self.pending.failed(&pod.key, now);
            self.pending.stir();
        }
    }
}

/// What of a node decides whether pods can be scheduled on it.
fn schedulable_part(node: &Node) -> impl PartialEq + '_ {
    let allocatable = node.status.as_ref().and_then(|status| status.allocatable.as_ref());
    (node.spec.as_ref(), node.metadata.labels.as_ref(), allocatable)
}

enum Decision {
    Bind(Arc<PodInfo>),
    Nowhere(Arc<PodInfo>, String),
}

/// The best node for the pod, or why there is none in upstream's words (`FitError`).
fn place(pod: &PodInfo, snapshot: &Snapshot, namespaces: &Namespaces) -> Result<String, String> {
    let (mut fitting, mut reasons, mut all) = (Vec::new(), BTreeMap::<String, usize>::new(), 0);
    for node in snapshot.nodes() {
        all += 1;
        match refuses(pod, node, snapshot, namespaces) {
            None => fitting.push(node),
            Some(refusal) => refusal.reasons.into_iter().for_each(|r| *reasons.entry(r).or_default() += 1),
        }
    }
    if let Some(node) = score::best(pod, &fitting, snapshot, namespaces) {
        return Ok(node.name().to_owned());
    }
    if all == 0 {
        return Err("no nodes available to schedule pods".to_owned());
    }
    let mut reasons: Vec<_> = reasons.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
    reasons.sort();
    Err(format!("0/{all} nodes are available: {}.", reasons.join(", ")))
}

#[derive(Clone)]
struct Scheduler {
    scope: Scope,
    client: Client,
    recorder: Recorder,
    shared: Arc<Shared>,
}

impl Scheduler {
    async fn run(self) {
        let free = Arc::new(Semaphore::new(IN_FLIGHT));
        // The semaphore is never closed.
        while let Ok(permit) = free.clone().acquire_owned().await {
            let decision = self.next().await;
            let scheduler = self.clone();
            self.scope.spawn("pod decision", async move { scheduler.carry_out(decision, permit).await });
        }
    }

    async fn next(&self) -> Decision {
        loop {
            let changed = self.shared.changed.notified();
            let due = match self.shared.state.lock().decide(Instant::now()) {
                Ok(decision) => return decision,
                Err(due) => due,
            };
            match due {
                // Either way the state is looked at again.
                Some(at) => drop(tokio::time::timeout_at(at, changed).await),
                None => changed.await,
            }
        }
    }

    async fn carry_out(&self, decision: Decision, _permit: OwnedSemaphorePermit) {
        match decision {
            Decision::Bind(pod) => self.bind(&pod).await,
            Decision::Nowhere(pod, message) => self.tell(&pod, &message).await,
        }
    }

    async fn bind(&self, pod: &PodInfo) {
        let Key { namespace, name } = &pod.key;
        let binding = json!({
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"namespace": namespace, "name": name, "uid": pod.uid},
            "target": {"apiVersion": "v1", "kind": "Node", "name": pod.node()},
        });
        match self.client.namespaced::<Pod>(namespace).post(name, "binding", &binding).await {
            Ok(_) => {
                let message = format!("Successfully assigned {} to {}", pod.key, pod.node());
                self.recorder.record(&pod.involved(), Kind::Normal, "Scheduled", message);
            }
            Err(error) => {
                self.shared.update(|state| state.not_bound(pod, Instant::now()));
                if error.is_not_found() || error.is_conflict() {
                    debug!(pod = %pod.key, %error, "not bound");
                    return;
                }
                warn!(pod = %pod.key, %error, "not bound; it will be tried again");
                let message = format!("binding rejected: {error}");
                self.recorder.record(&pod.involved(), Kind::Warning, "FailedScheduling", message);
            }
        }
    }

    async fn tell(&self, pod: &PodInfo, message: &str) {
        self.recorder.record(&pod.involved(), Kind::Warning, "FailedScheduling", message);
        if pod.told == message {
            return;
        }
        let now = edgek_api::time::now_seconds();
        let condition = json!({
            "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message,
            "lastProbeTime": null, "lastTransitionTime": now,
        });
        let patch = Patch::Strategic(json!({
            "metadata": {"uid": pod.uid}, "status": {"conditions": [condition]},
        }));
        let pods = self.client.namespaced::<Pod>(&pod.key.namespace);
        let told = pods.patch(&pod.key.name, "status", &patch).await;
        if let Err(error) = told.map(drop).or_else(gone) {
            warn!(pod = %pod.key, %error, "cannot tell why the pod is not scheduled");
        }
    }
}

/// A pod that is gone needs no condition.
fn gone(error: Error) -> Result<(), Error> {
    if error.is_not_found() || error.is_conflict() { Ok(()) } else { Err(error) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{node, pod};

    #[test]
    fn a_pod_that_fits_nowhere_says_why() {
        let check = |names: &[&str], spec: serde_json::Value, expected: Result<&str, &str>| {
            let mut snapshot = Snapshot::default();
            for name in names {
                snapshot.set_node(node(name, json!({})));
            }
            let placed = place(&pod(spec), &snapshot, &Namespaces::new());
            assert_eq!(placed.as_deref().map_err(String::as_str), expected);
        };
        let greedy =
            json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": "9", "memory": "9Ti"}}}]});
        check(&[], json!({}), Err("no nodes available to schedule pods"));
        check(&["a", "b"], json!({}), Ok("a"));
        check(
            &["a", "b"],
            greedy,
            Err("0/2 nodes are available: 2 Insufficient cpu, 2 Insufficient memory."),
        );
    }
}
