//! The root certificate: every namespace has a config map by which its pods recognise the API server (upstream:
//! `rootcacertpublisher/publisher.go`).

use std::collections::BTreeMap;
use std::sync::Arc;

use edgek_client::{Client, Error};
use edgek_control_runtime::{Key, Next, Queue, run};
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::Start;
use crate::object::is_active_namespace;

/// The config map's name.
pub(crate) const NAME: &str = "kube-root-ca.crt";
const FILE: &str = "ca.crt";
const DESCRIPTION: (&str, &str) = (
    "kubernetes.io/description",
    "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes clusters.",
);

/// Starts the controller; its keys are the names of namespaces.
pub(crate) fn start(start: &Start<'_>, client: Client, root_ca: &str) {
    let (informers, queue, root_ca) =
        (start.informers.clone(), Queue::<String>::new(), Arc::<str>::from(root_ca));
    let waiting = queue.clone();
    informers.namespaces.on_change(move |change| waiting.add(change.key().name));
    let waiting = queue.clone();
    informers.root_cas.on_change(move |change| waiting.add(change.key().namespace));
    run(start.scope, "root-ca-cert-publisher", &queue, 1, move |namespace| {
        let (informers, client, root_ca) = (informers.clone(), client.clone(), root_ca.clone());
        async move {
            informers.root_cas.synced().await;
            if informers.namespaces.get(&Key::new("", &*namespace)).is_some_and(is_active_namespace) {
                let present = informers.root_cas.get(&Key::new(&*namespace, NAME));
                publish(&client, &namespace, present, &root_ca).await?;
            }
            Ok::<_, Error>(Next::Wait)
        }
    });
}

async fn publish(
    client: &Client,
    namespace: &str,
    present: Option<ConfigMap>,
    root_ca: &str,
) -> Result<(), Error> {
    let data = BTreeMap::from([(FILE.to_owned(), root_ca.to_owned())]);
    let maps = client.namespaced::<ConfigMap>(namespace);
    let Some(mut map) = present else {
        let metadata = ObjectMeta {
            name: Some(NAME.to_owned()),
            namespace: Some(namespace.to_owned()),
            annotations: Some(BTreeMap::from([(DESCRIPTION.0.to_owned(), DESCRIPTION.1.to_owned())])),
            ..ObjectMeta::default()
        };
        let map = ConfigMap { metadata, data: Some(data), ..ConfigMap::default() };
        return match maps.create(&map).await {
            Err(error) if !error.is_already_exists() => Err(error),
            _ => Ok(()),
        };
    };
    if map.data.as_ref() != Some(&data) {
        map.data = Some(data);
        maps.replace(NAME, &map).await?;
    }
    Ok(())
}
