//! `Dispatcher`: one task per pod, woken by the pod's changes and by the runtime's events.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use edgek_base_lifecycle::{Backoff, Scope};
use edgek_control_runtime::Informer;
use edgek_node_runtime::Event;
use k8s_openapi::api::core::v1::Pod;
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc, watch};
use tracing::warn;

use super::adopt;
use crate::context::Context;
use crate::evict::Eviction;
use crate::pod_task::{PodTask, Update};
use crate::record::Records;
use crate::static_pods::{self, Change};

/// Changes of the folder that wait.
const STATIC_CHANGES: usize = 16;

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
    /// As it was and as it is.
    changed: Mutex<Vec<(Option<Pod>, Option<Pod>)>>,
    filled: Notify,
}

impl Dispatcher {
    pub(super) fn new(context: Arc<Context>, records: Records, scope: Scope) -> Self {
        Self { context, records, scope, entries: BTreeMap::new() }
    }

    pub(super) async fn run(mut self, pods: Informer<Pod>, mut evictions: mpsc::Receiver<Eviction>) {
        let mut events = self.context.runtime.events();
        let mut statics = self.follow_static_pods();
        let inbox = Arc::new(Inbox::default());
        let filler = inbox.clone();
        pods.on_change(move |change| {
            let old = change.old.and_then(|item| item.decode());
            let new = change.new.and_then(|item| item.decode());
            filler.changed.lock().push((old, new));
            filler.filled.notify_one();
        });
        let synced = pods.synced();
        tokio::pin!(synced);
        let mut complete = false;
        loop {
            tokio::select! {
                () = &mut synced, if !complete => {
                    complete = true;
                    self.take(&inbox);
                    self.adopt().await;
                }
                () = inbox.filled.notified() => self.take(&inbox),
                Some(change) = statics.recv() => self.take_static(change),
                Some(eviction) = evictions.recv() => self.evict(eviction),
                event = events.next() => match event {
                    Some(Event::Container { pod_uid, .. }) => self.wake(&pod_uid),
                    Some(Event::Resync) => self.entries.values().for_each(|entry| entry.wake.notify_one()),
                    None => return,
                },
            }
        }
    }

    /// Takes in the static pods there are, before anything is adopted, and follows their folder.
    fn follow_static_pods(&mut self) -> mpsc::Receiver<Change> {
        let (sender, changes) = mpsc::channel(STATIC_CHANGES);
        let config = self.context.config.clone();
        let folder = config.static_pods();
        if let Err(error) = std::fs::create_dir_all(&folder) {
            warn!(folder = %folder.display(), %error, "there are no static pods");
            return changes;
        }
        for pod in static_pods::read(&folder, &config.node_name).into_values() {
            self.take_static(Change::Run(Box::new(pod)));
        }
        self.scope.spawn("static pods", async move {
            if let Err(error) = static_pods::follow(folder, config.node_name.clone(), sender).await {
                warn!(%error, "static pods are not followed");
            }
        });
        changes
    }

    fn take_static(&mut self, change: Change) {
        match change {
            Change::Run(pod) => self.update(pod.metadata.uid.clone().unwrap_or_default(), Arc::from(pod)),
            Change::End(uid) => {
                let Some(entry) = self.entries.remove(&uid) else { return };
                entry.updates.send_modify(|update| update.gone = true);
                self.context.mirrors.end(&uid);
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
        // A mirror only shows what runs anyway.
        let run_here = |pod: &Pod| !static_pods::is_mirror(pod);
        for (old, new) in changes {
            self.look_after_mirror(old.as_ref(), new.as_ref());
            let (old, new) = (old.filter(run_here), new.filter(run_here));
            let uid = |pod: &Pod| pod.metadata.uid.clone().unwrap_or_default();
            let replaced = match (&old, &new) {
                (Some(old), Some(new)) => uid(old) != uid(new),
                (Some(_), None) => true,
                _ => false,
            };
            if let Some(old) = old.filter(|_| replaced)
                && let Some(entry) = self.entries.remove(&uid(&old))
            {
                entry.updates.send_modify(|update| (update.pod, update.gone) = (Arc::new(old), true));
            }
            if let Some(pod) = new {
                self.update(uid(&pod), Arc::new(pod));
            }
        }
    }

    /// A mirror that is deleted is made again, if there is the static pod; otherwise it goes.
    fn look_after_mirror(&self, old: Option<&Pod>, new: Option<&Pod>) {
        match (old, new) {
            (Some(old), None) if static_pods::is_mirror(old) => self.context.mirrors.look(old),
            (_, Some(new)) if static_pods::is_mirror(new) => {
                if !self.entries.values().any(|entry| static_pods::mirrors(new, &entry.updates.borrow().pod))
                {
                    self.context.mirrors.remove(Arc::new(new.clone()));
                } else if new.metadata.deletion_timestamp.is_some() {
                    self.context.mirrors.look(new);
                }
            }
            _ => {}
        }
    }

    fn update(&mut self, uid: String, pod: Arc<Pod>) {
        if let Some(entry) = self.entries.get(&uid) {
            entry.updates.send_modify(|update| update.pod = pod);
            return;
        }
        let (updates, receiver) = watch::channel(Update { pod, gone: false, evicted: None });
        let wake = Arc::new(Notify::new());
        let task =
            PodTask::new(self.context.clone(), self.records.clone(), &self.scope, receiver, wake.clone());
        self.scope.spawn("pod", task.run());
        self.entries.insert(uid, Entry { updates, wake });
    }

    fn evict(&self, Eviction { uid, message }: Eviction) {
        if let Some(entry) = self.entries.get(&uid) {
            entry.updates.send_modify(|update| update.evicted = Some(message));
        }
    }

    fn wake(&self, uid: &str) {
        if let Some(entry) = self.entries.get(uid) {
            entry.wake.notify_one();
        }
    }
}
