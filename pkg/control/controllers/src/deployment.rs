//! Deployments: a ReplicaSet for each template, and a way from one to the next (upstream:
//! `deployment/deployment_controller.go`).

mod progress;
mod revision;
mod sizes;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use edgek_base_lifecycle::Scope;
use edgek_client::{Client, Delete, Error, Patch};
use edgek_control_runtime::{Change, Item, Key, Kind, Next, Queue, Recorder, run};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::Pod;
use serde_json::json;

use crate::informers::Informers;
use crate::object::{self, Ownership};
use crate::{API_VERSION, Start};
use progress::NewSet;
use sizes::{Scale, Sizes, Strategy};

const KIND: &str = "Deployment";
const WORKERS: usize = 5;

#[derive(Clone)]
struct Controller {
    client: Client,
    informers: Arc<Informers>,
    queue: Queue<Key>,
    events: Recorder,
}

/// A deployment as one reconcile sees it, with what it has changed already.
struct Rollout {
    key: Key,
    /// What it was, to see whether the status must be written.
    before: Deployment,
    deployment: Deployment,
    new: Option<ReplicaSet>,
    old: Vec<ReplicaSet>,
}

/// Starts the controller; its keys are those of Deployments.
pub(crate) fn start(start: &Start<'_>, client: Client) {
    let events = Recorder::start(start.scope, client.clone(), "deployment-controller", "");
    let controller = Controller { client, informers: start.informers.clone(), queue: Queue::new(), events };
    controller.watch();
    controller.work(start.scope);
}

impl Controller {
    fn watch(&self) {
        let this = self.clone();
        self.informers.deployments.on_change(move |change| this.queue.add(change.key()));
        let this = self.clone();
        self.informers.replica_sets.on_change(move |change| this.set_changed(change));
        let this = self.clone();
        self.informers.pods.on_change(move |change| this.pod_changed(change));
    }

    fn work(self, scope: &Scope) {
        let queue = self.queue.clone();
        run(scope, "deployment-controller", &queue, WORKERS, move |key| {
            let this = self.clone();
            async move { this.reconcile(key).await }
        });
    }

    fn set_changed(&self, change: Change<'_>) {
        for item in change.old.into_iter().chain(change.new) {
            self.wake_owner(item);
        }
        let Some(set) = change.new.filter(|set| set.controller.is_empty()) else { return };
        for deployment in self.informers.deployments.list(&set.key.namespace) {
            if selects(&deployment, set) {
                self.queue.add(object::key(&deployment.metadata));
            }
        }
    }

    fn wake_owner(&self, set: &Item) {
        if let Some(owner) = Ownership::of(set).controller(KIND) {
            self.queue.add(Key::new(&*set.key.namespace, &*owner.name));
        }
    }

    /// A deployment that is recreated waits for the end of its old pods.
    fn pod_changed(&self, change: Change<'_>) {
        let Some(pod) = change.old.filter(|_| change.new.is_none()) else { return };
        let Some(owner) = Ownership::of(pod).controller("ReplicaSet").cloned() else { return };
        if let Some(set) = self.informers.replica_sets.item(&Key::new(&*pod.key.namespace, owner.name)) {
            self.wake_owner(&set);
        }
    }

    async fn reconcile(&self, key: Key) -> Result<Next, Error> {
        self.informers.replica_sets.synced().await;
        self.informers.pods.synced().await;
        let Some(deployment) = self.informers.deployments.get(&key) else { return Ok(Next::Wait) };
        let sets = self.claim(&deployment).await?;
        let (new, old) = revision::split(&deployment, sets);
        let mut rollout = Rollout { key, before: deployment.clone(), deployment, new, old };
        let outcome = self.advance(&mut rollout).await;
        let now = Timestamp::now();
        let mut status = progress::status(&rollout.deployment, rollout.new.as_ref(), &rollout.old, now);
        if matches!(outcome, Ok(Stage::Rollout)) {
            let Rollout { deployment, new, old, .. } = &rollout;
            progress::note_progress(deployment, &mut status, new.as_ref(), old, now);
        }
        rollout.deployment.status = Some(status);
        let written = self.write(&rollout).await;
        outcome?;
        written?;
        let status = rollout.deployment.status.as_ref();
        let check = status.and_then(|status| progress::next_check(&rollout.deployment, status, now));
        Ok(check.map_or(Next::Wait, Next::After))
    }

