//! `Snapshot`: the nodes and the pods on them, changed one event at a time.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use edgek_control_runtime::Key;
use k8s_openapi::api::core::v1::Node;

use crate::pod::PodInfo;
use crate::resources::Resources;

/// A node and what runs on it.
#[derive(Debug, Clone, Default)]
pub struct NodeInfo {
    /// The node; `None` while only pods are known of it.
    pub node: Option<Arc<Node>>,
    /// What it offers to pods.
    pub allocatable: Resources,
    /// What its pods request.
    pub requested: Resources,
    /// What its pods request when nothing is free: CPU and memory.
    pub assumed: [i64; 2],
    /// Its pods.
    pub pods: BTreeMap<Key, Arc<PodInfo>>,
}

impl NodeInfo {
    /// Its name.
    pub fn name(&self) -> &str {
        self.node.as_ref().and_then(|node| node.metadata.name.as_deref()).unwrap_or_default()
    }

    /// The value of one of its labels.
    pub fn label(&self, key: &str) -> Option<&str> {
        self.node.as_ref()?.metadata.labels.as_ref()?.get(key).map(String::as_str)
    }

    fn add(&mut self, pod: Arc<PodInfo>) {
        self.requested.add(&pod.requests);
        self.assumed = [self.assumed[0] + pod.assumed[0], self.assumed[1] + pod.assumed[1]];
        self.pods.insert(pod.key.clone(), pod);
    }

    /// Takes a pod away.
    pub fn remove(&mut self, key: &Key) {
        if let Some(pod) = self.pods.remove(key) {
            self.requested.subtract(&pod.requests);
            self.assumed = [self.assumed[0] - pod.assumed[0], self.assumed[1] - pod.assumed[1]];
        }
    }
}

/// The cluster as the scheduler sees it.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    nodes: BTreeMap<String, NodeInfo>,
    /// On which node a pod is counted.
    places: HashMap<Key, String>,
}

impl Snapshot {
    /// The nodes there are, by name.
    pub fn nodes(&self) -> impl Iterator<Item = &NodeInfo> + Clone {
        self.nodes.values().filter(|info| info.node.is_some())
    }

    /// Every pod on a node.
    pub fn pods(&self) -> impl Iterator<Item = (&NodeInfo, &PodInfo)> {
        self.nodes().flat_map(|node| node.pods.values().map(move |pod| (node, &**pod)))
    }

    /// A node is new or has changed.
    pub fn set_node(&mut self, node: Node) {
        let info = self.nodes.entry(node.metadata.name.clone().unwrap_or_default()).or_default();
        info.allocatable =
            Resources::parse(node.status.as_ref().and_then(|status| status.allocatable.as_ref()));
        info.node = Some(Arc::new(node));
    }

    /// A node is gone. Its pods stay counted, in case it comes back before they end.
    pub fn remove_node(&mut self, name: &str) {
        if let Some(info) = self.nodes.get_mut(name) {
            info.node = None;
            if info.pods.is_empty() {
                self.nodes.remove(name);
            }
        }
    }

    /// A pod is on a node, or is assumed to be.
    pub fn set_pod(&mut self, pod: Arc<PodInfo>) {
        self.remove_pod(&pod.key);
        if pod.node().is_empty() || pod.has_ended() {
            return;
        }
        self.places.insert(pod.key.clone(), pod.node().to_owned());
        self.nodes.entry(pod.node().to_owned()).or_default().add(pod);
    }

    /// A pod is gone, or could not be bound.
    pub fn remove_pod(&mut self, key: &Key) {
        let Some(node) = self.places.remove(key) else { return };
        if let Some(info) = self.nodes.get_mut(&node) {
            info.remove(key);
            if info.node.is_none() && info.pods.is_empty() {
                self.nodes.remove(&node);
            }
        }
    }

    /// Whether the pod is counted on a node.
    pub fn has_pod(&self, key: &Key) -> bool {
        self.places.contains_key(key)
    }
}

#[cfg(test)]
mod tests {
    use crate::fixture::{node, pod};
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pod_is_counted_once_wherever_it_is() {
        let mut snapshot = Snapshot::default();
        snapshot.set_node(node("a", json!({})));
        let web =
            Arc::new(pod(json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": "1"}}}]})));
        for _ in 0..2 {
            snapshot.set_pod(web.on("a"));
        }
        let cpu = |snapshot: &Snapshot| snapshot.nodes().next().unwrap().requested.get("cpu");
        assert_eq!(cpu(&snapshot), 1000);
        snapshot.remove_node("a");
        assert_eq!(snapshot.nodes().count(), 0);
        snapshot.set_node(node("a", json!({})));
        assert_eq!(cpu(&snapshot), 1000);
        snapshot.remove_pod(&web.key);
        assert_eq!(cpu(&snapshot), 0);
    }
}
