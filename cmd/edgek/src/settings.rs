//! The settings that all nodes of a cluster share. The server keeps them in the ConfigMap `kube-system/edgek-cluster`;
//! agents read them there and remember them, so that they start when no server answers.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use edgek_base_config::{Component, Config};
use edgek_base_lifecycle::Backoff;
use edgek_base_pki::Pki;
use edgek_base_sys::files::write_atomic;
use edgek_client::{Api, Client, Error, ResourceRef};
use k8s_openapi::api::core::v1::ConfigMap;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tracing::warn;

const NAME: &str = "edgek-cluster";

/// The settings, in text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Settings {
    cluster_cidr: String,
    service_cidr: String,
    cluster_dns: String,
    cluster_domain: String,
    /// The parts that no node starts, separated by commas.
    #[serde(default)]
    disable: String,
    /// By which nodes recognise users' certificates, PEM.
    pub(crate) client_ca: String,
}

impl Settings {
    /// Those of a server.
    pub(crate) fn of(config: &Config, pki: &Pki) -> Self {
        Self {
            cluster_cidr: config.cluster_cidr.to_string(),
            service_cidr: config.service_cidr.to_string(),
            cluster_dns: config.cluster_dns.to_string(),
            cluster_domain: config.cluster_domain.clone(),
            disable: disabled_everywhere(config),
            client_ca: pki.client_ca.pem().to_owned(),
        }
    }

    /// The configuration of an agent, with these.
    pub(crate) fn apply(&self, config: &mut Config) -> Result<()> {
        let wrong = |name: &str| format!("the server's {name}");
        config.cluster_cidr =
            self.cluster_cidr.parse().map_err(anyhow::Error::msg).with_context(|| wrong("cluster-cidr"))?;
        config.service_cidr =
            self.service_cidr.parse().map_err(anyhow::Error::msg).with_context(|| wrong("service-cidr"))?;
        config.cluster_dns = self.cluster_dns.parse().with_context(|| wrong("cluster-dns"))?;
        config.cluster_domain.clone_from(&self.cluster_domain);
        for name in self.disable.split(',').filter(|name| !name.is_empty()) {
            let component = name.parse().map_err(anyhow::Error::msg).with_context(|| wrong("disable"))?;
            if !config.disable.contains(&component) {
                config.disable.push(component);
            }
        }
        Ok(())
    }

    /// Makes the ConfigMap say so.
    pub(crate) async fn publish(&self, client: &Client) -> Result<()> {
        let wanted = json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": NAME, "namespace": "kube-system"},
            "data": self,
        });
        let maps = config_maps(client);
        let written = match maps.get(NAME).await {
            Ok(there) if there["data"] == wanted["data"] => return Ok(()),
            Ok(_) => maps.replace(NAME, &wanted).await,
            Err(error) if error.is_not_found() => maps.create(&wanted).await,
            Err(error) => Err(error),
        };
        written.map(drop).with_context(|| format!("writing the ConfigMap kube-system/{NAME}"))
    }

    /// The cluster's settings, for an agent: as remembered in `file`, else as soon as a server answers.
    pub(crate) async fn of_cluster(client: &Client, file: &Path) -> Result<Self> {
        let remembered = std::fs::read(file).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30));
        loop {
            match (Self::read(client).await, &remembered) {
                (Ok(settings), _) => {
                    let bytes = serde_json::to_vec(&settings)?;
                    write_atomic(file, &bytes, 0o600)
                        .with_context(|| format!("writing {}", file.display()))?;
                    return Ok(settings);
                }
                (Err(error), Some(remembered)) => {
                    warn!(%error, "no server answers; starting with what is remembered of the cluster");
                    return Ok(Self::clone(remembered));
                }
                (Err(error), None) => warn!(%error, "reading the cluster's settings; it is tried again"),
            }
            backoff.wait().await;
        }
    }

    async fn read(client: &Client) -> Result<Self, Error> {
        let mut map = config_maps(client).get(NAME).await?;
        serde_json::from_value(map["data"].take()).map_err(Error::Decode)
    }
}

/// What the cluster has from somewhere else, or not at all, on every node.
fn disabled_everywhere(config: &Config) -> String {
    let parts = [("dns", Component::Dns), ("service-proxy", Component::ServiceProxy)];
    let disabled = parts.iter().filter(|(_, component)| config.disable.contains(component));
    disabled.map(|(name, _)| *name).collect::<Vec<_>>().join(",")
}

fn config_maps(client: &Client) -> Api<Value> {
    client.untyped(ResourceRef::namespaced::<ConfigMap>(), Some("kube-system"))
}
