//! ReplicaSets and ReplicationControllers: as many pods as they say (upstream: `replicaset/replica_set.go`).

mod claim;
mod plan;
mod replicator;
mod status;
#[cfg(test)]
mod tests;

use std::marker::PhantomData;
use std::sync::Arc;

use edgek_base_lifecycle::Scope;
use edgek_client::{Client, Delete, Error, Patch};
use edgek_control_runtime::{Change, Key, Kind, Next, Queue, Recorder, run};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::Start;
use crate::expectations::Expectations;
use crate::informers::Informers;
use crate::object::{self, Ownership};
use plan::{Plan, plan};
use replicator::Replicator;

const WORKERS: usize = 5;

#[derive(Clone)]
struct Controller<K> {
    client: Client,
    informers: Arc<Informers>,
    expectations: Expectations,
    queue: Queue<Key>,
    events: Recorder,
    kind: PhantomData<K>,
}

/// Starts the controller of a kind; its keys are those of the kind's objects.
pub(crate) fn start<K: Replicator>(start: &Start<'_>, client_of: impl Fn(&str) -> Client) {
    let client = client_of(K::CONTROLLER);
    let controller = Controller::<K> {
        events: Recorder::start(start.scope, client.clone(), K::CONTROLLER, ""),
        client,
        informers: start.informers.clone(),
        expectations: Expectations::default(),
        queue: Queue::new(),
        kind: PhantomData,
    };
    controller.watch();
    controller.work(start.scope);
}

impl<K: Replicator> Controller<K> {
    fn watch(&self) {
        let this = self.clone();
        K::informer(&self.informers).on_change(move |change| {
            let replaced = change.old.zip(change.new).is_some_and(|(old, new)| old.uid != new.uid);
            if change.new.is_none() || replaced {
                this.expectations.forget(&change.key());
            }
            this.queue.add(change.key());
        });
        let this = self.clone();
        self.informers.pods.on_change(move |change| this.pod_changed(change));
    }

    fn work(self, scope: &Scope) {
        let queue = self.queue.clone();
        run(scope, K::CONTROLLER, &queue, WORKERS, move |key| {
            let this = self.clone();
            async move { this.reconcile(key).await }
        });
    }

    fn pod_changed(&self, change: Change<'_>) {
        let owner_of = |ownership: &Ownership| {
            let owner = ownership.controller(K::KIND)?;
            Some(Key::new(change.key().namespace, &*owner.name))
        };
        let (old, new) = (change.old.map(Ownership::of), change.new.map(Ownership::of));
        if let Some(owner) = old.as_ref().and_then(owner_of) {
            if let Some(old) = change.old.filter(|old| change.new.is_none_or(|new| new.uid != old.uid)) {
                self.expectations.deleted(&owner, &old.uid);
            }
            self.queue.add(owner);
        }
        let (Some(item), Some(new)) = (change.new, new) else { return };
        if let Some(owner) = owner_of(&new) {
            if new.deletion_timestamp.is_some() {
                self.expectations.deleted(&owner, &item.uid);
            }
            if change.old.is_none_or(|old| old.uid != item.uid) {
                self.expectations.created(&owner);
            }
            self.queue.add(owner);
        } else if item.controller.is_empty() && new.deletion_timestamp.is_none() {
            self.wake_adopters(change);
        }
    }

    /// A pod that nobody manages may belong to a set.
    fn wake_adopters(&self, change: Change<'_>) {
        let Some(pod) = change.new else { return };
        if change.old.is_some_and(|old| old.labels == pod.labels && old.controller == pod.controller) {
            return;
        }
        for object in K::informer(&self.informers).list(&pod.key.namespace) {
            let set = object.to_set();
            let selector = object::selector(&set.spec.selector);
            if selector.is_some_and(|selector| object::selects(&selector, &pod.labels)) {
                self.queue.add(object::key(&set.metadata));
            }
        }
    }

    async fn reconcile(&self, key: Key) -> Result<Next, Error> {
        self.informers.pods.synced().await;
        let Some(object) = K::informer(&self.informers).get(&key) else {
            self.expectations.forget(&key);
            return Ok(Next::Wait);
        };
        let set = object.to_set();
        let waits = self.expectations.outstanding(&key);
        let pods = self.claim(&set).await?;
        let (active, rest): (Vec<_>, Vec<_>) = pods.into_iter().partition(object::is_active);
        let managed = if waits.is_none() && set.metadata.deletion_timestamp.is_none() {
            let related = self.related(&set);
            self.apply(&key, &set, plan(set.spec.replicas.unwrap_or(1), &active, &related, Timestamp::now()))
                .await
        } else {
            Ok(())
        };
        let terminating = rest.iter().filter(|pod| !object::is_finished(pod)).count();
        let failure = managed.as_ref().err().map(ToString::to_string);
        let now = Timestamp::now();
        let status = status::status(&set, &active, terminating, failure.as_deref(), now);
        let newer = object.with_status(status);
        if set.status != newer.to_set().status {
            self.client.namespaced::<K>(&key.namespace).replace_part(&key.name, "status", &newer).await?;
        }
        managed?;
        let available = status::next_available(&set, &active, now);
        Ok(waits.or(available).map_or(Next::Wait, Next::After))
    }

