//! The kubelet API on the node's port, with a certificate of its own.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Result;
use edgek_base_config::Config;
use edgek_base_lifecycle::Scope;
use edgek_base_pki::{Pki, Serving};
use edgek_node_kubelet::kubelet::Kubelet;
use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use rustls::server::WebPkiClientVerifier;
use tokio::net::TcpListener;
use tracing::error;

use crate::control_plane::Identity;

/// Serves the kubelet API to the network. A node whose port is taken works all the same: the API server reaches its
/// kubelet inside the process; only who scrapes the node itself is left without.
pub(crate) async fn listen(
    kubelet: &Kubelet,
    config: &Config,
    node: &Identity<'_>,
    pki: &Arc<Pki>,
    scope: &Scope,
) -> Result<()> {
    let address = SocketAddr::new(config.bind_address, kubelet.port());
    match TcpListener::bind(address).await {
        Ok(listener) => kubelet.listen(listener, tls(node, pki, scope)?),
        Err(error) => error!(
            %address,
            %error,
            "the kubelet API is not served to the network (another kubelet may listen there); pods, logs and exec work, metrics-server does not"
        ),
    }
    Ok(())
}

fn tls(node: &Identity<'_>, pki: &Arc<Pki>, scope: &Scope) -> Result<Arc<rustls::ServerConfig>> {
    let names = [node.name, "localhost", "127.0.0.1"].map(str::to_owned);
    let names = names.into_iter().chain([node.address.to_string()]).collect();
    let serving = Serving::new(&pki.server_ca, &format!("system:node:{}", node.name), names)?;
    serving.spawn_renewal(pki.clone(), scope);
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(pki.client_ca.pem().as_bytes())?)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    // Callers may show a token instead.
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .allow_unauthenticated()
        .build()?;
    let tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(serving);
    Ok(Arc::new(tls))
}
