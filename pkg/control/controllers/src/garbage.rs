//! The garbage collector: objects whose owners are all gone are deleted, and the finalizers `orphan` and
//! `foregroundDeletion` do what they promise (upstream: `garbagecollector/garbagecollector.go`).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use edgek_base_lifecycle::{Backoff, Scope};
use edgek_client::{Client, Delete, Error, ListQuery, Patch, Propagation, ResourceRef};
use edgek_control_runtime::{Change, Informer, Key, Next, Queue, run};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::Notify;
use tracing::warn;

use crate::object::{Ownership, unless_gone};
use crate::{Start, discovery};

const WORKERS: usize = 5;
/// How many objects the server puts together at once.
const PAGE: u32 = 500;
const ORPHAN: &str = "orphan";
/// The resource whose objects make resources.
const DEFINITIONS: &str = "customresourcedefinitions";
const FOREGROUND: &str = "foregroundDeletion";

#[derive(Clone)]
struct Collector {
    client: Client,
    graph: Arc<Mutex<Graph>>,
    /// The uids of objects to look at.
    queue: Queue<String>,
    /// The resources that are followed, each in a scope of its own.
    resources: Arc<Mutex<BTreeMap<Arc<ResourceRef>, Scope>>>,
    /// Told when there may be other resources.
    discover: Arc<Notify>,
}

/// Who owns whom.
#[derive(Default)]
struct Graph {
    objects: HashMap<String, Object>,
    /// The dependents of an owner, which need not be there.
    dependents: HashMap<String, BTreeSet<String>>,
}

#[derive(Clone)]
struct Object {
    resource: Arc<ResourceRef>,
    key: Key,
    revision: String,
    ownership: Ownership,
}

/// Starts the collector as soon as the server tells its resources.
pub(crate) fn start(start: &Start<'_>, client: Client) {
    let collector = Collector {
        client,
        graph: Arc::default(),
        queue: Queue::new(),
        resources: Arc::default(),
        discover: Arc::default(),
    };
    let scope = start.scope.clone();
    start.scope.spawn("garbage collector", async move {
        for informer in collector.follow(&scope).await {
            informer.synced().await;
        }
        let this = collector.clone();
        run(&scope, "generic-garbage-collector", &collector.queue, WORKERS, move |uid: String| {
            let this = this.clone();
            async move { this.reconcile(&uid).await.map(|()| Next::Wait) }
        });
        loop {
            collector.discover.notified().await;
            collector.follow(&scope).await;
        }
    });
}

impl Graph {
    fn insert(&mut self, uid: &str, object: Object) {
        self.remove(uid);
        for owner in &object.ownership.owner_references {
            self.dependents.entry(owner.uid.clone()).or_default().insert(uid.to_owned());
        }
        self.objects.insert(uid.to_owned(), object);
    }

    fn remove(&mut self, uid: &str) -> Option<Object> {
        let object = self.objects.remove(uid)?;
        for owner in &object.ownership.owner_references {
            if let Some(dependents) = self.dependents.get_mut(&owner.uid) {
                dependents.remove(uid);
                if dependents.is_empty() {
                    self.dependents.remove(&owner.uid);
                }
            }
        }
        Some(object)
    }

    /// The objects of a resource that is gone.
    fn forget(&mut self, resource: &ResourceRef) {
        let of_resource = self.objects.iter().filter(|(_, object)| *object.resource == *resource);
        let uids: Vec<_> = of_resource.map(|(uid, _)| uid.clone()).collect();
        for uid in uids {
            self.remove(&uid);
        }
    }

    fn dependents(&self, uid: &str) -> Vec<(String, Object)> {
        let uids = self.dependents.get(uid).into_iter().flatten();
        uids.filter_map(|uid| Some((uid.clone(), self.objects.get(uid)?.clone()))).collect()
    }
}

impl Object {
    fn has(&self, finalizer: &str) -> bool {
        self.ownership.finalizers.iter().any(|present| present == finalizer)
    }

