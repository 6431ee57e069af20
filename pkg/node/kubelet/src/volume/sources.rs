//! [`Sources`]: the objects that the volumes of this node's pods are made from, each watched once, however many pods
//! name it: every pod names the CA of its namespace, and the API server takes only so many requests of one node at a
//! time. Called by `Volumes`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use edgek_base_lifecycle::Scope;
use edgek_client::{Client, ListQuery};
use edgek_control_runtime::{Change, Informer};
use k8s_openapi::api::certificates::v1::ClusterTrustBundle;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::projections;

/// What a volume is made from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Source {
    /// A config map by namespace and name.
    ConfigMap(String, String),
    /// A secret by namespace and name.
    Secret(String, String),
    /// Any trust bundle: they are chosen by labels.
    TrustBundles,
}

impl Source {
    /// What a pod's volumes are made from.
    pub(super) fn of(pod: &Pod) -> BTreeSet<Self> {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let config_map = |name: &String| Self::ConfigMap(namespace.to_owned(), name.clone());
        let secret = |name: &String| Self::Secret(namespace.to_owned(), name.clone());
        let mut sources = BTreeSet::new();
        for volume in pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten()) {
            sources.extend(volume.config_map.iter().map(|source| config_map(&source.name)));
            sources.extend(volume.secret.iter().filter_map(|source| source.secret_name.as_ref()).map(secret));
        }
        for part in projections(pod) {
            sources.extend(part.config_map.iter().map(|source| config_map(&source.name)));
            sources.extend(part.secret.iter().map(|source| secret(&source.name)));
            sources.extend(part.cluster_trust_bundle.iter().map(|_| Self::TrustBundles));
        }
        sources
    }
}

/// The watches.
pub(super) struct Sources {
    scope: Scope,
    client: Client,
    watched: Mutex<BTreeMap<Source, Watched>>,
}

/// One watch and the pods that it tells of changes.
struct Watched {
    scope: Scope,
    pods: Arc<Mutex<Vec<Arc<Notify>>>>,
}

/// A pod follows its sources until this is dropped.
pub(super) struct Following {
    sources: Arc<Sources>,
    names: BTreeSet<Source>,
    changed: Arc<Notify>,
}

impl Sources {
    pub(super) fn new(scope: Scope, client: Client) -> Arc<Self> {
        Arc::new(Self { scope, client, watched: Mutex::default() })
    }

    /// Notifies whenever one of the objects changes, and once at the beginning: it may have changed before.
    pub(super) fn follow(self: &Arc<Self>, names: BTreeSet<Source>, changed: Arc<Notify>) -> Following {
        let mut watched = self.watched.lock();
        for name in &names {
            let watched = watched.entry(name.clone()).or_insert_with(|| self.watch(name));
            watched.pods.lock().push(changed.clone());
        }
        drop(watched);
        changed.notify_one();
        Following { sources: self.clone(), names, changed }
    }

    fn watch(&self, source: &Source) -> Watched {
        let scope = self.scope.child();
        let pods: Arc<Mutex<Vec<Arc<Notify>>>> = Arc::default();
        let told = pods.clone();
        let tell = move |_: Change<'_>| told.lock().iter().for_each(|pod| pod.notify_one());
        let named =
            |name: &str| ListQuery { fields: format!("metadata.name={name}"), ..ListQuery::default() };
        match source {
            Source::ConfigMap(namespace, name) => {
                let api = self.client.namespaced::<ConfigMap>(namespace);
                Informer::start_on_metadata(&scope, api, named(name), tell);
            }
            Source::Secret(namespace, name) => {
                let api = self.client.namespaced::<Secret>(namespace);
                Informer::start_on_metadata(&scope, api, named(name), tell);
            }
            Source::TrustBundles => {
                let api = self.client.cluster::<ClusterTrustBundle>();
                Informer::start_on_metadata(&scope, api, ListQuery::default(), tell);
            }
        }
        Watched { scope, pods }
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        let mut watched = self.sources.watched.lock();
        for name in &self.names {
            let Some(entry) = watched.get(name) else { continue };
            let mut pods = entry.pods.lock();
            pods.retain(|pod| !Arc::ptr_eq(pod, &self.changed));
            if pods.is_empty() {
                entry.scope.cancel();
                drop(pods);
                watched.remove(name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use edgek_client::Body;
    use futures::future::BoxFuture;
    use http::{Request, Response};
    use http_body_util::{BodyExt as _, Full};
    use serde_json::json;

    use super::*;

    /// A client whose lists are empty and whose watches stay open; tells the paths of what is watched now.
    fn client() -> (Client, Arc<Mutex<Vec<String>>>) {
        let open: Arc<Mutex<Vec<String>>> = Arc::default();
        let watched = open.clone();
        let service = tower::service_fn(move |request: Request<Body>| -> BoxFuture<'static, _> {
            let uri = request.uri().to_string();
            let watched = watched.clone();
            Box::pin(async move {
                if uri.contains("watch=true") {
                    watched.lock().push(uri.clone());
                    let _closed = Closed(watched, uri);
                    std::future::pending::<()>().await;
                }
                let list = json!({"kind": "PartialObjectMetadataList", "metadata": {"resourceVersion": "1"}, "items": []});
                let body = Full::from(list.to_string()).map_err(|never: Infallible| match never {});
                Ok::<_, Infallible>(Response::new(body.boxed_unsync()))
            })
        });
        (Client::in_process(service), open)
    }

    struct Closed(Arc<Mutex<Vec<String>>>, String);

    impl Drop for Closed {
        fn drop(&mut self) {
            self.0.lock().retain(|uri| *uri != self.1);
        }
    }

    #[tokio::test]
    async fn an_object_is_watched_once_for_all_pods_and_until_the_last_has_gone() {
        let (client, open) = client();
        let scope = Scope::root();
        let sources = Sources::new(scope.child(), client);
        let source = Source::ConfigMap("n".into(), "c".into());
        let pod = || (Arc::new(Notify::new()), BTreeSet::from([source.clone()]));
        let ((one, names), (other, same)) = (pod(), pod());
        let first = sources.follow(names, one.clone());
        let second = sources.follow(same, other.clone());
        one.notified().await;
        other.notified().await;
        while open.lock().is_empty() {
            tokio::task::yield_now().await;
        }
        drop(first);
        assert_eq!(open.lock().len(), 1, "{:?}", open.lock());
        drop(second);
        scope.idle().await;
        assert!(open.lock().is_empty() && sources.watched.lock().is_empty());
    }
}
