//! Pod start: from sending the create to the event that says Ready, one pod at a time, with the image on the node.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use bytes::{Buf as _, Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::Method;
use hyper::body::Incoming;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};

use super::Namespace;
use super::client::Target;
use super::figures::{Figures, Goal};

/// How long one pod may take, and the namespace's service account before the first.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is started.
pub(super) struct Pods<'a> {
    pub(super) count: usize,
    pub(super) image: &'a str,
    pub(super) node: Option<&'a str>,
}

/// Starts the pods one after the other.
pub(super) async fn measure(
    target: &Target,
    space: &Namespace,
    pods: &Pods<'_>,
    figures: &mut Figures,
) -> Result<()> {
    let path = space.path("pods");
    let mut connection = target.connect().await?;
    timeout(PATIENCE, service_account(target, space)).await.context("wait for the service account")??;
    let list = connection.get(&path).await?;
    let revision = list["metadata"]["resourceVersion"].as_str().context("a list has a revision")?;
    let mut watching = target.connect().await?;
    let response = watching
        .send(Method::GET, &format!("{path}?watch=1&resourceVersion={revision}"), Bytes::new())
        .await?;
    let mut events = Events { body: response.into_body(), buffer: BytesMut::new() };

    let mut durations = Vec::new();
    for number in 0..pods.count {
        let name = format!("pod-{number}");
        let sent = Instant::now();
        connection.post(&path, &pod(&name, pods)).await?;
        timeout(PATIENCE, events.until(|event| names(event, &name) && is_ready(&event["object"])))
            .await
            .with_context(|| format!("{name} did not become ready"))??;
        durations.push(sent.elapsed());
        connection.delete(&format!("{path}/{name}")).await?;
    }
    figures.add_durations("pod start, image present", &mut durations, Goal::AtMost(250.0));
    Ok(())
}

/// Waits until the namespace has its default service account, without which no pod is admitted.
async fn service_account(target: &Target, space: &Namespace) -> Result<()> {
    let path = format!("{}?watch=1&fieldSelector=metadata.name%3Ddefault", space.path("serviceaccounts"));
    let mut watching = target.connect().await?;
    let response = watching.send(Method::GET, &path, Bytes::new()).await?;
    let mut events = Events { body: response.into_body(), buffer: BytesMut::new() };
    events.until(|event| names(event, "default")).await
}

fn pod(name: &str, pods: &Pods<'_>) -> Value {
    let mut pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "containers": [{"name": "main", "image": pods.image, "imagePullPolicy": "IfNotPresent"}],
        },
    });
    if let Some(node) = pods.node {
        pod["spec"]["nodeName"] = node.into();
    }
    pod
}

fn names(event: &Value, name: &str) -> bool {
    event["object"]["metadata"]["name"] == name
}

fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
    conditions.iter().any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

/// The events of one watch.
struct Events {
    body: Incoming,
    buffer: BytesMut,
}

impl Events {
    /// Reads events until one is as wished.
    async fn until(&mut self, wished: impl Fn(&Value) -> bool) -> Result<()> {
        loop {
            while let Some(end) = memchr::memchr(b'\n', &self.buffer) {
                let event: Value = serde_json::from_slice(&self.buffer[..end]).context("decode an event")?;
                self.buffer.advance(end + 1);
                if wished(&event) {
                    return Ok(());
                }
            }
            match self.body.frame().await {
                Some(frame) => self.buffer.extend_from_slice(frame?.data_ref().unwrap_or(&Bytes::new())),
                None => bail!("the watch ended"),
            }
        }
    }
}
