//! `Informers`: one informer per kind, shared by all controllers of a process, started when the first one asks.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::sync::Arc;

use edgek_base_lifecycle::Scope;
use edgek_client::{Api, Client, ListQuery};
use k8s_openapi::{ClusterResourceScope, NamespaceResourceScope, Resource};
use parking_lot::Mutex;
use serde::de::DeserializeOwned;

use crate::Informer;

/// The informers that read as one user. Clones share them.
#[derive(Clone)]
pub struct Informers {
    scope: Scope,
    client: Client,
    started: Arc<Mutex<HashMap<TypeId, Box<dyn Any + Send + Sync>>>>,
}

impl Informers {
    /// Informers that read with `client` until the scope ends.
    pub fn new(scope: &Scope, client: Client) -> Self {
        Self { scope: scope.clone(), client, started: Arc::default() }
    }

    /// The informer of a kind that lives in namespaces, of all of them.
    pub fn namespaced<K>(&self) -> Informer<K>
    where
        K: Resource<Scope = NamespaceResourceScope> + DeserializeOwned + 'static,
    {
        self.shared(|client| client.all())
    }

    /// The informer of a kind that lives in no namespace.
    pub fn cluster<K>(&self) -> Informer<K>
    where
        K: Resource<Scope = ClusterResourceScope> + DeserializeOwned + 'static,
    {
        self.shared(Client::cluster)
    }

    fn shared<K: DeserializeOwned + 'static>(&self, api: impl Fn(&Client) -> Api<K>) -> Informer<K> {
        let mut started = self.started.lock();
        if let Some(informer) =
            started.get(&TypeId::of::<K>()).and_then(|any| any.downcast_ref::<Informer<K>>())
        {
            return informer.clone();
        }
        let informer = Informer::start(&self.scope, api(&self.client), ListQuery::default());
        started.insert(TypeId::of::<K>(), Box::new(informer.clone()));
        informer
    }
}
