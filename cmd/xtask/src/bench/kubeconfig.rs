//! Kubeconfig files: the server, its CA and the identity of the current context.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde::Deserialize;

use super::client::Target;

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Kubeconfig {
    current_context: String,
    clusters: Vec<NamedCluster>,
    contexts: Vec<NamedContext>,
    users: Vec<NamedUser>,
}

#[derive(Deserialize)]
struct NamedCluster {
    name: String,
    cluster: Cluster,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Cluster {
    server: String,
    certificate_authority: Option<String>,
    certificate_authority_data: Option<String>,
}

#[derive(Deserialize)]
struct NamedContext {
    name: String,
    context: Context,
}

#[derive(Deserialize)]
struct Context {
    cluster: String,
    user: String,
}

#[derive(Deserialize)]
struct NamedUser {
    name: String,
    user: User,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct User {
    client_certificate: Option<String>,
    client_certificate_data: Option<String>,
    client_key: Option<String>,
    client_key_data: Option<String>,
    token: Option<String>,
}

/// Reads the current context of a kubeconfig.
pub(super) fn load(path: &Path) -> Result<Target> {
    let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    let file: Kubeconfig =
        serde_saphyr::from_str(&text).with_context(|| format!("parse {}", path.display()))?;
    let context = file.contexts.iter().find(|context| context.name == file.current_context);
    let context = &context.context("the current context is missing")?.context;
    let cluster = file.clusters.iter().find(|cluster| cluster.name == context.cluster);
    let cluster = &cluster.context("the context's cluster is missing")?.cluster;
    let user = file.users.iter().find(|user| user.name == context.user);
    let user = &user.context("the context's user is missing")?.user;

    let (host, port) = address(&cluster.server)?;
    let ca = data(cluster.certificate_authority_data.as_deref(), cluster.certificate_authority.as_deref())?;
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&ca.context("the cluster has no CA")?) {
        roots.add(certificate?)?;
    }
    let config = rustls::ClientConfig::builder().with_root_certificates(roots);
    let certificate = data(user.client_certificate_data.as_deref(), user.client_certificate.as_deref())?;
    let key = data(user.client_key_data.as_deref(), user.client_key.as_deref())?;
    let config = match (certificate, key) {
        (Some(certificate), Some(key)) => {
            let chain = CertificateDer::pem_slice_iter(&certificate).collect::<Result<_, _>>()?;
            config.with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(&key)?)?
        }
        _ => config.with_no_client_auth(),
    };
    Ok(Target::new(host, port, Arc::new(config), user.token.clone()))
}

/// Host and port of `https://host:port`.
fn address(server: &str) -> Result<(String, u16)> {
    let Some(authority) = server.strip_prefix("https://") else { bail!("{server}: only https is measured") };
    let authority = authority.trim_end_matches('/');
    Ok(match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => {
            (host.trim_matches(['[', ']']).to_owned(), port.parse().context("the server's port")?)
        }
        _ => (authority.trim_matches(['[', ']']).to_owned(), 443),
    })
}

/// PEM from base64 in the file, or from the file that it names.
fn data(inline: Option<&str>, path: Option<&str>) -> Result<Option<Vec<u8>>> {
    match (inline, path) {
        (Some(inline), _) => Ok(Some(STANDARD.decode(inline.trim())?)),
        (None, Some(path)) => Ok(Some(fs::read(path).with_context(|| format!("read {path}"))?)),
        (None, None) => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_has_a_host_and_a_port() {
        let check = |server: &str, expected: (&str, u16)| {
            let (host, port) = address(server).unwrap();
            assert_eq!((host.as_str(), port), expected);
        };
        check("https://127.0.0.1:6443", ("127.0.0.1", 6443));
        check("https://[::1]:6443/", ("::1", 6443));
        check("https://example.com", ("example.com", 443));
        check("https://[fd00::1]", ("fd00::1", 443));
    }
}
