//! Taint eviction: a pod leaves a node with a `NoExecute` taint that it does not tolerate, or not for ever (upstream:
//! `tainteviction/taint_eviction.go`).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use edgek_client::{Client, Delete, Error, Patch};
use edgek_control_runtime::{Change, Item, Key, Kind, Next, Queue, Recorder, run, tolerates};
use k8s_openapi::api::core::v1::{Node, Pod, Taint, Toleration};
use parking_lot::Mutex;
use serde_json::json;
use tokio::time::Instant;

use crate::informers::Informers;
use crate::{Start, object};

const WORKERS: usize = 4;

/// Starts the controller; its keys are those of pods.
pub(crate) fn start(start: &Start<'_>, client: Client) {
    let queue = Queue::<Key>::new();
    let controller = Controller {
        events: Recorder::start(start.scope, client.clone(), "taint-eviction-controller", ""),
        informers: start.informers.clone(),
        client,
        leaving: Arc::default(),
    };
    let waiting = queue.clone();
    controller.informers.pods.on_change(move |change| waiting.add(change.key()));
    let (waiting, informers) = (queue.clone(), start.informers.clone());
    controller.informers.nodes.on_change(move |change| {
        if changes_taints(change) {
            let pods = informers.pods_on(&change.key().name);
            pods.iter().for_each(|pod| waiting.add(object::key(&pod.metadata)));
        }
    });
    run(start.scope, "taint-eviction-controller", &queue, WORKERS, move |key: Key| {
        let controller = controller.clone();
        async move { controller.reconcile(&key).await }
    });
}

fn changes_taints(change: Change<'_>) -> bool {
    let taints =
        |item: Option<&Item>| item.and_then(Item::decode::<Node>).map(no_execute).unwrap_or_default();
    taints(change.old) != taints(change.new)
}

fn no_execute(node: Node) -> Vec<Taint> {
    let taints = node.spec.and_then(|spec| spec.taints).into_iter().flatten();
    taints.filter(|taint| taint.effect == "NoExecute").collect()
}

/// What a node's taints mean for a pod on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Plan {
    Stay,
    /// It leaves when the taints have been there for this long.
    Leave(Duration),
}

/// A pod tolerates each taint for the time that the first matching toleration gives it.
fn plan(taints: &[Taint], tolerations: &[Toleration]) -> Plan {
    let mut leave = Plan::Stay;
    for taint in taints {
        let Some(toleration) = tolerations.iter().find(|toleration| tolerates(toleration, taint)) else {
            return Plan::Leave(Duration::ZERO);
        };
        let Some(seconds) = toleration.toleration_seconds else { continue };
        let after = Duration::from_secs(seconds.max(0).unsigned_abs());
        leave = match leave {
            Plan::Leave(earlier) => Plan::Leave(earlier.min(after)),
            Plan::Stay => Plan::Leave(after),
        };
    }
    leave
}

#[derive(Clone)]
struct Controller {
    client: Client,
    informers: Arc<Informers>,
    events: Recorder,
    /// The pods that will have to leave: their uids, and since when the taints are there as far as we know.
    leaving: Arc<Mutex<HashMap<Key, (String, Instant)>>>,
}

impl Controller {
    async fn reconcile(&self, key: &Key) -> Result<Next, Error> {
        self.informers.nodes.synced().await;
        let Some(pod) = self.informers.pods.get(key) else {
            self.leaving.lock().remove(key);
            return Ok(Next::Wait);
        };
        let spec = pod.spec.as_ref();
        let node = spec.and_then(|spec| spec.node_name.as_deref()).unwrap_or_default();
        let taints = self.informers.nodes.get(&Key::new("", node)).map(no_execute).unwrap_or_default();
        let tolerations = spec.and_then(|spec| spec.tolerations.as_deref()).unwrap_or_default();
        if pod.metadata.deletion_timestamp.is_some() {
            return Ok(Next::Wait);
        }
        let Plan::Leave(after) = plan(&taints, tolerations) else {
            if self.leaving.lock().remove(key).is_some() {
                self.tell(&pod, "Cancelling deletion of Pod");
            }
            return Ok(Next::Wait);
        };
        match after.checked_sub(self.since(key, &pod).elapsed()).filter(|rest| !rest.is_zero()) {
            Some(rest) => Ok(Next::After(rest)),
            None => self.evict(key, &pod).await.map(|()| Next::Wait),
        }
    }

    fn since(&self, key: &Key, pod: &Pod) -> Instant {
        let (uid, mut leaving) = (object::uid(&pod.metadata), self.leaving.lock());
        match leaving.get(key) {
            Some((same, since)) if same == uid => *since,
            _ => {
                let now = Instant::now();
                leaving.insert(key.clone(), (uid.to_owned(), now));
                now
            }
        }
    }

    async fn evict(&self, key: &Key, pod: &Pod) -> Result<(), Error> {
        self.tell(pod, "Marking for deletion Pod");
        let (pods, uid) = (self.client.namespaced::<Pod>(&key.namespace), object::uid(&pod.metadata));
        let message = "Taint manager: deleting due to NoExecute taint";
        let condition = object::disruption_target(pod, "DeletionByTaintManager", message);
        let patch = json!({"metadata": {"uid": uid}, "status": {"conditions": [condition]}});
        let marked = pods.patch(&key.name, "status", &Patch::Strategic(patch)).await.map(|_| ());
        object::unless_gone(marked)?;
        let options = Delete { uid: Some(uid.to_owned()), ..Delete::default() };
        object::unless_gone(pods.delete(&key.name, &options).await)
    }

    fn tell(&self, pod: &Pod, what: &str) {
        let about = object::involved("v1", "Pod", &pod.metadata);
        let message = format!("{what} {}", object::key(&pod.metadata));
        self.events.record(&about, Kind::Normal, "TaintManagerEviction", message);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn check(tolerations: Value, expected: Plan) {
        let taints = json!([
            {"key": "node.kubernetes.io/unreachable", "effect": "NoExecute"},
            {"key": "gpu", "value": "yes", "effect": "NoExecute"},
        ]);
        let taints: Vec<Taint> = serde_json::from_value(taints).unwrap();
        let tolerations: Vec<Toleration> = serde_json::from_value(tolerations).unwrap();
        assert_eq!(plan(&taints, &tolerations), expected, "{tolerations:?}");
        assert_eq!(plan(&[], &tolerations), Plan::Stay);
    }

    #[test]
    fn a_pod_leaves_when_the_shortest_of_its_tolerations_ends() {
        let seconds = |seconds| Plan::Leave(Duration::from_secs(seconds));
        let gpu = json!({"key": "gpu", "value": "yes"});
        let unreachable = |seconds: i64| {
            let key = "node.kubernetes.io/unreachable";
            json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": seconds})
        };
        check(json!([]), seconds(0));
        check(json!([gpu]), seconds(0));
        check(json!([unreachable(300)]), seconds(0));
        check(json!([gpu, unreachable(300)]), seconds(300));
        check(json!([gpu, unreachable(-1)]), seconds(0));
        check(
            json!([{"key": "gpu", "operator": "Exists", "tolerationSeconds": 20}, unreachable(300)]),
            seconds(20),
        );
        check(json!([{"operator": "Exists"}]), Plan::Stay);
        check(json!([{"operator": "Exists", "effect": "NoSchedule"}]), seconds(0));
        // The first that matches counts.
        check(json!([{"operator": "Exists"}, unreachable(300)]), Plan::Stay);
    }
}
