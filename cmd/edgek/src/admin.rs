//! Requests as the cluster's administrator, for commands that people type on a server.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use edgek_base_config::ServerUrl;
use edgek_base_lifecycle::Scope;
use edgek_client::Client;
use edgek_link::{Connection, tls};
use serde::Deserialize;

/// A client of the administrator, and the CA (PEM) of the server it speaks to.
pub(crate) struct Admin {
    pub(crate) client: Client,
    pub(crate) ca: String,
}

#[derive(Deserialize)]
struct Kubeconfig {
    clusters: Vec<Cluster>,
    users: Vec<User>,
}

#[derive(Deserialize)]
struct Cluster {
    cluster: ClusterEntry,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct ClusterEntry {
    server: String,
    certificate_authority_data: String,
}

#[derive(Deserialize)]
struct User {
    user: UserEntry,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct UserEntry {
    client_certificate_data: String,
    client_key_data: String,
}

impl Admin {
    /// Connects as the kubeconfig says that the server writes.
    pub(crate) async fn connect(kubeconfig: &Path, scope: &Scope) -> Result<Self> {
        let text = std::fs::read_to_string(kubeconfig).with_context(|| {
            format!("reading {}; run this on a server, or name another --kubeconfig", kubeconfig.display())
        })?;
        let read = || format!("{} is not a kubeconfig that edgek wrote", kubeconfig.display());
        let config: Kubeconfig = serde_saphyr::from_str(&text).with_context(read)?;
        let cluster = &config.clusters.first().with_context(read)?.cluster;
        let user = &config.users.first().with_context(read)?.user;
        let pem = |data: &str| anyhow::Ok(String::from_utf8(STANDARD.decode(data)?)?);
        let ca = pem(&cluster.certificate_authority_data).with_context(read)?;
        let certificate = pem(&user.client_certificate_data).with_context(read)?;
        let key = pem(&user.client_key_data).with_context(read)?;
        let server: ServerUrl = cluster.server.parse().map_err(anyhow::Error::msg)?;
        let identity = tls::Identity { certificate: &certificate, key: &key };
        let tls = Arc::new(tls::trusting(&ca, Some(identity))?);
        let connection = Connection::open(&server.authority(), tls, scope).await?;
        let client = Client::new(tower::service_fn(move |request| {
            let mut connection = connection.clone();
            async move { connection.send(request).await }
        }));
        Ok(Self { client, ca })
    }
}
