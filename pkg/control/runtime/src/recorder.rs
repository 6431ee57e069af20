//! `Recorder`: Kubernetes Events, which tell people what happened to an object.
//!
//! Recording never waits and never fails: events that the server does not take in time are dropped. The same event
//! again raises the count of the one that is there.

use std::collections::HashMap;
use std::time::Duration;

use edgek_base_lifecycle::Scope;
use edgek_client::{Client, Patch};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Event;
use serde_json::json;
use tokio::sync::mpsc;
use tracing::debug;

/// Events that wait for the server.
const QUEUE: usize = 256;
/// Events whose count can still be raised.
const REMEMBERED: usize = 512;
/// An event is forgotten by the server after an hour.
const LIFETIME: Duration = Duration::from_secs(3600);

/// Whether an event is good news.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the two types of events")]
pub enum Kind {
    Normal,
    Warning,
}

/// The object an event is about.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Involved {
    /// `v1`.
    pub api_version: String,
    /// `Pod`.
    pub kind: String,
    /// The namespace; empty for cluster objects, whose events go to `default`.
    pub namespace: String,
    /// The name.
    pub name: String,
    /// The uid.
    pub uid: String,
    /// A part of the object: `spec.containers{web}`; empty for the whole.
    pub field_path: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Record {
    involved: Involved,
    kind: Kind,
    reason: String,
    message: String,
}

/// Records events in the name of one component. Clones share the queue.
#[derive(Debug, Clone)]
pub struct Recorder(mpsc::Sender<Record>);

impl Recorder {
    /// A recorder that writes as `component` (`kubelet`, `deployment-controller`) on `host` (empty for none) until the
    /// scope ends.
    pub fn start(scope: &Scope, client: Client, component: &'static str, host: &str) -> Self {
        let (sender, records) = mpsc::channel(QUEUE);
        let writer = Writer { client, component, host: host.to_owned(), seen: HashMap::new() };
        scope.spawn("event recorder", writer.run(records));
        Self(sender)
    }

    /// Records an event.
    pub fn record(&self, involved: &Involved, kind: Kind, reason: &str, message: impl Into<String>) {
        let record =
            Record { involved: involved.clone(), kind, reason: reason.to_owned(), message: message.into() };
        if self.0.try_send(record).is_err() {
            debug!(reason, "event dropped: too many wait for the server");
        }
    }
}

struct Writer {
    client: Client,
    component: &'static str,
    host: String,
    seen: HashMap<Record, Seen>,
}

struct Seen {
    name: String,
    count: i32,
    at: tokio::time::Instant,
}

impl Writer {
    async fn run(mut self, mut records: mpsc::Receiver<Record>) {
        while let Some(record) = records.recv().await {
            self.write(record).await;
        }
    }

    async fn write(&mut self, record: Record) {
        if self.seen.len() >= REMEMBERED {
            self.seen.retain(|_, seen| seen.at.elapsed() < LIFETIME / 6);
            if self.seen.len() >= REMEMBERED {
                self.seen.clear();
            }
        }
        let namespace =
            if record.involved.namespace.is_empty() { "default" } else { &record.involved.namespace };
        let events = self.client.namespaced::<Event>(namespace);
        if let Some(seen) = self.seen.get_mut(&record).filter(|seen| seen.at.elapsed() < LIFETIME) {
            let count = seen.count + 1;
            let patch = Patch::Merge(json!({"count": count, "lastTimestamp": now_seconds()}));
            if events.patch(&seen.name, "", &patch).await.is_ok() {
                (seen.count, seen.at) = (count, tokio::time::Instant::now());
                return;
            }
        }
        match events.create(&self.event(&record, namespace)).await {
            Ok(event) => {
                let name = event.metadata.name.unwrap_or_default();
                self.seen.insert(record, Seen { name, count: 1, at: tokio::time::Instant::now() });
            }
            // A namespace that ends takes no events any more.
            Err(error) => debug!(%error, reason = record.reason, "event dropped"),
        }
    }

    fn event(&self, record: &Record, namespace: &str) -> Event {
        let Involved { api_version, kind, name, uid, field_path, .. } = &record.involved;
        // Names in the order of time, as upstream's: lists are sorted by name, and times have whole seconds only.
        let unique = Timestamp::now().as_nanosecond();
        let now = now_seconds();
        let event = json!({
            "metadata": {"name": format!("{name}.{unique:016x}"), "namespace": namespace},
            "involvedObject": {
                "apiVersion": api_version, "kind": kind, "namespace": record.involved.namespace, "name": name,
                "uid": uid, "fieldPath": field_path,
            },
            "type": format!("{:?}", record.kind),
            "reason": record.reason,
            "message": record.message.chars().take(1024).collect::<String>(),
            "source": {"component": self.component, "host": self.host},
            "reportingComponent": self.component,
            "reportingInstance": self.host,
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        });
        // The document above is an Event.
        serde_json::from_value(event).unwrap_or_default()
    }
}

fn now_seconds() -> String {
    Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
