//! Pods that nobody ends: those on nodes that are gone or out of service, those that are deleted before they got a
//! node, and the oldest of too many that have finished (upstream: `podgc/gc_controller.go`).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use edgek_client::{Client, Delete, Error, Patch};
use edgek_control_runtime::{Change, Key, Next, Queue, run};
use k8s_openapi::api::core::v1::{Node, Pod};
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::informers::Informers;
use crate::{Start, object};

/// A node that is gone may come back within this time.
const QUARANTINE: Duration = Duration::from_secs(40);
/// How many finished pods are kept (`--terminated-pod-gc-threshold`).
const FINISHED: usize = 12_500;
const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";

/// What is looked at.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Look {
    Pod(Key),
    /// A pod whose node was missing a while ago.
    AfterQuarantine(Key),
    Finished,
}

/// Starts the controller.
pub(crate) fn start(start: &Start<'_>, client: Client) {
    let queue = Queue::<Look>::new();
    let collector = Collector { client, informers: start.informers.clone(), queue, finished: Arc::default() };
    let this = collector.clone();
    collector.informers.pods.on_change(move |change| this.pod_changed(change));
    let this = collector.clone();
    collector.informers.nodes.on_change(move |change| this.node_changed(change));
    let queue = collector.queue.clone();
    run(start.scope, "pod-garbage-collector", &queue, 1, move |look| {
        let this = collector.clone();
        async move { this.reconcile(look).await.map(|()| Next::Wait) }
    });
}

#[derive(Clone)]
struct Collector {
    client: Client,
    informers: Arc<Informers>,
    queue: Queue<Look>,
    finished: Arc<Mutex<BTreeSet<Key>>>,
}

/// What becomes of a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Plan {
    Keep,
    /// Its node is missing: it is looked at again after a while.
    Quarantine,
    /// Its node is missing still.
    CheckNode,
    Delete,
}

fn plan(pod: &Pod, node: Option<&Node>, look: &Look) -> Plan {
    let deleted = pod.metadata.deletion_timestamp.is_some();
    match (node_name(pod), node) {
        ("", _) if deleted => Plan::Delete,
        ("", _) => Plan::Keep,
        (_, None) if matches!(look, Look::AfterQuarantine(_)) => Plan::CheckNode,
        (_, None) => Plan::Quarantine,
        (_, Some(node)) if deleted && is_out_of_service(node) => Plan::Delete,
        (_, Some(_)) => Plan::Keep,
    }
}

fn node_name(pod: &Pod) -> &str {
    pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).unwrap_or_default()
}

/// Whether somebody has said that the node is off and its pods do not run any more.
fn is_out_of_service(node: &Node) -> bool {
    let mut taints = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
    let mut conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let ready = conditions.any(|condition| condition.type_ == "Ready" && condition.status == "True");
    !ready && taints.any(|taint| taint.key == OUT_OF_SERVICE)
}

/// The finished pods beyond those that are kept: first the evicted, then the oldest.
fn surplus(mut pods: Vec<Pod>, kept: usize) -> Vec<Pod> {
    let evicted = |pod: &Pod| {
        let reason = pod.status.as_ref().and_then(|status| status.reason.as_deref());
        object::phase(pod) == "Failed" && reason == Some("Evicted")
    };
    pods.sort_by_cached_key(|pod| {
        let created = pod.metadata.creation_timestamp.as_ref().map(|time| time.0);
        (!evicted(pod), created, object::name(&pod.metadata).to_owned())
    });
    pods.truncate(pods.len().saturating_sub(kept));
    pods
}

impl Collector {
    fn pod_changed(&self, change: Change<'_>) {
        let key = change.key();
        let is_finished =
            change.new.and_then(|pod| pod.decode()).is_some_and(|pod| object::is_finished(&pod));
        let mut finished = self.finished.lock();
        if !is_finished {
            finished.remove(&key);
        } else if finished.insert(key.clone()) && finished.len() > FINISHED {
            self.queue.add(Look::Finished);
        }
        if change.new.is_some() {
            self.queue.add(Look::Pod(key));
        }
    }

    fn node_changed(&self, change: Change<'_>) {
        let node = change.new.and_then(|node| node.decode());
        if node.is_none_or(|node| is_out_of_service(&node)) {
            let pods = self.informers.pods_on(&change.key().name);
            pods.iter().for_each(|pod| self.queue.add(Look::Pod(object::key(&pod.metadata))));
        }
    }

