//! Certificates by CertificateSigningRequest: a node asks the cluster to certify its key, and waits for the answer.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use edgek_base_pki::request;
use edgek_client::{Client, Error, ResourceRef, WatchQuery};
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use serde_json::{Value, json};

/// How long the cluster may take to decide.
const DECISION: Duration = Duration::from_secs(60);
const NODES: &str = "system:nodes";

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    /// The cluster does not want to.
    #[error("the certificate request was denied: {message}")]
    Denied {
        /// For programs.
        reason: String,
        /// For people.
        message: String,
    },
    /// Nobody has answered.
    #[error("nobody has decided about the certificate request within {} s", DECISION.as_secs())]
    Undecided,
    /// The API does not take the request.
    #[error(transparent)]
    Api(#[from] Error),
    /// The key is unusable.
    #[error(transparent)]
    Key(#[from] edgek_base_pki::Error),
}

/// A certificate for the client that `user` is, PEM.
pub(crate) async fn for_client(client: &Client, key: &str, user: &str) -> Result<String, Refusal> {
    let pem = request::make(key, user, NODES, &[])?;
    ask(client, &pem, "kubernetes.io/kube-apiserver-client-kubelet", "client auth").await
}

/// A certificate for the server that answers to `names` on the node that is `user`, PEM.
pub(crate) async fn for_server(
    client: &Client,
    key: &str,
    user: &str,
    names: &[String],
) -> Result<String, Refusal> {
    let pem = request::make(key, user, NODES, names)?;
    ask(client, &pem, "kubernetes.io/kubelet-serving", "server auth").await
}

async fn ask(client: &Client, pem: &str, signer: &str, purpose: &str) -> Result<String, Refusal> {
    let requests = client.untyped(ResourceRef::cluster::<CertificateSigningRequest>(), None);
    let object = json!({
        "apiVersion": "certificates.k8s.io/v1",
        "kind": "CertificateSigningRequest",
        "metadata": {"generateName": "node-csr-"},
        "spec": {
            "request": STANDARD.encode(pem),
            "signerName": signer,
            "usages": ["digital signature", purpose],
        },
    });
    let made = requests.create(&object).await?;
    let name = made["metadata"]["name"].as_str().unwrap_or_default();
    let query =
        WatchQuery { fields: format!("metadata.name={name}"), initial: true, ..WatchQuery::default() };
    let mut watch = requests.watch(&query).await?;
    let decided = tokio::time::timeout(DECISION, async {
        while let Some(event) = watch.next().await? {
            let object: Value = serde_json::from_slice(&event.object).map_err(Error::Decode)?;
            if let Some(decision) = decision(&object["status"]) {
                return decision;
            }
        }
        Err(Refusal::Undecided)
    });
    decided.await.unwrap_or(Err(Refusal::Undecided))
}

fn decision(status: &Value) -> Option<Result<String, Refusal>> {
    if let Some(certificate) = status["certificate"].as_str().and_then(|text| STANDARD.decode(text).ok()) {
        return Some(Ok(String::from_utf8_lossy(&certificate).into_owned()));
    }
    let conditions = status["conditions"].as_array()?;
    let against =
        conditions.iter().find(|condition| condition["type"] == "Denied" || condition["type"] == "Failed")?;
    let text = |field: &str| against[field].as_str().unwrap_or_default().to_owned();
    Some(Err(Refusal::Denied { reason: text("reason"), message: text("message") }))
}
