//! Services and their pods, as the controllers of Endpoints and EndpointSlices see them.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use edgek_control_runtime::{Change, Item, Key};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use parking_lot::Mutex;
use serde::Deserialize;

use crate::informers::Informers;

/// Says when what endpoints show came about.
pub(crate) const TRIGGER_TIME: &str = "endpoints.kubernetes.io/last-change-trigger-time";
/// Marks the endpoints of a service without an address.
pub(crate) const HEADLESS: &str = "service.kubernetes.io/headless";

type Labels = BTreeMap<String, String>;

/// What endpoints are made from of a service.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Service {
    pub(crate) metadata: Metadata,
    pub(crate) spec: ServiceSpec,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Metadata {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) uid: String,
    pub(crate) labels: Labels,
    pub(crate) creation_timestamp: Option<Time>,
    pub(crate) deletion_timestamp: Option<Time>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ServiceSpec {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) selector: Labels,
    #[serde(rename = "clusterIP")]
    pub(crate) cluster_ip: String,
    pub(crate) ip_families: Vec<String>,
    pub(crate) ports: Vec<ServicePort>,
    pub(crate) publish_not_ready_addresses: bool,
    pub(crate) traffic_distribution: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ServicePort {
    pub(crate) name: String,
    pub(crate) protocol: String,
    pub(crate) target_port: TargetPort,
    pub(crate) app_protocol: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub(crate) enum TargetPort {
    Number(i32),
    Name(String),
}

impl Default for TargetPort {
    fn default() -> Self {
        Self::Number(0)
    }
}

impl Service {
    /// Whether the controllers make its endpoints; those of others are written by hand.
    pub(crate) fn selects_pods(&self) -> bool {
        self.spec.kind != "ExternalName" && !self.spec.selector.is_empty()
    }

    pub(crate) fn is_headless(&self) -> bool {
        matches!(&*self.spec.cluster_ip, "" | "None")
    }

    /// The families of its addresses, which the API server fills in. Old ones have none and are of all families.
    pub(crate) fn families(&self) -> Vec<&str> {
        if self.spec.ip_families.is_empty() {
            return vec!["IPv4", "IPv6"];
        }
        self.spec.ip_families.iter().map(String::as_str).collect()
    }
}

/// What endpoints are made from of a pod.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Pod {
    pub(crate) metadata: Metadata,
    pub(crate) spec: PodSpec,
    pub(crate) status: PodStatus,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct PodSpec {
    pub(crate) node_name: String,
    pub(crate) hostname: String,
    pub(crate) subdomain: String,
    pub(crate) containers: Vec<Container>,
    pub(crate) init_containers: Vec<Container>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Container {
    ports: Vec<ContainerPort>,
    restart_policy: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ContainerPort {
    name: String,
    protocol: String,
    container_port: i32,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct PodStatus {
    phase: String,
    #[serde(rename = "podIPs")]
    pod_ips: Vec<PodIp>,
    conditions: Vec<Condition>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
struct PodIp {
    ip: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Condition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
    last_transition_time: Option<Time>,
}

impl Pod {
    fn ready(&self) -> Option<&Condition> {
        self.status.conditions.iter().find(|condition| condition.kind == "Ready")
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.ready().is_some_and(|ready| ready.status == "True")
    }

    pub(crate) fn is_terminating(&self) -> bool {
        self.metadata.deletion_timestamp.is_some()
    }

    /// Whether it has an address and may still serve.
    pub(crate) fn has_endpoint(&self) -> bool {
        !matches!(&*self.status.phase, "Succeeded" | "Failed") && !self.status.pod_ips.is_empty()
    }

    /// Its addresses of a family, `IPv4` or `IPv6`.
    pub(crate) fn addresses(&self, family: &str) -> Vec<String> {
        let parsed = self.status.pod_ips.iter().filter_map(|ip| ip.ip.parse::<IpAddr>().ok());
        parsed.filter(|ip| ip.is_ipv4() == (family == "IPv4")).map(|ip| ip.to_string()).collect()
    }

    /// The name under which a headless service knows it.
    pub(crate) fn hostname(&self, service: &Service) -> Option<String> {
        let own = !self.spec.hostname.is_empty() && self.spec.subdomain == service.metadata.name;
        own.then(|| self.spec.hostname.clone())
    }

    /// The number of a service's target port in this pod; `None` when no container has a port of that name.
    pub(crate) fn find_port(&self, port: &ServicePort) -> Option<i32> {
        let name = match &port.target_port {
            TargetPort::Number(number) => return Some(*number),
            TargetPort::Name(name) => name,
        };
        let sidecars = self.spec.init_containers.iter().filter(|it| it.restart_policy == "Always");
        let mut ports = self.spec.containers.iter().chain(sidecars).flat_map(|container| &container.ports);
        let found = ports.find(|candidate| candidate.name == *name && candidate.protocol == port.protocol)?;
        Some(found.container_port)
    }

    /// Whether nothing that endpoints show of it differs.
    fn shows_the_same(&self, other: &Self) -> bool {
        self.spec.hostname == other.spec.hostname
            && self.spec.subdomain == other.spec.subdomain
            && self.is_terminating() == other.is_terminating()
            && self.is_ready() == other.is_ready()
            && self.has_endpoint() == other.has_endpoint()
            && self.status.pod_ips == other.status.pod_ips
    }
}

/// Calls `wake` with the key of every service whose endpoints may have changed.
pub(crate) fn watch(informers: &Informers, wake: impl Fn(Key) + Clone + Send + Sync + 'static) {
    let selectors = Selectors::default();
    let (known, wake_service) = (selectors.clone(), wake.clone());
    informers.services.on_change(move |change| {
        let key = change.key();
        known.set(&key, change.new.and_then(Item::decode::<Service>));
        wake_service(key);
    });
    let (known, wake_service) = (selectors.clone(), wake.clone());
    informers.pods.on_change(move |change| {
        for labels in affected(change) {
            known.matching(&change.key().namespace, labels).into_iter().for_each(&wake_service);
        }
    });
    informers.nodes.on_change(move |change| {
        let zone = |item: &Item| item.labels.get(ZONE).cloned();
        if change.new.is_some_and(|new| change.old.is_none_or(|old| zone(old) != zone(new))) {
            selectors.all().into_iter().for_each(&wake);
        }
    });
}

/// The label of a node that says where it is.
pub(crate) const ZONE: &str = "topology.kubernetes.io/zone";

/// The labels whose services a change of a pod concerns.
fn affected(change: Change<'_>) -> Vec<&Labels> {
    match (change.old, change.new) {
        (Some(old), Some(new)) if old.labels == new.labels => {
            let same = old.decode::<Pod>().zip(new.decode::<Pod>());
            if same.is_some_and(|(old, new)| old.shows_the_same(&new)) { vec![] } else { vec![&new.labels] }
        }
        (old, new) => old.into_iter().chain(new).map(|item| &item.labels).collect(),
    }
}

/// The pods that a service selects.
pub(crate) fn pods(informers: &Informers, service: &Service) -> Vec<Pod> {
    let selected = |item: &Arc<Item>| selects(&service.spec.selector, &item.labels);
    let items = informers.pods.items(&service.metadata.namespace);
    items.iter().filter(|item| selected(item)).filter_map(|item| item.decode()).collect()
}

fn selects(selector: &Labels, labels: &Labels) -> bool {
    selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}

/// The selectors of all services. Clones share them.
#[derive(Clone, Default)]
struct Selectors(Arc<Mutex<BTreeMap<Key, Labels>>>);

impl Selectors {
    fn set(&self, key: &Key, service: Option<Service>) {
        let mut selectors = self.0.lock();
        match service.filter(Service::selects_pods) {
            Some(service) => drop(selectors.insert(key.clone(), service.spec.selector)),
            None => drop(selectors.remove(key)),
        }
    }

    /// The services of a namespace that select a pod with these labels.
    fn matching(&self, namespace: &str, labels: &Labels) -> Vec<Key> {
        let selectors = self.0.lock();
        let from = selectors.range(Key::new(namespace, "")..);
        let in_namespace = from.take_while(|(key, _)| key.namespace == namespace);
        let matching = in_namespace.filter(|(_, selector)| selects(selector, labels));
        matching.map(|(key, _)| key.clone()).collect()
    }

    fn all(&self) -> Vec<Key> {
        self.0.lock().keys().cloned().collect()
    }
}

/// When what endpoints are about to show came about: the earliest change of a pod's readiness since the last time, or
/// a new service's creation (upstream: `TriggerTimeTracker`).
#[derive(Clone, Default)]
pub(crate) struct TriggerTimes(Arc<Mutex<HashMap<Key, HashMap<String, Timestamp>>>>);

impl TriggerTimes {
    /// To be called at each reconcile of a service, whether it changes anything or not.
    pub(crate) fn next(&self, key: &Key, service: &Service, pods: &[Pod]) -> Option<String> {
        let of_pod =
            |pod: &Pod| Some((pod.metadata.name.clone(), pod.ready()?.last_transition_time.as_ref()?.0));
        let now: HashMap<String, Timestamp> = pods.iter().filter_map(of_pod).collect();
        let before = self.0.lock().insert(key.clone(), now.clone());
        let time = match before {
            None => service.metadata.creation_timestamp.as_ref().map(|time| time.0),
            Some(before) => {
                let newer =
                    now.iter().filter(|(pod, time)| before.get(*pod).is_none_or(|known| known < *time));
                newer.map(|(_, time)| *time).min()
            }
        };
        time.map(|time| time.to_string())
    }

    pub(crate) fn forget(&self, key: &Key) {
        self.0.lock().remove(key);
    }
}
