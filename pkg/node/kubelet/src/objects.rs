//! `Objects`: the config maps, secrets and services that pods refer to, read through the client.
//!
//! Config maps and secrets are fetched by name when they are needed, as the Node authorizer allows only that;
//! services are followed, since every container's environment names them.

use std::collections::BTreeMap;

use edgek_base_lifecycle::Scope;
use edgek_client::{Client, Error, ListQuery};
use edgek_control_runtime::Informer;
use k8s_openapi::api::core::v1::{ConfigMap, Secret, Service};

/// Reads what pods refer to. Clones share the followed services.
#[derive(Clone)]
pub struct Objects {
    client: Client,
    services: Informer<Service>,
}

impl Objects {
    /// Begins to follow services until the scope ends.
    pub fn start(scope: &Scope, client: Client) -> Self {
        let services = Informer::start(scope, client.all::<Service>(), ListQuery::default());
        Self { client, services }
    }

    /// The data of a config map; `None` when there is no such config map.
    ///
    /// # Errors
    /// When the server does not answer or refuses.
    pub async fn config_map(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<Option<BTreeMap<String, String>>, Error> {
        let found = absent_is_none(self.client.namespaced::<ConfigMap>(namespace).get(name).await)?;
        Ok(found.map(|object| object.data.unwrap_or_default()))
    }

    /// A secret; `None` when there is no such secret.
    ///
    /// # Errors
    /// When the server does not answer or refuses.
    pub async fn secret(&self, namespace: &str, name: &str) -> Result<Option<Secret>, Error> {
        absent_is_none(self.client.namespaced::<Secret>(namespace).get(name).await)
    }

    /// Waits until the services are known.
    pub async fn services_known(&self) {
        self.services.synced().await;
    }

    /// The known services a pod of this namespace learns about: its namespace's and the API server's.
    pub fn services(&self, namespace: &str) -> Vec<Service> {
        let mut services = self.services.list(namespace);
        if namespace != "default" {
            services.extend(self.services.select("default", |item| item.key.name == "kubernetes"));
        }
        services
    }
}

fn absent_is_none<T>(result: Result<T, Error>) -> Result<Option<T>, Error> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}
