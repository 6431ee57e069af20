//! The node's lease in `kube-node-lease`: its sign of life, renewed every ten seconds.

use std::time::Duration;

use edgek_base_lifecycle::{Backoff, sleep};
use edgek_client::{Api, Client, Error, Patch, ResourceRef};
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Node;
use serde_json::{Value, json};
use tracing::warn;

/// The namespace of node leases.
const NAMESPACE: &str = "kube-node-lease";
/// How long a lease holds; a quarter of it passes between renewals.
const SECONDS: u32 = 40;

/// Renews the lease of a node for ever.
pub(super) async fn keep(client: Client, node: String) {
    let leases = client.untyped(ResourceRef::namespaced::<Lease>(), Some(NAMESPACE));
    let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(7));
    loop {
        match renew(&client, &leases, &node).await {
            Ok(()) => {
                backoff.reset();
                sleep(Duration::from_secs(u64::from(SECONDS / 4))).await;
            }
            Err(error) => {
                warn!(%node, %error, "renewing the node's lease failed; it will be tried again");
                backoff.wait().await;
            }
        }
    }
}

async fn renew(client: &Client, leases: &Api<Value>, node: &str) -> Result<(), Error> {
    let spec = json!({"holderIdentity": node, "leaseDurationSeconds": SECONDS, "renewTime": now()});
    match leases.patch(node, "", &Patch::Merge(json!({ "spec": spec }))).await {
        Err(error) if error.is_not_found() => {}
        renewed => return renewed.map(|_| ()),
    }
    let owner = client.cluster::<Node>().get(node).await?;
    let lease = lease(node, owner.metadata.uid.as_deref().unwrap_or_default(), &spec);
    leases.create(&lease).await.map(|_| ())
}

fn lease(node: &str, uid: &str, spec: &Value) -> Value {
    json!({
        "metadata": {
            "name": node,
            "namespace": NAMESPACE,
            "ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": node, "uid": uid}],
        },
        "spec": spec,
    })
}

fn now() -> String {
    Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string()
}
