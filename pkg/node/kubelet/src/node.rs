//! The node's own object: registration, status, lease. [`Node::start`] is called once by the kubelet.
//!
//! The status is written when something changed, and otherwise every five minutes, as upstream does; the lease is the
//! sign of life between. A node that is deleted or taken for lost registers again.

pub mod facts;
mod lease;
pub mod pressure;
pub mod status;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use edgek_base_lifecycle::{Backoff, Scope};
use edgek_client::{Client, Error, ListQuery, Patch, ResourceRef};
use edgek_control_runtime::{Change, Informer, Item, Key};
use edgek_node_runtime::Runtime;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node as NodeObject;
use serde_json::{Value, json};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tracing::{info, warn};

use crate::config::Config;
use facts::{Disk, Facts};
use pressure::{Met, Pressures, Readings};
use status::Observed;

/// How often the machine is looked at.
const LOOK: Duration = Duration::from_secs(10);
/// How often an unchanged status is written.
const REPORT: Duration = Duration::from_secs(300);

/// Keeps the node's object true. Clones share it.
#[derive(Clone)]
pub struct Node {
    objects: Informer<NodeObject>,
    name: String,
    look: Arc<Notify>,
    met: watch::Receiver<Vec<Met>>,
}

/// What the node's object is made from.
#[derive(Clone)]
pub struct Parts {
    /// What the node was told.
    pub config: Arc<Config>,
    /// What the machine is.
    pub facts: Arc<Facts>,
    /// The API, as this node.
    pub client: Client,
    /// The container runtime.
    pub runtime: Arc<dyn Runtime>,
    /// Whether pods can have a network.
    pub network: watch::Receiver<bool>,
    /// Told when the images' disk is so full that unused images must go.
    pub collector: Arc<Notify>,
}

impl Node {
    /// Registers the node and keeps its status and lease until the scope ends. It is Ready as soon as the runtime
    /// answers and the pod network is there.
    pub fn start(scope: &Scope, parts: &Parts) -> Self {
        let name = parts.config.node_name.clone();
        let query = ListQuery { fields: format!("metadata.name={name}"), ..ListQuery::default() };
        let look = Arc::new(Notify::new());
        let (met, receiver) = watch::channel(Vec::new());
        let gone = Arc::new(AtomicBool::new(false));
        let reporter = Reporter {
            parts: parts.clone(),
            look: look.clone(),
            gone: gone.clone(),
            written: None,
            pressures: Pressures::default(),
            met,
        };
        let registered = Arc::new(Notify::new());
        let first = registered.clone();
        scope.spawn("node status", reporter.run(registered));
        let (client, node) = (parts.client.clone(), name.clone());
        scope.spawn("node lease", async move {
            first.notified().await;
            lease::keep(client, node).await;
        });
        let (mut network, ready) = (parts.network.clone(), look.clone());
        scope.spawn("network readiness", async move {
            if network.wait_for(|ready| *ready).await.is_ok() {
                ready.notify_one();
            }
        });
        let objects = Informer::start(scope, parts.client.cluster::<NodeObject>(), query);
        let lost = look.clone();
        objects.on_change(move |change| {
            if must_register(change) {
                gone.store(true, Ordering::Relaxed);
                lost.notify_one();
            }
        });
        Self { objects, name, look, met: receiver }
    }

    /// The node's object as the server has it; `None` before it is registered.
    pub fn object(&self) -> Option<NodeObject> {
        self.objects.get(&Key::new("", &self.name))
    }

    /// The thresholds that are met, at each look at a node that runs out of something.
    pub fn met(&self) -> watch::Receiver<Vec<Met>> {
        self.met.clone()
    }

    /// Looks at the machine now, because something changed: images, the runtime.
    pub fn look(&self) {
        self.look.notify_one();
    }
}

/// Whether the node's object is gone, or says since this change that the node is lost.
fn must_register(change: Change<'_>) -> bool {
    match (change.old, change.new) {
        (_, None) => true,
        (old, Some(new)) => is_given_up(new) && !old.is_some_and(is_given_up),
    }
}

/// Whether the node controller took the node for lost, as after a long pause of this process.
fn is_given_up(item: &Item) -> bool {
    let conditions = item.decode::<NodeObject>().and_then(|node| node.status?.conditions).unwrap_or_default();
    conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "Unknown")
}

