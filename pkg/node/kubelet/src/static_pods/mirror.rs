//! `Mirrors`: one pod in the API for each static pod, which shows its state. A task per static pod keeps its mirror; the
//! pod itself never waits for the API server.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use edgek_base_lifecycle::{Backoff, Scope};
use edgek_client::{Client, Delete, Error, Patch};
use k8s_openapi::api::core::v1::{Node, Pod, PodStatus};
use parking_lot::Mutex;
use serde_json::json;
use tokio::sync::watch;
use tracing::{debug, warn};

use super::{HASH, MIRROR, annotation, is_mirror};
use crate::status::change;

/// Keeps the mirrors of static pods. Clones share it.
#[derive(Clone)]
pub struct Mirrors {
    client: Client,
    scope: Scope,
    kept: Arc<Mutex<BTreeMap<String, Kept>>>,
}

/// A static pod that is shown.
struct Kept {
    pod: Arc<Pod>,
    wanted: watch::Sender<Wanted>,
}

/// What its mirror is to be.
#[derive(Clone)]
struct Wanted {
    /// `None` when the static pod has ended.
    status: Option<PodStatus>,
    /// How often the mirror was seen to go.
    lost: u64,
}

impl Mirrors {
    /// Mirrors in this API, kept until the scope ends.
    pub fn new(client: Client, scope: Scope) -> Self {
        Self { client, scope, kept: Arc::default() }
    }

    /// Shows the status of a static pod from now on.
    pub fn show(&self, pod: &Arc<Pod>, status: PodStatus) {
        let mut kept = self.kept.lock();
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        if let Some(kept) = kept.get(&uid) {
            kept.wanted.send_modify(|wanted| wanted.status = Some(status));
            return;
        }
        let (wanted, receiver) = watch::channel(Wanted { status: Some(status), lost: 0 });
        kept.insert(uid, Kept { pod: pod.clone(), wanted });
        let keeper = Keeper { client: self.client.clone(), pod: pod.clone(), mirror: None };
        self.scope.spawn("mirror", keeper.run(receiver));
    }

    /// Removes the mirror of a static pod that has ended.
    pub fn end(&self, uid: &str) {
        if let Some(kept) = self.kept.lock().remove(uid) {
            kept.wanted.send_modify(|wanted| wanted.status = None);
        }
    }

    /// Looks after a mirror that was deleted: it is made again.
    pub fn look(&self, mirror: &Pod) {
        for kept in self.kept.lock().values().filter(|kept| place(&kept.pod) == place(mirror)) {
            kept.wanted.send_modify(|wanted| wanted.lost += 1);
        }
    }

    /// Removes a mirror of which there is no static pod: its manifest went while no kubelet ran.
    pub fn remove(&self, mirror: Arc<Pod>) {
        let client = self.client.clone();
        self.scope.spawn("mirror", async move {
            if let Err(error) = delete(&client, &mirror).await {
                warn!(pod = mirror.metadata.name, %error, "the mirror of a pod that is gone is not removed");
            }
        });
    }
}

/// Keeps the mirror of one static pod.
struct Keeper {
    client: Client,
    pod: Arc<Pod>,
    /// The mirror as the API last had it. A node may not read pods that are not there, so it is not looked for.
    mirror: Option<Pod>,
}

impl Keeper {
    async fn run(mut self, mut wanted: watch::Receiver<Wanted>) {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));
        let mut lost = 0;
        loop {
            let now = wanted.borrow_and_update().clone();
            if lost != now.lost {
                lost = now.lost;
                self.mirror = None;
            }
            let done = match &now.status {
                Some(status) => self.show(status).await,
                None => self.end().await,
            };
            match done {
                Ok(()) if now.status.is_none() => return,
                Ok(()) => {
                    backoff.reset();
                    if wanted.changed().await.is_err() {
                        return;
                    }
                }
                Err(error) => {
                    debug!(pod = self.pod.metadata.name, %error, "the mirror of a static pod is not up to date");
                    backoff.wait().await;
                }
            }
        }
    }

    async fn show(&mut self, status: &PodStatus) -> Result<(), Error> {
        let mirror = match self.mirror.take() {
            Some(mirror) => mirror,
            None => self.ensure().await?,
        };
        let change = change(mirror.status.as_ref(), status).map_err(Error::Decode)?;
        let Some(change) = change else {
            self.mirror = Some(mirror);
            return Ok(());
        };
        let (namespace, name) = place(&self.pod);
        let patch = Patch::Merge(json!({"metadata": {"uid": mirror.metadata.uid}, "status": change}));
        self.mirror = Some(self.client.namespaced::<Pod>(namespace).patch(name, "status", &patch).await?);
        Ok(())
    }

    /// The mirror, made in place of one with other contents or one that is being deleted.
    async fn ensure(&self) -> Result<Pod, Error> {
        let node = self.pod.spec.as_ref().and_then(|spec| spec.node_name.clone()).unwrap_or_default();
        let node = self.client.cluster::<Node>().get(&node).await?;
        let new = mirror(&self.pod, node.metadata.uid.as_deref().unwrap_or_default());
        let (namespace, name) = place(&self.pod);
        let pods = self.client.namespaced::<Pod>(namespace);
        match pods.create(&new).await {
            Err(error) if error.is_already_exists() => {}
            result => return result,
        }
        let found = pods.get(name).await?;
        if mirrors(&found, &self.pod) && found.metadata.deletion_timestamp.is_none() {
            return Ok(found);
        }
        if is_mirror(&found) {
            delete(&self.client, &found).await?;
        }
        pods.create(&new).await
    }

    async fn end(&mut self) -> Result<(), Error> {
        match &self.mirror {
            Some(mirror) => delete(&self.client, mirror).await,
            None => Ok(()),
        }
    }
}

async fn delete(client: &Client, mirror: &Pod) -> Result<(), Error> {
    let (namespace, name) = place(mirror);
    let options = Delete::now(mirror.metadata.uid.as_deref().unwrap_or_default());
    match client.namespaced::<Pod>(namespace).delete(name, &options).await {
        Err(error) if error.is_not_found() => Ok(()),
        result => result,
    }
}

/// Whether `found` is the mirror of this very static pod.
pub fn mirrors(found: &Pod, pod: &Pod) -> bool {
    is_mirror(found) && annotation(found, MIRROR) == annotation(pod, HASH)
}

fn place(pod: &Pod) -> (&str, &str) {
    let meta = &pod.metadata;
    (meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default())
}

pub(super) fn mirror(pod: &Pod, node_uid: &str) -> Pod {
    let mut mirror = pod.clone();
    mirror.status = None;
    mirror.metadata.uid = None;
    let hash = annotation(pod, HASH).unwrap_or_default().to_owned();
    mirror.metadata.annotations.get_or_insert_default().insert(MIRROR.to_owned(), hash);
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
    let owner =
        json!([{"apiVersion": "v1", "kind": "Node", "name": node, "uid": node_uid, "controller": true}]);
    // The document is a list of owner references.
    mirror.metadata.owner_references = serde_json::from_value(owner).ok();
    mirror
}