    fn waits_for_dependents(&self) -> bool {
        self.ownership.deletion_timestamp.is_some() && self.has(FOREGROUND)
    }

    fn without_owners(&self, gone: &[&str]) -> Patch {
        let owners = &self.ownership.owner_references;
        let rest: Vec<_> = owners.iter().filter(|owner| !gone.contains(&owner.uid.as_str())).collect();
        Patch::Merge(json!({"metadata": {"resourceVersion": self.revision, "ownerReferences": rest}}))
    }

    /// The patch after which no owner waits for it.
    fn without_blocks(&self) -> Patch {
        let owners = self.ownership.owner_references.iter().cloned();
        let owners: Vec<_> =
            owners.map(|owner| OwnerReference { block_owner_deletion: Some(false), ..owner }).collect();
        Patch::Merge(json!({"metadata": {"resourceVersion": self.revision, "ownerReferences": owners}}))
    }
}

impl Collector {
    /// Follows the resources that there are now; gives those that are new.
    async fn follow(&self, scope: &Scope) -> Vec<Informer<Value>> {
        let present = self.resources().await;
        let mut followed = self.resources.lock();
        followed.retain(|resource, of_resource| {
            let stays = present.contains(resource);
            if !stays {
                of_resource.cancel();
                self.graph.lock().forget(resource);
            }
            stays
        });
        let page = ListQuery { limit: PAGE, ..ListQuery::default() };
        let mut new = Vec::new();
        for resource in present {
            if followed.contains_key(&resource) {
                continue;
            }
            let resource = Arc::new(resource);
            let (of_resource, objects) = (scope.child(), self.client.untyped((*resource).clone(), None));
            let (this, of_kind) = (self.clone(), resource.clone());
            let handler = move |change: Change<'_>| this.changed(&of_kind, change);
            new.push(Informer::start_on_metadata(&of_resource, objects, page.clone(), handler));
            followed.insert(resource, of_resource);
        }
        new
    }