struct Reporter {
    parts: Parts,
    look: Arc<Notify>,
    /// The node's object was deleted, or others speak for the node.
    gone: Arc<AtomicBool>,
    /// The status the server has, and when it was written.
    written: Option<(Value, Instant)>,
    pressures: Pressures,
    met: watch::Sender<Vec<Met>>,
}

impl Reporter {
    async fn run(mut self, registered: Arc<Notify>) {
        let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(5));
        loop {
            let observed = self.observe().await;
            let ready = observed.problems.is_empty();
            match self.report(&observed).await {
                Ok(()) => registered.notify_one(),
                Err(error) => {
                    warn!(%error, "reporting the node's status failed; it will be tried again");
                    backoff.wait().await;
                    continue;
                }
            }
            if ready {
                backoff.reset();
            }
            let pause = if ready { LOOK } else { backoff.next_delay() };
            // Either way the machine is looked at again.
            let _ = tokio::time::timeout(pause, self.look.notified()).await;
        }
    }

    async fn observe(&mut self) -> Observed {
        let Parts { config, facts, runtime, .. } = &self.parts;
        let version = runtime.version().await;
        let mut problems = Vec::new();
        if let Err(error) = &version {
            problems.push(format!("container runtime is down: {error}"));
        }
        if !*self.parts.network.borrow() {
            problems.push("container runtime network not ready: the node has no spec.podCIDR yet".to_owned());
        }
        let images = runtime.images().await.unwrap_or_default();
        let image_disk = runtime.image_filesystem().await.ok().and_then(|fs| Disk::read(&fs.path));
        if image_disk.is_some_and(|disk| config.image_gc.is_due(disk)) {
            self.parts.collector.notify_one();
        }
        let readings = Readings::now(facts.memory, &config.root, image_disk);
        let met = config.thresholds.met(&readings);
        let pressures = self.pressures.observe(&met, Instant::now());
        // Nobody is woken on a node that has enough of everything.
        if !met.is_empty() || !self.met.borrow().is_empty() {
            self.met.send_replace(met);
        }
        Observed { problems, pressures, runtime: version.ok(), images }
    }

    async fn report(&mut self, observed: &Observed) -> Result<(), Error> {
        if self.gone.swap(false, Ordering::Relaxed) {
            warn!("the node was deleted or given up; registering again");
            self.written = None;
        }
        let Some((old, at)) = &self.written else { return self.register(observed).await };
        let status = self.status(observed, old);
        if !status::differs(&status, old) && at.elapsed() < REPORT {
            return Ok(());
        }
        let nodes = self.parts.client.untyped(ResourceRef::cluster::<NodeObject>(), None);
        let name = &self.parts.config.node_name;
        match nodes.patch(name, "status", &Patch::Strategic(json!({ "status": status }))).await {
            Ok(_) => self.written = Some((status, Instant::now())),
            Err(error) if error.is_not_found() => {
                self.written = None;
                return self.register(observed).await;
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    async fn register(&mut self, observed: &Observed) -> Result<(), Error> {
        let Parts { config, facts, client, .. } = &self.parts;
        let nodes = client.untyped(ResourceRef::cluster::<NodeObject>(), None);
        let status = self.status(observed, &Value::Null);
        let node = status::registration(config, facts, &status);
        let written = match nodes.create(&node).await {
            Ok(_) => status,
            Err(error) if error.is_already_exists() => {
                let old = nodes.get(&config.node_name).await?;
                let labels = json!({"metadata": {"labels": status::labels(config, facts)}});
                nodes.patch(&config.node_name, "", &Patch::Merge(labels)).await?;
                let status = self.status(observed, &old["status"]);
                let patch = Patch::Strategic(json!({ "status": status }));
                nodes.patch(&config.node_name, "status", &patch).await?;
                status
            }
            Err(error) => return Err(error),
        };
        info!(node = %config.node_name, "node registered");
        self.written = Some((written, Instant::now()));
        Ok(())
    }

    fn status(&self, observed: &Observed, old: &Value) -> Value {
        status::status(&self.parts.config, &self.parts.facts, observed, old, Timestamp::now())
    }
}
