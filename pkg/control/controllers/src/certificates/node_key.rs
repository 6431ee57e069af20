//! `NodeKeys`: which key is which node. A name belongs to the key that joined with it first, until the Node is deleted:
//! whoever has a token cannot become a node that is there already. The hash of the key is in the Secret
//! `kube-system/<node>.node-key.edgek`.

use std::sync::Arc;
use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use edgek_client::{Api, Client, Delete, Error, ResourceRef};
use edgek_control_runtime::{Key, Next, Queue, run};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use serde_json::{Value, json};

use crate::Start;
use crate::informers::Informers;

/// A key whose node has not registered by then has never been one.
const REGISTRATION: Duration = Duration::from_secs(600);

/// Where the hash stands in the Secret.
const FIELD: &str = "sha256";

/// Whether a key may have a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Claim {
    Granted,
    Taken,
}

/// The keys of the nodes.
#[derive(Clone)]
pub(super) struct NodeKeys {
    client: Client,
    informers: Arc<Informers>,
}

impl NodeKeys {
    /// Begins to forget the keys of nodes that are deleted.
    pub(super) fn start(start: &Start<'_>, client: Client) -> Self {
        let keys = Self { client, informers: start.informers.clone() };
        let queue = Queue::<String>::new();
        let deleted = queue.clone();
        start.informers.nodes.on_change(move |change| {
            if change.new.is_none() {
                deleted.add(change.key().name);
            }
        });
        let forgetful = keys.clone();
        run(start.scope, "node-key-cleaner", &queue, 1, move |node: String| {
            let keys = forgetful.clone();
            async move { keys.forget(&node).await }
        });
        keys
    }

    /// Whether a node may have this key. One that has a certificate already (`known`) may change it.
    pub(super) async fn claim(&self, node: &str, hash: &str, known: bool) -> Result<Claim, Error> {
        self.informers.nodes.synced().await;
        let registered = self.informers.nodes.item(&Key::new("", node)).is_some();
        let secret = match self.secrets().get(&secret_name(node)).await {
            Ok(secret) => Some(secret),
            Err(error) if error.is_not_found() => None,
            Err(error) => return Err(error),
        };
        let free = match &secret {
            None => !registered,
            Some(secret) if holds(secret, hash) => return Ok(Claim::Granted),
            Some(secret) => !registered && age(secret) > REGISTRATION,
        };
        if !known && !free {
            return Ok(Claim::Taken);
        }
        self.forget(node).await?;
        self.secrets().create(&record(node, hash)).await?;
        Ok(Claim::Granted)
    }

    async fn forget(&self, node: &str) -> Result<Next, Error> {
        let delete = Delete { grace_period: Some(0), ..Delete::default() };
        match self.secrets().delete(&secret_name(node), &delete).await {
            Err(error) if !error.is_not_found() => Err(error),
            _ => Ok(Next::Wait),
        }
    }

    fn secrets(&self) -> Api<Value> {
        self.client.untyped(ResourceRef::namespaced::<Secret>(), Some("kube-system"))
    }
}

fn secret_name(node: &str) -> String {
    format!("{node}.node-key.edgek")
}

fn record(node: &str, hash: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": secret_name(node), "namespace": "kube-system"},
        "type": "edgek.io/node-key",
        "data": {FIELD: STANDARD.encode(hash)},
    })
}

fn holds(secret: &Value, hash: &str) -> bool {
    secret["data"][FIELD] == STANDARD.encode(hash)
}

fn age(secret: &Value) -> Duration {
    let made =
        secret["metadata"]["creationTimestamp"].as_str().and_then(|text| text.parse::<Timestamp>().ok());
    made.and_then(|made| Duration::try_from(Timestamp::now().duration_since(made)).ok()).unwrap_or_default()
}
