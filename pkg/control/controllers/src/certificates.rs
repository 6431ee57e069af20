//! CertificateSigningRequests: those of nodes are approved, approved ones are signed, old ones go (upstream:
//! `certificates/{approver,signer,cleaner}`). Other than upstream, a name belongs to the node whose key took it first
//! (`node_key.rs`), and nodes get the certificates of their own APIs without being asked about.

mod approve;
mod node_key;
mod sign;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use edgek_base_pki::{Pki, SigningRequest, Usage};
use edgek_client::{Api, Client, Delete, Error, ListQuery, ResourceRef};
use edgek_control_runtime::{Informer, Item, Key, Next, Queue, run};
use jiff::Timestamp;
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use k8s_openapi::api::core::v1::Node;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::Start;
use node_key::NodeKeys;
use sign::Answer;

/// How long a request that was settled stays, and one that nobody settles; as upstream.
const SETTLED: Duration = Duration::from_secs(3600);
const PENDING: Duration = Duration::from_secs(24 * 3600);

/// Starts the controller; its keys are the names of requests. `reader` follows them, `client` acts.
pub(crate) fn start(start: &Start<'_>, reader: &Client, client: Client, pki: Arc<Pki>) {
    let requests = Informer::start(start.scope, reader.untyped(resource(), None), ListQuery::default());
    let queue = Queue::<String>::new();
    let waiting = queue.clone();
    requests.on_change(move |change| waiting.add(change.key().name));
    // A node may ask for the certificate of its API before anybody knows its addresses.
    let (asked, waiting) = (requests.clone(), queue.clone());
    start.informers.nodes.on_change(move |change| {
        if addresses(change.old) != addresses(change.new) {
            asked.items("").iter().for_each(|item| waiting.add(item.key.name.clone()));
        }
    });
    let keys = NodeKeys::start(start, client.clone());
    let controller = Controller { requests, nodes: start.informers.nodes.clone(), client, keys, pki };
    run(start.scope, "certificate-controller", &queue, 1, move |name: String| {
        let controller = controller.clone();
        async move { controller.reconcile(&name).await }
    });
}

fn addresses(node: Option<&Item>) -> Option<Value> {
    Some(node?.decode::<Value>()?["status"]["addresses"].take())
}

fn resource() -> ResourceRef {
    ResourceRef::cluster::<CertificateSigningRequest>()
}

#[derive(Clone)]
struct Controller {
    requests: Informer<Value>,
    nodes: Informer<Node>,
    client: Client,
    keys: NodeKeys,
    pki: Arc<Pki>,
}

/// What a request says.
#[derive(Deserialize)]
struct Request {
    metadata: Metadata,
    spec: Spec,
    #[serde(default)]
    status: Status,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    uid: String,
    creation_timestamp: Timestamp,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    /// PEM in base64.
    request: Base64,
    signer_name: String,
    #[serde(default)]
    usages: Vec<String>,
    expiration_seconds: Option<u64>,
    #[serde(default)]
    username: String,
    #[serde(default)]
    uid: String,
    #[serde(default)]
    groups: Vec<String>,
    #[serde(default)]
    extra: BTreeMap<String, Vec<String>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Status {
    conditions: Vec<Condition>,
    certificate: String,
}

#[derive(Deserialize)]
struct Condition {
    #[serde(rename = "type")]
    kind: String,
}

/// Bytes that stand in base64.
struct Base64(Vec<u8>);

impl<'de> Deserialize<'de> for Base64 {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        STANDARD.decode(text).map(Self).map_err(serde::de::Error::custom)
    }
}

impl Request {
    fn has(&self, condition: &str) -> bool {
        self.status.conditions.iter().any(|there| there.kind == condition)
    }

    /// Whether nothing more will happen to it.
    fn is_settled(&self) -> bool {
        !self.status.certificate.is_empty() || self.has("Denied") || self.has("Failed")
    }