    async fn reconcile(&self, look: Look) -> Result<(), Error> {
        self.informers.nodes.synced().await;
        let (Look::Pod(key) | Look::AfterQuarantine(key)) = &look else { return self.limit().await };
        let Some(pod) = self.informers.pods.get(key) else { return Ok(()) };
        let node = self.informers.nodes.get(&Key::new("", node_name(&pod)));
        match plan(&pod, node.as_ref(), &look) {
            Plan::Keep => Ok(()),
            Plan::Quarantine => {
                self.queue.add_after(Look::AfterQuarantine(key.clone()), QUARANTINE);
                Ok(())
            }
            Plan::Delete => self.delete(&pod, None).await,
            Plan::CheckNode => match self.client.cluster::<Node>().get(node_name(&pod)).await {
                Err(error) if error.is_not_found() => {
                    let message = "PodGC: node no longer exists";
                    let orphaned = object::disruption_target(&pod, "DeletionByPodGC", message);
                    self.delete(&pod, Some(orphaned)).await
                }
                found => found.map(|_| ()),
            },
        }
    }

    async fn limit(&self) -> Result<(), Error> {
        let finished: Vec<_> = self.finished.lock().iter().cloned().collect();
        let pods = finished.iter().filter_map(|key| self.informers.pods.get(key)).collect();
        for pod in surplus(pods, FINISHED) {
            self.delete(&pod, None).await?;
        }
        Ok(())
    }

    /// At once: there is no kubelet that could end it. Its owner must see that it did not succeed.
    async fn delete(&self, pod: &Pod, condition: Option<Value>) -> Result<(), Error> {
        let Key { namespace, name } = object::key(&pod.metadata);
        let pods = self.client.namespaced::<Pod>(&namespace);
        if !object::is_finished(pod) {
            let mut status = json!({"phase": "Failed", "observedGeneration": pod.metadata.generation});
            if let Some(condition) = condition {
                status["conditions"] = json!([condition]);
            }
            let patch = Patch::Strategic(json!({"metadata": {"uid": pod.metadata.uid}, "status": status}));
            object::unless_gone(pods.patch(&name, "status", &patch).await.map(|_| ()))?;
        }
        object::unless_gone(pods.delete(&name, &Delete::now(object::uid(&pod.metadata))).await)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(node: &str, deleted: &Value) -> Pod {
        let metadata = json!({"name": "p", "deletionTimestamp": deleted});
        serde_json::from_value(json!({"metadata": metadata, "spec": {"nodeName": node, "containers": []}}))
            .unwrap()
    }

    #[test]
    fn pods_that_nobody_ends_are_deleted() {
        let node = |ready: &str, taint: &str| {
            let taints = json!([{"key": taint, "effect": "NoExecute"}]);
            let status = json!({"conditions": [{"type": "Ready", "status": ready}]});
            let node = json!({"metadata": {"name": "n"}, "spec": {"taints": taints}, "status": status});
            Some(serde_json::from_value::<Node>(node).unwrap())
        };
        let (first, later) = (Look::Pod(Key::default()), Look::AfterQuarantine(Key::default()));
        let (alive, deleted) = (Value::Null, json!("2026-01-01T00:00:00Z"));
        for (pod, node, look, expected) in [
            (pod("", &alive), None, &first, Plan::Keep),
            (pod("", &deleted), None, &first, Plan::Delete),
            (pod("n", &alive), None, &first, Plan::Quarantine),
            (pod("n", &alive), None, &later, Plan::CheckNode),
            (pod("n", &deleted), None, &later, Plan::CheckNode),
            (pod("n", &alive), node("True", "other"), &later, Plan::Keep),
            (pod("n", &deleted), node("Unknown", "other"), &first, Plan::Keep),
            (pod("n", &deleted), node("True", OUT_OF_SERVICE), &first, Plan::Keep),
            (pod("n", &deleted), node("Unknown", OUT_OF_SERVICE), &first, Plan::Delete),
            (pod("n", &alive), node("Unknown", OUT_OF_SERVICE), &first, Plan::Keep),
        ] {
            assert_eq!(plan(&pod, node.as_ref(), look), expected, "{pod:?}, {look:?}, {node:?}");
        }
    }

    #[test]
    fn of_too_many_finished_pods_the_evicted_and_the_oldest_go() {
        let pod = |name: &str, day: u32, reason: &str| {
            let metadata = json!({"name": name, "creationTimestamp": format!("2026-01-0{day}T00:00:00Z")});
            let pod = json!({"metadata": metadata, "status": {"phase": "Failed", "reason": reason}});
            serde_json::from_value::<Pod>(pod).unwrap()
        };
        let pods =
            vec![pod("d", 2, ""), pod("c", 1, ""), pod("b", 1, ""), pod("a", 4, ""), pod("e", 3, "Evicted")];
        for (kept, expected) in [(5, &[][..]), (4, &["e"]), (2, &["e", "b", "c"])] {
            let surplus = surplus(pods.clone(), kept);
            let names: Vec<_> = surplus.iter().map(|pod| object::name(&pod.metadata)).collect();
            assert_eq!(names, expected, "{kept} are kept");
        }
    }
}