    /// The set's pods, after it has adopted those that match it and released those that do not any more.
    async fn claim(&self, set: &ReplicaSet) -> Result<Vec<Pod>, Error> {
        let Key { namespace, .. } = object::key(&set.metadata);
        let uid = object::uid(&set.metadata);
        let candidates =
            self.informers.pods.select(&namespace, |pod| pod.controller == uid || pod.controller.is_empty());
        let claims = claim::claims(set, candidates);
        let pods = self.client.namespaced::<Pod>(&namespace);
        for pod in &claims.released {
            let patch = Patch::Strategic(claim::release(set, pod));
            tolerate(pods.patch(object::name(&pod.metadata), "", &patch).await)?;
        }
        let mut owned = claims.owned;
        for pod in &claims.adopted {
            let patch = Patch::Strategic(claim::adopt::<K>(set, pod));
            owned.extend(tolerate(pods.patch(object::name(&pod.metadata), "", &patch).await)?);
        }
        Ok(owned)
    }

    /// The active pods of all sets with the same owner, which share nodes with this set's.
    fn related(&self, set: &ReplicaSet) -> Vec<Pod> {
        let Key { namespace, name } = object::key(&set.metadata);
        let sets = K::informer(&self.informers);
        let owner =
            sets.item(&Key::new(&*namespace, name)).map(|item| item.controller.clone()).unwrap_or_default();
        let siblings =
            sets.items(&namespace).into_iter().filter(|item| item.controller == owner && !owner.is_empty());
        let mut uids: Vec<String> = siblings.map(|item| item.uid.clone()).collect();
        uids.push(object::uid(&set.metadata).to_owned());
        let pods = self.informers.pods.select(&namespace, |pod| uids.contains(&pod.controller));
        pods.into_iter().filter(object::is_active).collect()
    }

    /// Creates and deletes, and tells people. The first failure ends it: the next one would fail alike.
    async fn apply(&self, key: &Key, set: &ReplicaSet, plan: Plan) -> Result<(), Error> {
        let deletions: Vec<_> =
            plan.deletions.iter().map(|pod| object::uid(&pod.metadata).to_owned()).collect();
        if plan.creations == 0 && deletions.is_empty() {
            return Ok(());
        }
        self.expectations.expect(key, plan.creations, deletions);
        let pods = self.client.namespaced::<Pod>(&key.namespace);
        let about = object::involved(K::API_VERSION, K::KIND, &set.metadata);
        for created in 0..plan.creations {
            match pods.create(&new_pod::<K>(set)).await {
                Ok(pod) => {
                    let text = format!("Created pod: {}", object::name(&pod.metadata));
                    self.events.record(&about, Kind::Normal, "SuccessfulCreate", text);
                }
                Err(error) => {
                    (created..plan.creations).for_each(|_| self.expectations.created(key));
                    if object::is_namespace_ending(&error) {
                        return Ok(());
                    }
                    self.events.record(
                        &about,
                        Kind::Warning,
                        "FailedCreate",
                        format!("Error creating: {error}"),
                    );
                    return Err(error);
                }
            }
        }
        for pod in &plan.deletions {
            let (name, uid) = (object::name(&pod.metadata), object::uid(&pod.metadata));
            let options = Delete { uid: Some(uid.to_owned()), ..Delete::default() };
            match pods.delete(name, &options).await {
                Ok(()) => {
                    self.events.record(
                        &about,
                        Kind::Normal,
                        "SuccessfulDelete",
                        format!("Deleted pod: {name}"),
                    );
                }
                Err(error) if error.is_not_found() => self.expectations.deleted(key, uid),
                Err(error) => {
                    self.expectations.forget(key);
                    self.events.record(
                        &about,
                        Kind::Warning,
                        "FailedDelete",
                        format!("Error deleting: {error}"),
                    );
                    return Err(error);
                }
            }
        }
        Ok(())
    }
}

/// A pod that is gone or was replaced meanwhile needs no change.
fn tolerate(outcome: Result<Pod, Error>) -> Result<Option<Pod>, Error> {
    match outcome {
        Ok(pod) => Ok(Some(pod)),
        Err(error) if error.is_not_found() || error.is_invalid() => Ok(None),
        Err(error) => Err(error),
    }
}

/// A pod as the set's template says.
fn new_pod<K: Replicator>(set: &ReplicaSet) -> Pod {
    let template = set.spec.template.clone().unwrap_or_default();
    let of_template = template.metadata.unwrap_or_default();
    let metadata = ObjectMeta {
        generate_name: Some(format!("{}-", object::name(&set.metadata))),
        namespace: set.metadata.namespace.clone(),
        labels: of_template.labels,
        annotations: of_template.annotations,
        finalizers: of_template.finalizers,
        owner_references: Some(vec![object::controller(K::API_VERSION, K::KIND, &set.metadata)]),
        ..ObjectMeta::default()
    };
    Pod { metadata, spec: template.spec, status: None }
}
