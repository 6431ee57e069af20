//! The API server alone, on a loopback port, where everybody is admin: to try clients and loads against it. Without a
//! kubeconfig to write it speaks plain HTTP.
//!
//! `cargo run -p edgek-apiserver-http --example serve -- 127.0.0.1:8080 [KUBECONFIG [FOLDER]]`, the objects
//! in memory or in a folder.

use std::sync::Arc;

use anyhow::Context;
use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use edgek_api::resource::Catalog;
use edgek_api::schema::Schema;
use edgek_apiserver_authn::{Authenticator, Error, Object, Objects, PRIVILEGED_GROUP, Tokens, User};
use edgek_apiserver_authz::AlwaysAllow;
use edgek_apiserver_http::{NoDial, Parts, Server, ServiceRange};
use edgek_base_lifecycle::Scope;
use edgek_store_log::{Log, MemoryLog, Options, SqliteLog};
use edgek_store_watch::{Store, Window};
use rustls_pki_types::CertificateDer;

struct Everybody;

#[async_trait]
impl Authenticator for Everybody {
    async fn authenticate(
        &self,
        _: &http::request::Parts,
        _: &[CertificateDer<'static>],
    ) -> Result<Option<Arc<User>>, Error> {
        Ok(Some(Arc::new(User::new("admin", [PRIVILEGED_GROUP]))))
    }

    async fn authenticate_token(&self, _: &str, _: &[String]) -> Result<(Arc<User>, Vec<String>), Error> {
        Err(Error::Token("unknown".into()))
    }
}

impl Objects for Everybody {
    fn uid(&self, _: Object, _: &str, _: &str) -> Option<String> {
        None
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().context("usage: serve ADDRESS:PORT [KUBECONFIG [FOLDER]]")?;
    let tls = arguments.next().map(|kubeconfig| tls(&address, &kubeconfig)).transpose()?;
    let catalog = Catalog::builtin();
    let stored =
        catalog.iter().filter(|resource| resource.is_stored() && resource.stored_as.is_none()).cloned();
    let log: Arc<dyn Log> = match arguments.next() {
        None => Arc::new(MemoryLog::default()),
        Some(folder) => Arc::new(SqliteLog::open(folder.as_ref(), Options::default())?),
    };
    let store = Store::open(log, stored, Window::default()).await?;
    let key = rcgen::KeyPair::generate()?.serialize_pem();
    let scope = Scope::root();
    let server = Server::new(Parts {
        store: Arc::new(store),
        catalog,
        schema: Schema::builtin(),
        authenticator: Arc::new(Everybody),
        authorizer: Arc::new(AlwaysAllow),
        tokens: Arc::new(Tokens::new(
            &key,
            "https://kubernetes.default.svc.cluster.local",
            Arc::new(Everybody),
        )?),
        dial: Arc::new(NoDial),
        ca: String::new(),
        address: address.clone(),
        services: ServiceRange::default(),
        scope: scope.clone(),
    });
    let listener = tokio::net::TcpListener::bind(&address).await?;
    server.serve(listener, tls, scope).await;
    Ok(())
}

/// A self-signed certificate, and a kubeconfig that trusts it.
fn tls(address: &str, kubeconfig: &str) -> anyhow::Result<Arc<rustls::ServerConfig>> {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned(), "localhost".to_owned()])?;
    let ca = STANDARD.encode(made.cert.pem());
    std::fs::write(
        kubeconfig,
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: c\ncontexts: [{{name: c, context: {{cluster: c, user: u}}}}]\n\
             clusters: [{{name: c, cluster: {{server: 'https://{address}', certificate-authority-data: {ca}}}}}]\n\
             users: [{{name: u, user: {{token: any}}}}]\n"
        ),
    )?;
    let key = rustls_pki_types::PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
