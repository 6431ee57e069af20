//! Pods that nobody ends: those on nodes that are gone, and those that are deleted before they got a node (upstream:
//! `podgc/gc_controller.go`).

use std::sync::Arc;
use std::time::Duration;

use edgek_client::{Client, Delete, Error};
use edgek_control_runtime::{Key, Next, Queue, run};
use k8s_openapi::api::core::v1::{Node, Pod};

use crate::informers::Informers;
use crate::{Start, object};

/// A node that is gone may come back within this time.
const QUARANTINE: Duration = Duration::from_secs(40);

/// When a pod is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Look {
    First,
    /// Its node was missing a while ago.
    AfterQuarantine,
}

/// Starts the controller; its keys are those of pods.
pub(crate) fn start(start: &Start<'_>, client: Client) {
    let (informers, queue) = (start.informers.clone(), Queue::<(Key, Look)>::new());
    let waiting = queue.clone();
    informers.pods.on_change(move |change| {
        if change.new.is_some() {
            waiting.add((change.key(), Look::First));
        }
    });
    let (waiting, pods) = (queue.clone(), informers.pods.clone());
    informers.nodes.on_change(move |change| {
        if change.new.is_none() {
            pods.items("").into_iter().for_each(|pod| waiting.add((pod.key.clone(), Look::First)));
        }
    });
    let later = queue.clone();
    run(start.scope, "pod-garbage-collector", &queue, 1, move |(key, look)| {
        let (client, informers, later) = (client.clone(), informers.clone(), later.clone());
        async move {
            if reconcile(&client, &informers, &key, look).await? == Outcome::Quarantine {
                later.add_after((key, Look::AfterQuarantine), QUARANTINE);
            }
            Ok::<_, Error>(Next::Wait)
        }
    });
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Done,
    Quarantine,
}

async fn reconcile(
    client: &Client,
    informers: &Arc<Informers>,
    key: &Key,
    look: Look,
) -> Result<Outcome, Error> {
    informers.nodes.synced().await;
    let Some(pod) = informers.pods.get(key) else { return Ok(Outcome::Done) };
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).unwrap_or_default();
    if node.is_empty() {
        if pod.metadata.deletion_timestamp.is_some() {
            delete(client, key, &pod).await?;
        }
        return Ok(Outcome::Done);
    }
    if informers.nodes.item(&Key::new("", node)).is_some() {
        return Ok(Outcome::Done);
    }
    if look == Look::First {
        return Ok(Outcome::Quarantine);
    }
    match client.cluster::<Node>().get(node).await {
        Ok(_) => Ok(Outcome::Done),
        Err(error) if error.is_not_found() => delete(client, key, &pod).await.map(|()| Outcome::Done),
        Err(error) => Err(error),
    }
}

/// At once: there is no kubelet that could end it.
async fn delete(client: &Client, key: &Key, pod: &Pod) -> Result<(), Error> {
    let options = Delete::now(object::uid(&pod.metadata));
    match client.namespaced::<Pod>(&key.namespace).delete(&key.name, &options).await {
        Err(error) if !error.is_not_found() => Err(error),
        _ => Ok(()),
    }
}