    async fn advance(&self, rollout: &mut Rollout) -> Result<Stage, Error> {
        if rollout.deployment.metadata.deletion_timestamp.is_some() {
            return Ok(Stage::Status);
        }
        progress::note_pause(&mut rollout.deployment, Timestamp::now());
        self.refresh_new(rollout).await?;
        let sizes = Sizes::of(&rollout.deployment);
        let paused = rollout.deployment.spec.paused.unwrap_or_default();
        if paused || sizes::is_scaling(&sizes, rollout.new.as_ref(), &rollout.old) {
            let scales = sizes::spread(&sizes, rollout.new.as_ref(), &rollout.old);
            self.scale(rollout, &sizes, scales).await?;
            if paused {
                self.clean_up(rollout).await?;
            }
            return Ok(Stage::Status);
        }
        match sizes.strategy {
            Strategy::Rolling => self.roll(rollout, &sizes).await?,
            Strategy::Recreate => self.recreate(rollout, &sizes).await?,
        }
        Ok(Stage::Rollout)
    }

    async fn roll(&self, rollout: &mut Rollout, sizes: &Sizes) -> Result<(), Error> {
        self.create_new(rollout).await?;
        let Some(new) = &rollout.new else { return Ok(()) };
        let scales = sizes::roll(sizes, new, &rollout.old);
        if scales.is_empty() { self.finish(rollout).await } else { self.scale(rollout, sizes, scales).await }
    }

    async fn recreate(&self, rollout: &mut Rollout, sizes: &Sizes) -> Result<(), Error> {
        let scales = sizes::empty(&rollout.old);
        if !scales.is_empty() {
            return self.scale(rollout, sizes, scales).await;
        }
        if self.has_old_pods(rollout) {
            return Ok(());
        }
        self.create_new(rollout).await?;
        let scales = sizes::spread(sizes, rollout.new.as_ref(), &[]);
        self.scale(rollout, sizes, scales).await?;
        self.finish(rollout).await
    }

    async fn finish(&self, rollout: &Rollout) -> Result<(), Error> {
        let status = rollout.deployment.status.clone().unwrap_or_default();
        if progress::is_complete(&rollout.deployment, &status) {
            self.clean_up(rollout).await
        } else {
            Ok(())
        }
    }

    /// Whether pods of another template run, or are still counted.
    fn has_old_pods(&self, rollout: &Rollout) -> bool {
        let counted = |set: &ReplicaSet| set.status.as_ref().is_some_and(|status| status.replicas > 0);
        let uids: Vec<_> = rollout.old.iter().map(|set| object::uid(&set.metadata)).collect();
        let pods = &self.informers.pods;
        let old: Vec<Pod> =
            pods.select(&rollout.key.namespace, |pod| uids.contains(&pod.controller.as_str()));
        rollout.old.iter().any(counted) || old.iter().any(|pod| !object::is_finished(pod))
    }

    /// The deployment's sets, after it has adopted and released some.
    async fn claim(&self, deployment: &Deployment) -> Result<Vec<ReplicaSet>, Error> {
        let (Key { namespace, .. }, uid) =
            (object::key(&deployment.metadata), object::uid(&deployment.metadata));
        let sets = self.client.namespaced::<ReplicaSet>(&namespace);
        let ending = deployment.metadata.deletion_timestamp.is_some();
        let mut owned = Vec::new();
        for item in self.informers.replica_sets.items(&namespace) {
            let mine = item.controller == uid;
            let change = match (mine, selects(deployment, &item)) {
                (true, true) => None,
                (true, false) if !ending => Some(json!({"$patch": "delete", "uid": uid})),
                (false, true) if !ending && item.controller.is_empty() => {
                    Some(json!(object::controller(API_VERSION, KIND, &deployment.metadata)))
                }
                _ => continue,
            };
            let Some(owner) = change else {
                owned.extend(item.decode::<ReplicaSet>());
                continue;
            };
            if Ownership::of(&item).deletion_timestamp.is_some() {
                continue;
            }
            let patch = json!({"metadata": {"uid": item.uid, "ownerReferences": [owner]}});
            match sets.patch(&item.key.name, "", &Patch::Strategic(patch)).await {
                Ok(set) if !mine => owned.push(set),
                Err(error) if !error.is_not_found() && !error.is_invalid() => return Err(error),
                _ => {}
            }
        }
        Ok(owned)
    }

    /// Brings the annotations of the set that has the present template up to date.
    async fn refresh_new(&self, rollout: &mut Rollout) -> Result<(), Error> {
        let Some(present) = &rollout.new else { return Ok(()) };
        let mut set = present.clone();
        revision::annotate(&rollout.deployment, &mut set, revision::max_revision(&rollout.old) + 1);
        set.spec.min_ready_seconds = rollout.deployment.spec.min_ready_seconds;
        if set != *present {
            let sets = self.client.namespaced::<ReplicaSet>(&rollout.key.namespace);
            set = sets.replace(object::name(&present.metadata), &set).await?;
        }
        rollout.found_new(set, NewSet::Found);
        Ok(())
    }

