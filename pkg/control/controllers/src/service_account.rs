//! Service accounts: every namespace has one named `default` (upstream: `serviceaccounts_controller.go`).

use edgek_client::{Client, Error};
use edgek_control_runtime::{Key, Next, Queue, run};
use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::Start;
use crate::object::is_active_namespace;

const NAME: &str = "default";

/// Starts the controller; its keys are the names of namespaces.
pub(crate) fn start(start: &Start<'_>, client: Client) {
    let (informers, queue) = (start.informers.clone(), Queue::<String>::new());
    let waiting = queue.clone();
    informers.namespaces.on_change(move |change| waiting.add(change.key().name));
    let waiting = queue.clone();
    informers.service_accounts.on_change(move |change| {
        if change.new.is_none() && change.key().name == NAME {
            waiting.add(change.key().namespace);
        }
    });
    run(start.scope, "service-account-controller", &queue, 1, move |namespace| {
        let (informers, client) = (informers.clone(), client.clone());
        async move {
            informers.service_accounts.synced().await;
            let active =
                informers.namespaces.get(&Key::new("", &*namespace)).is_some_and(is_active_namespace);
            let there = informers.service_accounts.item(&Key::new(&*namespace, NAME)).is_some();
            if active && !there {
                create(&client, &namespace).await?;
            }
            Ok::<_, Error>(Next::Wait)
        }
    });
}

async fn create(client: &Client, namespace: &str) -> Result<(), Error> {
    let metadata = ObjectMeta {
        name: Some(NAME.to_owned()),
        namespace: Some(namespace.to_owned()),
        ..ObjectMeta::default()
    };
    let account = ServiceAccount { metadata, ..ServiceAccount::default() };
    match client.namespaced::<ServiceAccount>(namespace).create(&account).await {
        Err(error) if !error.is_already_exists() => Err(error),
        _ => Ok(()),
    }
}
