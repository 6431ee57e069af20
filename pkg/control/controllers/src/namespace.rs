//! Namespaces that end: everything in them is deleted, pods first, and then the namespace is let go (upstream:
//! `namespace/deletion/namespaced_resources_deleter.go`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use edgek_client::{Client, Delete, Error, ListQuery, Propagation, ResourceRef};
use edgek_control_runtime::{Key, Next, Queue, run};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Namespace, NamespaceCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::informers::Informers;
use crate::object::Ownership;
use crate::{Start, discovery};

const FINALIZER: &str = "kubernetes";
const WORKERS: usize = 2;
/// When to look again at what others must finish; the end of a pod is seen at once.
const PATIENCE: Duration = Duration::from_secs(5);

/// Starts the controller; its keys are the names of namespaces.
pub(crate) fn start(start: &Start<'_>, client: Client) {
    let (informers, queue) = (start.informers.clone(), Queue::<String>::new());
    let waiting = queue.clone();
    informers.namespaces.on_change(move |change| waiting.add(change.key().name));
    let waiting = queue.clone();
    informers.pods.on_change(move |change| {
        if change.new.is_none() {
            waiting.add(change.key().namespace);
        }
    });
    run(start.scope, "namespace-controller", &queue, WORKERS, move |name| {
        let controller = Controller { client: client.clone(), informers: informers.clone() };
        async move { controller.reconcile(&name).await }
    });
}

struct Controller {
    client: Client,
    informers: Arc<Informers>,
}

/// What is left of a resource.
#[derive(Debug, Default, PartialEq, Eq)]
struct Remaining {
    /// Objects by `pods.` or `deployments.apps`.
    objects: BTreeMap<String, usize>,
    /// Objects by finalizer.
    finalizers: BTreeMap<String, usize>,
}

impl Controller {
    async fn reconcile(&self, name: &str) -> Result<Next, Error> {
        let Some(namespace) = self.informers.namespaces.get(&Key::new("", name)) else {
            return Ok(Next::Wait);
        };
        let finalizers = namespace.spec.iter().filter_map(|spec| spec.finalizers.as_ref()).flatten();
        let held = finalizers.into_iter().any(|finalizer| finalizer == FINALIZER);
        if namespace.metadata.deletion_timestamp.is_none() || !held {
            return Ok(Next::Wait);
        }
        let namespace = self.mark(name, namespace).await?;
        let remaining = self.empty(name).await?;
        if remaining.objects.is_empty() {
            self.finalize(name, namespace).await?;
            return Ok(Next::Wait);
        }
        self.explain(name, namespace, &remaining).await?;
        Ok(Next::After(PATIENCE))
    }

    /// From now on nothing new is admitted to the namespace.
    async fn mark(&self, name: &str, mut namespace: Namespace) -> Result<Namespace, Error> {
        let status = namespace.status.get_or_insert_default();
        if status.phase.as_deref() == Some("Terminating") {
            return Ok(namespace);
        }
        status.phase = Some("Terminating".to_owned());
        self.client.cluster::<Namespace>().replace_part(name, "status", &namespace).await
    }

    /// Deletes everything there is, and tells what remains for now. Other things wait for the last pod, which may
    /// need them to end well.
    async fn empty(&self, namespace: &str) -> Result<Remaining, Error> {
        let resources = discovery::resources(&self.client, &["list", "delete"]).await?;
        let mut namespaced: Vec<_> = resources.into_iter().filter(|resource| resource.namespaced).collect();
        namespaced.sort_by_key(|resource| !is_pods(resource));
        let mut remaining = Remaining::default();
        for resource in namespaced {
            if !is_pods(&resource) && remaining.objects.contains_key("pods.") {
                break;
            }
            self.empty_of(namespace, resource, &mut remaining).await?;
        }
        Ok(remaining)
    }