    async fn create_new(&self, rollout: &mut Rollout) -> Result<(), Error> {
        if rollout.new.is_some() {
            return Ok(());
        }
        let wanted = revision::new_set(&rollout.deployment, &rollout.old);
        let name = object::name(&wanted.metadata).to_owned();
        let sets = self.client.namespaced::<ReplicaSet>(&rollout.key.namespace);
        match sets.create(&wanted).await {
            Ok(set) => {
                if sizes::wanted(&set) > 0 {
                    self.tell_scaled(rollout, "up", &name, 0, sizes::wanted(&set));
                }
                rollout.found_new(set, NewSet::Created);
                Ok(())
            }
            Err(error) if error.is_already_exists() => {
                let set = sets.get(&name).await?;
                let owner =
                    set.metadata.owner_references.iter().flatten().find(|it| it.controller == Some(true));
                let mine = owner.is_some_and(|owner| owner.uid == object::uid(&rollout.deployment.metadata));
                if mine && revision::is_of(&rollout.deployment, &set) {
                    rollout.found_new(set, NewSet::Found);
                    return Ok(());
                }
                // Two templates with one hash: the count makes the next hash another one.
                let status = rollout.deployment.status.get_or_insert_default();
                status.collision_count = Some(status.collision_count.unwrap_or_default() + 1);
                Err(error)
            }
            Err(error) if object::is_namespace_ending(&error) => Ok(()),
            Err(error) => {
                let text = error.to_string();
                progress::note_new_set(
                    &mut rollout.deployment,
                    &name,
                    NewSet::Failed(&text),
                    Timestamp::now(),
                );
                let about = object::involved(API_VERSION, KIND, &rollout.deployment.metadata);
                let message = format!("Failed to create new replica set \"{name}\": {text}");
                self.events.record(&about, Kind::Warning, "ReplicaSetCreateError", message);
                Err(error)
            }
        }
    }

    async fn scale(&self, rollout: &mut Rollout, sizes: &Sizes, scales: Vec<Scale>) -> Result<(), Error> {
        let sets = self.client.namespaced::<ReplicaSet>(&rollout.key.namespace);
        for Scale { set: name, to } in scales {
            let mut all = rollout.old.iter_mut().chain(&mut rollout.new);
            let Some(present) = all.find(|set| object::name(&set.metadata) == name) else { continue };
            let mut set = present.clone();
            let from = sizes::wanted(&set);
            set.spec.replicas = Some(to);
            revision::annotate_sizes(sizes, &mut set);
            if set == *present {
                continue;
            }
            *present = sets.replace(&name, &set).await?;
            if from != to {
                self.tell_scaled(rollout, if from < to { "up" } else { "down" }, &name, from, to);
            }
        }
        Ok(())
    }

    fn tell_scaled(&self, rollout: &Rollout, direction: &str, set: &str, from: i32, to: i32) {
        let about = object::involved(API_VERSION, KIND, &rollout.deployment.metadata);
        let message = format!("Scaled {direction} replica set {set} from {from} to {to}");
        self.events.record(&about, Kind::Normal, "ScalingReplicaSet", message);
    }

    async fn clean_up(&self, rollout: &Rollout) -> Result<(), Error> {
        let sets = self.client.namespaced::<ReplicaSet>(&rollout.key.namespace);
        for set in revision::surplus(&rollout.deployment, &rollout.old) {
            let options = Delete { uid: set.metadata.uid.clone(), ..Delete::default() };
            match sets.delete(object::name(&set.metadata), &options).await {
                Err(error) if !error.is_not_found() => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// Writes the status and the revision if they have changed.
    async fn write(&self, rollout: &Rollout) -> Result<(), Error> {
        if rollout.deployment != rollout.before {
            let deployments = self.client.namespaced::<Deployment>(&rollout.key.namespace);
            deployments.replace_part(&rollout.key.name, "status", &rollout.deployment).await?;
        }
        Ok(())
    }
}

/// How far a reconcile goes with the status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Only the counts: nobody waits for progress.
    Status,
    /// Also whether there is progress.
    Rollout,
}

impl Rollout {
    /// The new set is there: its revision is the deployment's.
    fn found_new(&mut self, set: ReplicaSet, what: NewSet<'_>) {
        let annotations = set.metadata.annotations.as_ref();
        if let Some(revision) = annotations.and_then(|all| all.get(revision::REVISION)) {
            let annotations = self.deployment.metadata.annotations.get_or_insert_default();
            annotations.insert(revision::REVISION.to_owned(), revision.clone());
        }
        progress::note_new_set(&mut self.deployment, object::name(&set.metadata), what, Timestamp::now());
        self.new = Some(set);
    }
}

fn selects(deployment: &Deployment, set: &Item) -> bool {
    let selector = object::selector(&deployment.spec.selector);
    selector.is_some_and(|selector| object::selects(&selector, &set.labels))
}
