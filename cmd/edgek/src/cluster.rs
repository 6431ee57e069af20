//! What authentication and authorization must know of the cluster's objects, read from the store.

use std::sync::Arc;

use edgek_api::resource::{Catalog, Resource};
use edgek_api::selector::field;
use edgek_apiserver_authn::{Object, Objects};
use edgek_apiserver_authz::{Kind, NodeObjects, Rbac, Referenced};
use edgek_base_lifecycle::Scope;
use edgek_store_watch::{
    Collection, EventKind, Filter, ListOptions, Revision, Start, Store, WatchEvent, WatchOptions,
};
use futures::StreamExt as _;
use serde_json::Value;
use tracing::warn;

/// The collection of a built-in resource.
fn collection(store: &Store, group: &str, plural: &str) -> Option<Collection> {
    let resource: &Resource = Catalog::builtin().find(group, "v1", plural)?;
    store.collection(resource)
}

/// The store as authenticators and authorizers see it.
pub(crate) struct Cluster(pub(crate) Arc<Store>);

impl Objects for Cluster {
    fn uid(&self, object: Object, namespace: &str, name: &str) -> Option<String> {
        let plural = match object {
            Object::ServiceAccount => "serviceaccounts",
            Object::Pod => "pods",
            Object::Secret => "secrets",
            Object::Node => "nodes",
        };
        let object = collection(&self.0, "", plural)?.get(namespace, name)?;
        Some(object.meta().uid.as_str().to_owned())
    }

    fn bootstrap_token(&self, id: &str) -> Option<Value> {
        let secrets = collection(&self.0, "", "secrets")?;
        let secret = secrets.get("kube-system", &format!("bootstrap-token-{id}"))?;
        serde_json::from_slice(secret.bytes()).ok()
    }
}

impl Cluster {
    /// The pods of a namespace (empty: all) that are bound to a node.
    fn pods_on(&self, node: &str, namespace: &str) -> Vec<Value> {
        let Some(pods) = collection(&self.0, "", "pods") else { return Vec::new() };
        let Ok(fields) = field::Selector::parse(&format!("spec.nodeName={node}"), pods.resource()) else {
            return Vec::new();
        };
        let filter = Filter { namespace: namespace.into(), fields, ..Filter::default() };
        let Ok(list) = pods.list(&ListOptions { filter, ..ListOptions::default() }) else {
            return Vec::new();
        };
        list.items.iter().filter_map(|pod| serde_json::from_slice(pod.bytes()).ok()).collect()
    }

    /// The claims that use a volume.
    fn claims_of(&self, volume: &str) -> Vec<(String, String)> {
        let Some(volumes) = collection(&self.0, "", "persistentvolumes") else { return Vec::new() };
        let Some(object) = volumes.get("", volume) else { return Vec::new() };
        let Ok(object) = serde_json::from_slice::<Value>(object.bytes()) else { return Vec::new() };
        let claim = &object["spec"]["claimRef"];
        match (claim["namespace"].as_str(), claim["name"].as_str()) {
            (Some(namespace), Some(name)) => vec![(namespace.to_owned(), name.to_owned())],
            _ => Vec::new(),
        }
    }
}

impl NodeObjects for Cluster {
    fn is_referenced(&self, node: &str, kind: Referenced, namespace: &str, name: &str) -> bool {
        if kind == Referenced::PersistentVolume {
            return self.claims_of(name).iter().any(|(namespace, claim)| {
                self.is_referenced(node, Referenced::PersistentVolumeClaim, namespace, claim)
            });
        }
        self.pods_on(node, namespace).iter().any(|pod| refers(&pod["spec"], kind, name))
    }

    fn is_bound(&self, node: &str, namespace: &str, pod: &str) -> bool {
        let Some(pods) = collection(&self.0, "", "pods") else { return false };
        let Some(object) = pods.get(namespace, pod) else { return false };
        serde_json::from_slice::<Value>(object.bytes()).is_ok_and(|pod| pod["spec"]["nodeName"] == node)
    }
}