    async fn empty_of(
        &self,
        namespace: &str,
        resource: ResourceRef,
        remaining: &mut Remaining,
    ) -> Result<(), Error> {
        let title = format!("{}.{}", resource.plural, resource.group);
        let objects = self.client.untyped(resource, Some(namespace)).metadata_only();
        let query = ListQuery::default();
        if objects.list_bytes(&query).await?.0.is_empty() {
            return Ok(());
        }
        let options = Delete { propagation: Some(Propagation::Background), ..Delete::default() };
        objects.delete_collection(&query, &options).await?;
        let left = objects.list_bytes(&query).await?.0;
        if !left.is_empty() {
            remaining.objects.insert(title, left.len());
        }
        for object in left {
            for finalizer in Ownership::parse(&object).finalizers {
                *remaining.finalizers.entry(finalizer).or_default() += 1;
            }
        }
        Ok(())
    }

    async fn finalize(&self, name: &str, mut namespace: Namespace) -> Result<(), Error> {
        if let Some(finalizers) = &mut namespace.spec.get_or_insert_default().finalizers {
            finalizers.retain(|finalizer| finalizer != FINALIZER);
        }
        match self.client.cluster::<Namespace>().replace_part(name, "finalize", &namespace).await {
            Err(error) if !error.is_not_found() => Err(error),
            _ => Ok(()),
        }
    }

    async fn explain(
        &self,
        name: &str,
        mut namespace: Namespace,
        remaining: &Remaining,
    ) -> Result<(), Error> {
        let status = namespace.status.get_or_insert_default();
        let present = status.conditions.take().unwrap_or_default();
        let conditions = conditions(remaining, &present, Timestamp::now());
        if conditions == present {
            return Ok(());
        }
        status.conditions = Some(conditions);
        self.client.cluster::<Namespace>().replace_part(name, "status", &namespace).await.map(|_| ())
    }
}

fn is_pods(resource: &ResourceRef) -> bool {
    resource.group.is_empty() && resource.plural == "pods"
}

/// Why the namespace is still there, for people (upstream: `status_condition_utils.go`).
fn conditions(
    remaining: &Remaining,
    present: &[NamespaceCondition],
    now: Timestamp,
) -> Vec<NamespaceCondition> {
    let list = |counts: &BTreeMap<String, usize>, text: &dyn Fn(&str, usize) -> String| {
        counts.iter().map(|(name, count)| text(name, *count)).collect::<Vec<_>>().join(", ")
    };
    let objects = list(&remaining.objects, &|name, count| format!("{name} has {count} resource instances"));
    let finalizers =
        list(&remaining.finalizers, &|name, count| format!("{name} in {count} resource instances"));
    let fine = |kind, reason, message: &str| (kind, "False", reason, message.to_owned());
    let told = [
        fine(
            "NamespaceDeletionDiscoveryFailure",
            "ResourcesDiscovered",
            "All resources successfully discovered",
        ),
        fine(
            "NamespaceDeletionGroupVersionParsingFailure",
            "ParsedGroupVersions",
            "All legacy kube types successfully parsed",
        ),
        fine(
            "NamespaceDeletionContentFailure",
            "ContentDeleted",
            "All content successfully deleted, may be waiting on finalization",
        ),
        match objects.as_str() {
            "" => fine("NamespaceContentRemaining", "ContentRemoved", "All content successfully removed"),
            objects => (
                "NamespaceContentRemaining",
                "True",
                "SomeResourcesRemain",
                format!("Some resources are remaining: {objects}"),
            ),
        },
        match finalizers.as_str() {
            "" => fine(
                "NamespaceFinalizersRemaining",
                "ContentHasNoFinalizers",
                "All content-preserving finalizers finished",
            ),
            finalizers => (
                "NamespaceFinalizersRemaining",
                "True",
                "SomeFinalizersRemain",
                format!("Some content in the namespace has finalizers remaining: {finalizers}"),
            ),
        },
    ];
    told.into_iter()
        .map(|(kind, status, reason, message)| {
            let same = present.iter().find(|it| it.type_ == kind && it.status == status);
            NamespaceCondition {
                type_: kind.to_owned(),
                status: status.to_owned(),
                reason: Some(reason.to_owned()),
                message: Some(message),
                last_transition_time: same.map_or(Some(Time(now)), |it| it.last_transition_time.clone()),
            }
        })
        .collect()
}
