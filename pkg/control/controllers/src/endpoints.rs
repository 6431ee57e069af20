//! Endpoints: the addresses of the pods that a service selects, in one object (upstream:
//! `endpoint/endpoints_controller.go`). EndpointSlices have replaced them; old clients read them still.

pub(crate) mod subsets;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use edgek_client::{Client, Delete, Error, ResourceRef};
use edgek_control_runtime::{Key, Kind, Next, Queue, Recorder, run};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::Start;
use crate::informers::Informers;
use crate::object::{self, is_namespace_ending, unless_gone};
use crate::service::{self, HEADLESS, Pod, Service, TRIGGER_TIME, TriggerTimes};
use subsets::{Address, Port, Subset};

const WORKERS: usize = 5;
const MANAGED_BY: (&str, &str) = ("endpoints.kubernetes.io/managed-by", "endpoint-controller");
const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";
/// The annotation of an object that only serves leader election.
pub(crate) const LEADER: &str = "control-plane.alpha.kubernetes.io/leader";

/// The object, as far as the controllers write it; its metadata stay as they are.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Endpoints {
    pub(crate) metadata: Map<String, Value>,
    pub(crate) subsets: Vec<Subset>,
}

impl Endpoints {
    /// The value of a map of strings in the metadata: `labels` or `annotations`.
    pub(crate) fn strings(&self, field: &str) -> Map<String, Value> {
        self.metadata.get(field).and_then(Value::as_object).cloned().unwrap_or_default()
    }
}

#[derive(Clone)]
struct Controller {
    client: Client,
    informers: Arc<Informers>,
    times: TriggerTimes,
    events: Recorder,
}

/// Starts the controller; its keys are those of services, which whoever watches the services adds to the queue.
pub(crate) fn start(start: &Start<'_>, client: Client, services: &Queue<Key>) {
    let events = Recorder::start(start.scope, client.clone(), MANAGED_BY.1, "");
    let informers = start.informers.clone();
    let waiting = services.clone();
    informers.endpoints.on_change(move |change| {
        if change.new.is_none() {
            waiting.add(change.key());
        }
    });
    start.scope.spawn("leftover endpoints", queue_leftovers(informers.clone(), services.clone()));
    let this = Controller { client, informers, times: TriggerTimes::default(), events };
    run(start.scope, "endpoint-controller", services, WORKERS, move |key| {
        let this = this.clone();
        async move { this.reconcile(key).await }
    });
}

/// A service may have gone while nobody looked.
async fn queue_leftovers(informers: Arc<Informers>, services: Queue<Key>) {
    informers.endpoints.synced().await;
    for item in informers.endpoints.items("") {
        let leads = |it: Endpoints| it.strings("annotations").contains_key(LEADER);
        if !item.decode().is_some_and(leads) {
            services.add(item.key.clone());
        }
    }
}

impl Controller {
    async fn reconcile(&self, key: Key) -> Result<Next, Error> {
        let Informers { services, pods, endpoints, .. } = &*self.informers;
        services.synced().await;
        pods.synced().await;
        endpoints.synced().await;
        let there = endpoints.item(&key);
        let Some(item) = services.item(&key) else {
            self.times.forget(&key);
            if there.is_some() {
                self.delete(&key).await?;
            }
            return Ok(Next::Wait);
        };
        let Some(service) = item.decode::<Service>().filter(Service::selects_pods) else {
            return Ok(Next::Wait);
        };
        let pods = service::pods(&self.informers, &service);
        let time = self.times.next(&key, &service, &pods);
        let there = there.and_then(|item| item.decode::<Endpoints>());
        let Some(wanted) = plan(&service, &pods, there.as_ref(), time.as_deref()) else {
            return Ok(Next::Wait);
        };
        match self.write(&key, there.is_none(), &wanted).await {
            Err(error) if is_namespace_ending(&error) => Ok(Next::Wait),
            Err(error) => {
                let about = object::involved_item("v1", "Service", &item);
                let reason =
                    if there.is_none() { "FailedToCreateEndpoint" } else { "FailedToUpdateEndpoint" };
                let text = format!("Failed to write endpoints for service {key}: {error}");
                self.events.record(&about, Kind::Warning, reason, text);
                Err(error)
            }
            Ok(()) => Ok(Next::Wait),
        }
    }

    async fn delete(&self, key: &Key) -> Result<(), Error> {
        let api = self.client.untyped(resource(), Some(&key.namespace));
        unless_gone(api.delete(&key.name, &Delete::default()).await)
    }