/// Whether a pod's spec names the object (upstream: `VisitPodSecretNames` and its like).
fn refers(spec: &Value, kind: Referenced, name: &str) -> bool {
    match kind {
        Referenced::ServiceAccount => spec["serviceAccountName"] == name,
        Referenced::Secret => {
            let pull = items(&spec["imagePullSecrets"]).any(|secret| secret["name"] == name);
            pull || names(
                spec,
                &["secretKeyRef", "secretRef", "secret", "nodePublishSecretRef"],
                &["name", "secretName"],
                name,
            )
        }
        Referenced::ConfigMap => {
            names(spec, &["configMapKeyRef", "configMapRef", "configMap"], &["name"], name)
        }
        Referenced::PersistentVolumeClaim => names(spec, &["persistentVolumeClaim"], &["claimName"], name),
        Referenced::ResourceClaim => {
            items(&spec["resourceClaims"]).any(|claim| claim["resourceClaimName"] == name)
        }
        Referenced::PersistentVolume | Referenced::VolumeAttachment => false,
    }
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

/// Whether anywhere in `value` one of the `members` names the object in one of its `fields`.
fn names(value: &Value, members: &[&str], fields: &[&str], name: &str) -> bool {
    match value {
        Value::Object(map) => map.iter().any(|(key, inner)| {
            let named = members.contains(&key.as_str()) && fields.iter().any(|field| inner[*field] == name);
            named || names(inner, members, fields, name)
        }),
        Value::Array(list) => list.iter().any(|inner| names(inner, members, fields, name)),
        _ => false,
    }
}

/// The kinds RBAC is made of, and where their objects are.
fn rbac_sources(store: &Store) -> impl Iterator<Item = (Kind, Collection)> {
    let kinds = [
        (Kind::ClusterRole, "clusterroles"),
        (Kind::ClusterRoleBinding, "clusterrolebindings"),
        (Kind::Role, "roles"),
        (Kind::RoleBinding, "rolebindings"),
    ];
    kinds
        .into_iter()
        .filter_map(|(kind, plural)| Some((kind, collection(store, "rbac.authorization.k8s.io", plural)?)))
}

/// Makes RBAC what the store holds now.
pub(crate) fn load_rbac(store: &Store, rbac: &Rbac) -> anyhow::Result<()> {
    for (kind, collection) in rbac_sources(store) {
        load(rbac, kind, &collection)?;
    }
    Ok(())
}

/// Keeps RBAC up to date with the store: all there is at once, and each change as it is committed.
pub(crate) fn follow_rbac(store: &Store, rbac: &Arc<Rbac>, scope: &Scope) -> anyhow::Result<()> {
    for (kind, collection) in rbac_sources(store) {
        let mut revision = load(rbac, kind, &collection)?;
        let rbac = rbac.clone();
        scope.spawn("rbac", async move {
            loop {
                let options = WatchOptions { start: Start::After(revision), ..WatchOptions::default() };
                let Ok(mut watch) = collection.watch(options) else { return };
                while let Some(event) = watch.next().await {
                    apply_event(&rbac, kind, &event);
                }
                // Closed for being slow: what was deleted meanwhile must grant nothing any more.
                let Ok(now) = load(&rbac, kind, &collection) else { return };
                revision = now;
            }
        });
    }
    Ok(())
}

fn load(rbac: &Rbac, kind: Kind, collection: &Collection) -> anyhow::Result<Revision> {
    let list = collection.list(&ListOptions::default())?;
    let objects = list.items.iter().map(|object| {
        let meta = object.meta();
        (&*meta.namespace, &*meta.name, &**object.bytes())
    });
    for (name, error) in rbac.replace(kind, objects) {
        warn!(%error, ?kind, name, "unreadable RBAC object grants nothing");
    }
    Ok(list.revision)
}

fn apply_event(rbac: &Rbac, kind: Kind, event: &WatchEvent) {
    let object = event.object();
    let meta = object.meta();
    let bytes = (event.kind != EventKind::Deleted).then(|| &**object.bytes());
    if let Err(error) = rbac.apply(kind, &meta.namespace, &meta.name, bytes) {
        warn!(%error, ?kind, name = %meta.name, "unreadable RBAC object grants nothing");
    }
}
