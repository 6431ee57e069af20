//! The kubelet API on the node's port, for whoever scrapes nodes. The API server needs no port.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use edgek_base_config::Config;
use edgek_base_lifecycle::{Backoff, Scope, until};
use edgek_base_pki::authority::{not_after, renew_at};
use edgek_base_pki::{Pki, Serving, Shown, clock};
use edgek_client::Client;
use edgek_node_kubelet::kubelet::Kubelet;
use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use rustls::server::{ResolvesServerCert, WebPkiClientVerifier};
use tokio::net::TcpListener;
use tracing::{error, warn};

use crate::certificate;
use crate::control_plane::Identity;
use crate::join::Member;

/// Serves the kubelet API of a server's own node, with a certificate that it issues itself.
pub(crate) async fn listen(
    kubelet: &Kubelet,
    config: &Config,
    node: &Identity<'_>,
    pki: &Arc<Pki>,
    scope: &Scope,
) -> Result<()> {
    let names = [node.name, "localhost", "127.0.0.1"].map(str::to_owned);
    let names = names.into_iter().chain([node.address.to_string()]).collect();
    let serving = Serving::new(&pki.server_ca, &format!("system:node:{}", node.name), names)?;
    serving.spawn_renewal(pki.clone(), scope);
    serve(kubelet, config, serving, pki.client_ca.pem()).await
}

/// What the kubelet API of a worker is served with.
pub(crate) struct Worker {
    pub(crate) kubelet: Kubelet,
    pub(crate) config: Config,
    pub(crate) member: Member,
    pub(crate) client: Client,
    /// The names and addresses of the node.
    pub(crate) names: Vec<String>,
    /// By which callers are recognised, PEM.
    pub(crate) client_ca: String,
}

impl Worker {
    /// Has the node's key certified for its own API, serves it, and renews the certificate when two thirds of its life
    /// are over, until the scope of the task ends.
    pub(crate) async fn keep(self) {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(3600));
        let mut shown: Option<Arc<Shown>> = None;
        loop {
            match self.certify(shown.as_deref()).await {
                Ok((due, new)) => {
                    // A cluster that certifies for a short time must not be asked without end.
                    if due > clock::now() {
                        backoff.reset();
                    }
                    shown = new.or(shown);
                    if until(due).await.is_err() {
                        return;
                    }
                }
                Err(error) => {
                    warn!(
                        error = format!("{error:#}"),
                        "the kubelet API has no new certificate; it is asked for again"
                    );
                }
            }
            backoff.wait().await;
        }
    }

    /// Gets a certificate: when the next one is due, and what shows it if nothing did before.
    async fn certify(&self, shown: Option<&Shown>) -> Result<(std::time::SystemTime, Option<Arc<Shown>>)> {
        let (user, key) = (self.member.user(), self.member.key());
        let certificate = certificate::for_server(&self.client, key, &user, &self.names).await?;
        let due = not_after(&certificate).map_or_else(clock::now, renew_at);
        if let Some(shown) = shown {
            shown.replace(&certificate, key)?;
            return Ok((due, None));
        }
        let shown = Shown::new(&certificate, key)?;
        serve(&self.kubelet, &self.config, shown.clone(), &self.client_ca).await?;
        Ok((due, Some(shown)))
    }
}

/// Serves the kubelet API to the network. A node whose port is taken works all the same: only who scrapes the node itself
/// is left without.
async fn serve(
    kubelet: &Kubelet,
    config: &Config,
    certificate: Arc<dyn ResolvesServerCert>,
    client_ca: &str,
) -> Result<()> {
    let address = SocketAddr::new(config.bind_address, kubelet.port());
    match TcpListener::bind(address).await {
        Ok(listener) => kubelet.listen(listener, tls(certificate, client_ca)?),
        Err(error) => error!(
            %address,
            %error,
            "the kubelet API is not served to the network (another kubelet may listen there); pods, logs and exec work, metrics-server does not"
        ),
    }
    Ok(())
}

fn tls(certificate: Arc<dyn ResolvesServerCert>, client_ca: &str) -> Result<Arc<rustls::ServerConfig>> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(client_ca.as_bytes())?)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    // Callers may show a token instead.
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .allow_unauthenticated()
        .build()?;
    let tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(certificate);
    Ok(Arc::new(tls))
}