    /// Writes, and waits until the informer shows it: the next plan must know it.
    async fn write(&self, key: &Key, is_new: bool, endpoints: &Endpoints) -> Result<(), Error> {
        let api = self.client.untyped(resource(), Some(&key.namespace));
        let endpoints = serde_json::to_value(endpoints).map_err(Error::Decode)?;
        let written =
            if is_new { api.create(&endpoints).await? } else { api.replace(&key.name, &endpoints).await? };
        let revision = written["metadata"]["resourceVersion"].as_str().unwrap_or_default();
        self.informers.endpoints.reached(revision).await;
        Ok(())
    }
}

fn resource() -> ResourceRef {
    ResourceRef::namespaced::<k8s_openapi::api::core::v1::Endpoints>()
}

/// What the endpoints of a service should be; `None` when they are so. `time` is when the change came about.
fn plan(service: &Service, pods: &[Pod], there: Option<&Endpoints>, time: Option<&str>) -> Option<Endpoints> {
    let mut subsets = subsets::repack(&desired(service, pods));
    let truncated = subsets::truncate(&mut subsets);
    let mut wanted = there.cloned().unwrap_or_default();
    wanted.metadata.insert("name".to_owned(), json!(service.metadata.name));
    wanted.metadata.insert("labels".to_owned(), labels(service).into());
    let mut annotations = wanted.strings("annotations");
    match truncated {
        true => annotations.insert(OVER_CAPACITY.to_owned(), json!("truncated")),
        false => annotations.remove(OVER_CAPACITY),
    };
    let now = annotations.clone();
    wanted.subsets = subsets;
    if there.is_some_and(|there| {
        there.subsets == wanted.subsets
            && there.strings("labels") == wanted.strings("labels")
            && there.strings("annotations") == now
    }) {
        return None;
    }
    match time {
        Some(time) => annotations.insert(TRIGGER_TIME.to_owned(), json!(time)),
        None => annotations.remove(TRIGGER_TIME),
    };
    wanted.metadata.insert("annotations".to_owned(), annotations.into());
    Some(wanted)
}

fn labels(service: &Service) -> Map<String, Value> {
    let mut labels: BTreeMap<&str, &str> =
        service.metadata.labels.iter().map(|(name, value)| (&**name, &**value)).collect();
    labels.remove(HEADLESS);
    if service.is_headless() {
        labels.insert(HEADLESS, "");
    }
    labels.insert(MANAGED_BY.0, MANAGED_BY.1);
    labels.into_iter().map(|(name, value)| (name.to_owned(), json!(value))).collect()
}

/// A subset for each pod and port.
fn desired(service: &Service, pods: &[Pod]) -> Vec<Subset> {
    let publish_all = service.spec.publish_not_ready_addresses;
    let family = service.families().first().copied().unwrap_or("IPv4").to_owned();
    let mut subsets = Vec::new();
    for pod in pods.iter().filter(|pod| pod.has_endpoint() && (publish_all || !pod.is_terminating())) {
        let Some(address) = address(service, pod, &family) else { continue };
        let ready = publish_all || pod.is_ready();
        let subset = |ports: Vec<Port>| {
            let (addresses, not_ready_addresses) =
                if ready { (vec![address.clone()], vec![]) } else { (vec![], vec![address.clone()]) };
            Subset { addresses, not_ready_addresses, ports }
        };
        if service.spec.ports.is_empty() && service.is_headless() {
            subsets.push(subset(Vec::new()));
        }
        for port in &service.spec.ports {
            let Some(number) = pod.find_port(port) else { continue };
            let (name, protocol) = (port.name.clone(), port.protocol.clone());
            let app_protocol = port.app_protocol.clone();
            subsets.push(subset(vec![Port { name, port: number, protocol, app_protocol }]));
        }
    }
    subsets
}

fn address(service: &Service, pod: &Pod, family: &str) -> Option<Address> {
    let metadata = &pod.metadata;
    Some(Address {
        ip: pod.addresses(family).into_iter().next()?,
        hostname: pod.hostname(service).unwrap_or_default(),
        node_name: Some(pod.spec.node_name.clone()).filter(|node| !node.is_empty()),
        target_ref: Some(json!({
            "kind": "Pod", "namespace": metadata.namespace, "name": metadata.name, "uid": metadata.uid,
        })),
    })
}
