//! `Records`: what the pod tasks have last seen of their pods, for the kubelet's API and for adoption.

use std::collections::BTreeMap;
use std::sync::Arc;

use edgek_node_runtime::Container as Run;
use k8s_openapi::api::core::v1::Pod;
use parking_lot::RwLock;

use crate::sandbox::Sandbox;

/// What a pod task has last seen.
#[derive(Debug, Clone)]
pub struct Record {
    /// The pod with its status.
    pub pod: Arc<Pod>,
    /// Its containers.
    pub runs: Vec<Run>,
    /// Its sandbox, while it has one.
    pub sandbox: Option<Sandbox>,
}

/// The records of all pods of the node by uid. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Records(Arc<RwLock<BTreeMap<String, Record>>>);

impl Records {
    /// Replaces the record of a pod.
    pub fn put(&self, uid: &str, record: Record) {
        self.0.write().insert(uid.to_owned(), record);
    }

    /// Forgets a pod.
    pub fn remove(&self, uid: &str) {
        self.0.write().remove(uid);
    }

    /// The record of a pod by its namespace and name.
    pub fn find(&self, namespace: &str, name: &str) -> Option<Record> {
        let is_it = |record: &&Record| {
            let meta = &record.pod.metadata;
            meta.namespace.as_deref() == Some(namespace) && meta.name.as_deref() == Some(name)
        };
        self.0.read().values().find(is_it).cloned()
    }

    /// All records.
    pub fn all(&self) -> Vec<Record> {
        self.0.read().values().cloned().collect()
    }
}
