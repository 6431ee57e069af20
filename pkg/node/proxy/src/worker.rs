//! The proxy's one task: takes what has changed, says what that means, and has the kernel do it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddrV4;
use std::sync::Arc;
use std::time::Duration;

use edgek_base_lifecycle::{Backoff, Scope};
use edgek_control_runtime::{Change, Informer, Informers, Item, Key};
use edgek_node_network::TableWatch;
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::discovery::v1 as discovery;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tracing::warn;

use crate::kernel::Kernel;
use crate::rules::{Frontend, Place};
use crate::state::{self, State};
use crate::view::{Service, Slice};
use crate::{Config, Error, conntrack, rules};

/// Names the Service that a slice belongs to.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

const ZONE: &str = "topology.kubernetes.io/zone";

/// Starts to serve, until the scope ends; the rules stay in the kernel after that.
///
/// # Errors
/// When the kernel has no nftables.
pub fn start(scope: &Scope, config: Config, informers: &Informers) -> Result<(), Error> {
    let kernel = Kernel::open(config.clone())?;
    let worker = Worker {
        config,
        services: informers.namespaced(),
        slices: informers.namespaced(),
        nodes: informers.cluster(),
        pending: Arc::default(),
        of_services: Arc::default(),
        kernel,
        state: State::default(),
    };
    worker.listen();
    scope.spawn("service-proxy", worker.run());
    Ok(())
}

/// The Services that have changed since the last transaction.
#[derive(Default)]
struct Pending {
    services: Mutex<BTreeSet<Key>>,
    changed: Notify,
}

impl Pending {
    fn add(&self, service: Key) {
        self.services.lock().insert(service);
        self.changed.notify_one();
    }

    /// All of them.
    fn now(&self) -> BTreeSet<Key> {
        std::mem::take(&mut *self.services.lock())
    }

    /// All of them, once there are any.
    async fn take(&self) -> BTreeSet<Key> {
        loop {
            let changed = self.changed.notified();
            let services = self.now();
            if !services.is_empty() {
                return services;
            }
            changed.await;
        }
    }
}

/// The slices of each Service.
type Slices = BTreeMap<Key, BTreeSet<Key>>;

struct Worker {
    config: Config,
    services: Informer<core::Service>,
    slices: Informer<discovery::EndpointSlice>,
    nodes: Informer<core::Node>,
    pending: Arc<Pending>,
    of_services: Arc<Mutex<Slices>>,
    kernel: Kernel,
    state: State,
}

impl Worker {
    fn listen(&self) {
        let pending = self.pending.clone();
        self.services.on_change(move |change| pending.add(change.key()));
        let (pending, services, own) =
            (self.pending.clone(), self.services.clone(), Key::new("", &*self.config.node));
        self.nodes.on_change(move |change| {
            let zone = |node: Option<&Item>| node.and_then(|node| node.labels.get(ZONE)).cloned();
            if change.key() == own && zone(change.old) != zone(change.new) {
                services.items("").iter().for_each(|service| pending.add(service.key.clone()));
            }
        });
        let (pending, of_services) = (self.pending.clone(), self.of_services.clone());
        self.slices.on_change(move |change| {
            for service in assign(&mut of_services.lock(), change) {
                pending.add(service);
            }
        });
    }

    /// The node's zone; empty when it has none.
    fn zone(&self) -> String {
        let node = self.nodes.item(&Key::new("", &*self.config.node));
        node.and_then(|node| node.labels.get(ZONE).cloned()).unwrap_or_default()
    }

    /// The first table is complete: until then the kernel keeps the one of the last start.
    async fn run(mut self) {
        self.services.synced().await;
        self.slices.synced().await;
        self.nodes.synced().await;
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(30));
        loop {
            let Err(error) = self.follow(&mut backoff).await;
            warn!(error = &error as &dyn std::error::Error, "the service proxy begins anew");
            backoff.wait().await;
        }
    }

    async fn follow(&mut self, backoff: &mut Backoff) -> Result<std::convert::Infallible, Error> {
        let mut table = TableWatch::start(&self.config.table).await?;
        let services = self.pending.now();
        self.observe(services);
        let all = self.state.all();
        self.kernel.replace(&all).await?;
        forget(&all.flows).await;
        backoff.reset();
        loop {
            let services = tokio::select! {
                services = self.pending.take() => services,
                gone = table.gone() => {
                    gone?;
                    warn!(table = self.config.table, "another program has removed the rules of Services; they are back");
                    self.kernel.replace(&self.state.all()).await?;
                    continue;
                }
            };
            let change = self.observe(services);
            self.kernel.apply(&change).await?;
            forget(&change.flows).await;
        }
    }

    /// What the Services lead to now.
    fn observe(&mut self, services: BTreeSet<Key>) -> state::Change {
        let zone = self.zone();
        let place = Place { node: &self.config.node, zone: &zone };
        let frontends = services.into_iter().map(|key| {
            let service = self.services.item(&key).and_then(|item| item.decode::<Service>());
            let frontends = service.map(|s| rules::frontends(&s, &self.slices_of(&key), place));
            (key, frontends.unwrap_or_default())
        });
        let frontends = frontends.collect();
        self.state.set(frontends)
    }

    fn slices_of(&self, service: &Key) -> Vec<Slice> {
        let slices = self.of_services.lock().get(service).cloned().unwrap_or_default();
        slices.iter().filter_map(|key| self.slices.item(key)?.decode()).collect()
    }
}

/// Services work without it, but for clients of UDP that do not pause.
async fn forget(flows: &BTreeMap<Frontend, Vec<SocketAddrV4>>) {
    if let Err(error) = conntrack::forget(flows).await {
        warn!(error = &error as &dyn std::error::Error, "flows of UDP may lead to endpoints that are gone");
    }
}

/// Notes which Service a slice belongs to; tells which Services this concerns.
fn assign(slices: &mut Slices, change: Change<'_>) -> BTreeSet<Key> {
    let service = |item: &Item| {
        let name = item.labels.get(SERVICE_NAME)?;
        Some(Key::new(&*item.key.namespace, &**name))
    };
    let (old, new) = (change.old.and_then(service), change.new.and_then(service));
    if let Some(old) = &old
        && let Some(keys) = slices.get_mut(old)
    {
        keys.remove(&change.key());
        if keys.is_empty() {
            slices.remove(old);
        }
    }
    if let Some(new) = &new {
        slices.entry(new.clone()).or_default().insert(change.key());
    }
    old.into_iter().chain(new).collect()
}
