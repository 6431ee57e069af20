//! `Dispatcher`: one task per pod, woken by the pod's changes and by the runtime's events.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use edgek_base_lifecycle::{Backoff, Scope};
use edgek_control_runtime::{Informer, Key};
use edgek_node_runtime::Event;
use k8s_openapi::api::core::v1::Pod;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tracing::warn;

use super::adopt;
use crate::context::Context;
use crate::pod_task::{PodTask, Update};
use crate::record::Records;

/// A pod's task as the dispatcher knows it.
struct Entry {
    updates: watch::Sender<Update>,
    wake: Arc<Notify>,
}

/// Starts and wakes the pods' tasks.
pub(super) struct Dispatcher {
    context: Arc<Context>,
    records: Records,
    scope: Scope,
    /// By uid: a pod of the same name can come while the one before still ends.
    entries: BTreeMap<String, Entry>,
}

/// What the informer told since the dispatcher last looked.
#[derive(Default)]
struct Inbox {
    changed: Mutex<Vec<(Key, Option<Pod>, Option<Pod>)>>,
    filled: Notify,
}

impl Dispatcher {
    pub(super) fn new(context: Arc<Context>, records: Records, scope: Scope) -> Self {
        Self { context, records, scope, entries: BTreeMap::new() }
    }

    pub(super) async fn run(mut self, pods: Informer<Pod>) {
        let mut events = self.context.runtime.events();
        pods.synced().await;
        let inbox = Arc::new(Inbox::default());
        let filler = inbox.clone();
        pods.on_change(move |change| {
            let old = change.old.and_then(|item| item.decode());
            let new = change.new.and_then(|item| item.decode());
            filler.changed.lock().push((change.key(), old, new));
            filler.filled.notify_one();
        });
        self.take(&inbox);
        self.adopt().await;
        loop {
            tokio::select! {
                () = inbox.filled.notified() => self.take(&inbox),
                event = events.next() => match event {
                    Some(Event::Container { pod_uid, .. }) => self.wake(&pod_uid),
                    Some(Event::Resync) => self.entries.values().for_each(|entry| entry.wake.notify_one()),
                    None => return,
                },
            }
        }
    }

    /// Ends what is left of pods that are no more, trying until the runtime answers.
    async fn adopt(&mut self) {
        let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(10));
        loop {
            let known = self.entries.keys().cloned().collect();
            match adopt::orphans(&self.context, &known).await {
                Ok(orphans) => {
                    for orphan in orphans {
                        let context = self.context.clone();
                        self.scope.spawn("orphan", async move { adopt::end(&context, orphan).await });
                    }
                    return;
                }
                Err(error) => {
                    warn!(%error, "the runtime does not answer yet");
                    backoff.wait().await;
                }
            }
        }
    }

    fn take(&mut self, inbox: &Inbox) {
        let changes = std::mem::take(&mut *inbox.changed.lock());
        for (_, old, new) in changes {
            let uid = |pod: &Pod| pod.metadata.uid.clone().unwrap_or_default();
            let replaced = match (&old, &new) {
                (Some(old), Some(new)) => uid(old) != uid(new),
                (Some(_), None) => true,
                _ => false,
            };
            if let Some(old) = old.filter(|_| replaced)
                && let Some(entry) = self.entries.remove(&uid(&old))
            {
                entry.updates.send_replace(Update { pod: Arc::new(old), gone: true });
            }
            if let Some(pod) = new {
                self.update(uid(&pod), Arc::new(pod));
            }
        }
    }

    fn update(&mut self, uid: String, pod: Arc<Pod>) {
        let update = Update { pod, gone: false };
        if let Some(entry) = self.entries.get(&uid) {
            entry.updates.send_replace(update);
            return;
        }
        let (updates, receiver) = watch::channel(update);
        let wake = Arc::new(Notify::new());
        let task =
            PodTask::new(self.context.clone(), self.records.clone(), &self.scope, receiver, wake.clone());
        self.scope.spawn("pod", task.run());
        self.entries.insert(uid, Entry { updates, wake });
    }

    fn wake(&self, uid: &str) {
        if let Some(entry) = self.entries.get(uid) {
            entry.wake.notify_one();
        }
    }
}