    /// The resources whose objects can be collected.
    async fn resources(&self) -> BTreeSet<ResourceRef> {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(30));
        loop {
            match discovery::resources(&self.client, &["list", "watch", "delete"]).await {
                // Events are many, and nobody's dependents.
                Ok(found) => return found.into_iter().filter(|it| it.plural != "events").collect(),
                Err(error) => warn!(%error, "discovery failed; it will be tried again"),
            }
            backoff.wait().await;
        }
    }

    fn changed(&self, resource: &Arc<ResourceRef>, change: Change<'_>) {
        if resource.plural == DEFINITIONS {
            self.discover.notify_one();
        }
        let mut graph = self.graph.lock();
        if let Some(old) = change.old.filter(|old| change.new.is_none_or(|new| new.uid != old.uid)) {
            let gone = graph.remove(&old.uid);
            let owners = gone.map(|object| object.ownership.owner_references).unwrap_or_default();
            owners.into_iter().for_each(|owner| self.queue.add(owner.uid));
            graph.dependents.get(&old.uid).into_iter().flatten().for_each(|uid| self.queue.add(uid.clone()));
        }
        let Some(new) = change.new else { return };
        let ownership = Ownership::of(new);
        if !ownership.owner_references.is_empty() || ownership.deletion_timestamp.is_some() {
            self.queue.add(new.uid.clone());
        }
        let (key, revision) = (new.key.clone(), new.resource_version.clone());
        graph.insert(&new.uid, Object { resource: resource.clone(), key, revision, ownership });
    }

    async fn reconcile(&self, uid: &str) -> Result<(), Error> {
        let Some(object) = self.graph.lock().objects.get(uid).cloned() else { return Ok(()) };
        if object.ownership.deletion_timestamp.is_some() {
            return self.finish(uid, &object).await;
        }
        let (mut lost, mut waiting, mut kept) = (Vec::new(), Vec::new(), false);
        for owner in &object.ownership.owner_references {
            let known = self.graph.lock().objects.get(&owner.uid).map(Object::waits_for_dependents);
            match known {
                Some(true) => waiting.push(&*owner.uid),
                Some(false) => kept = true,
                None if self.exists(&object, owner).await? => kept = true,
                None => lost.push(&*owner.uid),
            }
        }
        if lost.is_empty() && waiting.is_empty() {
            return Ok(());
        }
        let objects = self.client.untyped((*object.resource).clone(), Some(&object.key.namespace));
        if kept {
            lost.extend(waiting);
            return unless_gone(
                objects.patch(&object.key.name, "", &object.without_owners(&lost)).await.map(|_| ()),
            );
        }
        let dependents = self.graph.lock().dependents(uid);
        let has_dependents = !dependents.is_empty();
        let in_circle = dependents.iter().any(|(_, dependent)| dependent.waits_for_dependents());
        if in_circle && !waiting.is_empty() {
            // Its owner waits for it, and it would wait for its owner: one of them must go first.
            let unblocked = objects.patch(&object.key.name, "", &object.without_blocks()).await;
            unless_gone(unblocked.map(|_| ()))?;
        }
        let propagation = match () {
            () if object.has(ORPHAN) => Propagation::Orphan,
            () if object.has(FOREGROUND) || (!waiting.is_empty() && has_dependents) => {
                Propagation::Foreground
            }
            () => Propagation::Background,
        };
        let options =
            Delete { propagation: Some(propagation), uid: Some(uid.to_owned()), ..Delete::default() };
        unless_gone(objects.delete(&object.key.name, &options).await)
    }

    /// Asks the server for an owner that the graph does not show. One of an unknown kind is left alone.
    async fn exists(&self, dependent: &Object, owner: &OwnerReference) -> Result<bool, Error> {
        let (group, _) = owner.api_version.split_once('/').unwrap_or(("", &owner.api_version));
        let same = |resource: &&Arc<ResourceRef>| resource.group == group && resource.kind == owner.kind;
        let resource = self.resources.lock().keys().find(same).cloned();
        let Some(resource) = resource else { return Ok(true) };
        if resource.namespaced && dependent.key.namespace.is_empty() {
            return Ok(true);
        }
        let namespace = resource.namespaced.then_some(dependent.key.namespace.as_str());
        match self.client.untyped((*resource).clone(), namespace).get(&owner.name).await {
            Ok(found) => Ok(found["metadata"]["uid"] == *owner.uid),
            Err(error) if error.is_not_found() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Does what an ending object's finalizers promise.
    async fn finish(&self, uid: &str, object: &Object) -> Result<(), Error> {
        let dependents = self.graph.lock().dependents(uid);
        if object.has(ORPHAN) {
            for (_, dependent) in &dependents {
                let of_kind =
                    self.client.untyped((*dependent.resource).clone(), Some(&dependent.key.namespace));
                match of_kind.patch(&dependent.key.name, "", &dependent.without_owners(&[uid])).await {
                    Err(error) if !error.is_not_found() => return Err(error),
                    _ => {}
                }
            }
            return self.release(object, ORPHAN).await;
        }
        if !object.has(FOREGROUND) {
            return Ok(());
        }
        let blocks = |dependent: &Object| {
            let mut owners = dependent.ownership.owner_references.iter();
            owners.any(|owner| owner.uid == uid && owner.block_owner_deletion == Some(true))
        };
        if !dependents.iter().any(|(_, dependent)| blocks(dependent)) {
            return self.release(object, FOREGROUND).await;
        }
        dependents.into_iter().for_each(|(uid, _)| self.queue.add(uid));
        Ok(())
    }

    async fn release(&self, object: &Object, finalizer: &str) -> Result<(), Error> {
        let present = &object.ownership.finalizers;
        let rest: Vec<_> = present.iter().filter(|present| *present != finalizer).collect();
        let patch =
            Patch::Merge(json!({"metadata": {"resourceVersion": object.revision, "finalizers": rest}}));
        let objects = self.client.untyped((*object.resource).clone(), Some(&object.key.namespace));
        unless_gone(objects.patch(&object.key.name, "", &patch).await.map(|_| ()))
    }
}