    /// The usages, if all are known here.
    fn usages(&self) -> Option<Vec<Usage>> {
        self.spec.usages.iter().map(|usage| usage.parse().ok()).collect()
    }

    /// How long it still stays.
    fn left(&self, now: Timestamp) -> Duration {
        let stays = if self.is_settled() { SETTLED } else { PENDING };
        let age = Duration::try_from(now.duration_since(self.metadata.creation_timestamp));
        stays.saturating_sub(age.unwrap_or_default())
    }
}

impl Controller {
    async fn reconcile(&self, name: &str) -> Result<Next, Error> {
        let Some(item) = self.requests.item(&Key::new("", name)) else { return Ok(Next::Wait) };
        // What cannot be read is no request that this controller knows.
        let Some(request) = item.decode::<Request>() else { return Ok(Next::Wait) };
        let left = request.left(Timestamp::now());
        if left.is_zero() {
            let gone = self.api().delete(name, &Delete::now(&request.metadata.uid)).await;
            return match gone {
                Err(error) if !error.is_not_found() => Err(error),
                _ => Ok(Next::Wait),
            };
        }
        if request.is_settled() {
            return Ok(Next::After(left));
        }
        let Ok(read) = SigningRequest::parse(&request.spec.request.0) else { return Ok(Next::After(left)) };
        let Some(mut object) = item.decode::<Value>() else { return Ok(Next::Wait) };
        let part = if request.has("Approved") {
            match sign::sign(&self.pki, &request, &read) {
                Answer::Certificate(pem) => object["status"]["certificate"] = json!(STANDARD.encode(pem)),
                Answer::Failed(text) => {
                    add_condition(&mut object, condition("Failed", "SignerValidationFailure", &text));
                }
                Answer::NotOurs => return Ok(Next::After(left)),
            }
            "status"
        } else {
            let Some(verdict) = approve::judge(self, &request, &read).await? else {
                return Ok(Next::After(left));
            };
            add_condition(&mut object, verdict.condition());
            "approval"
        };
        self.api().replace_part(name, part, &object).await?;
        Ok(Next::After(left))
    }

    fn api(&self) -> Api<Value> {
        self.client.untyped(resource(), None)
    }
}

fn add_condition(object: &mut Value, condition: Value) {
    match object["status"]["conditions"].as_array_mut() {
        Some(conditions) => conditions.push(condition),
        None => object["status"]["conditions"] = json!([condition]),
    }
}

/// A condition that holds since now.
fn condition(kind: &str, reason: &str, message: &str) -> Value {
    let now = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    json!({
        "type": kind, "status": "True", "reason": reason, "message": message,
        "lastUpdateTime": now, "lastTransitionTime": now,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_stays_for_an_hour_when_it_is_settled_and_for_a_day_otherwise() {
        let now: Timestamp = "2026-11-21T12:00:00Z".parse().unwrap();
        let left = |created: &str, status: Value| {
            let request: Request = serde_json::from_value(json!({
                "metadata": {"uid": "u", "creationTimestamp": created},
                "spec": {"request": "", "signerName": "x"},
                "status": status,
            }))
            .unwrap();
            request.left(now).as_secs() / 60
        };
        let condition = |kind: &str| json!({"conditions": [{"type": kind}]});
        assert_eq!(left("2026-11-21T11:30:00Z", json!({})), 23 * 60 + 30);
        assert_eq!(left("2026-11-21T11:30:00Z", condition("Approved")), 23 * 60 + 30);
        for settled in [condition("Denied"), condition("Failed"), json!({"certificate": "Yw=="})] {
            assert_eq!(left("2026-11-21T11:30:00Z", settled.clone()), 30, "{settled}");
            assert_eq!(left("2026-11-21T10:30:00Z", settled), 0);
        }
        assert_eq!(left("2026-11-20T11:30:00Z", json!({})), 0);
    }
}
