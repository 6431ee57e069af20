//! The control plane: store, identities, API server, and the clients that run beside it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use edgek_api::resource::Catalog;
use edgek_api::schema::Schema;
use edgek_apiserver_authn::{ClientCertificates, Credentials, PRIVILEGED_GROUP, Tokens, User};
use edgek_apiserver_authz::{Chain, NodeAuthorizer, Rbac};
use edgek_apiserver_http::{Dial, Parts, Server, ServiceRange};
use edgek_base_config::Config;
use edgek_base_lifecycle::Scope;
use edgek_base_pki::{Pki, Serving, kubeconfig};
use edgek_client::Client;
use edgek_store_log::SqliteLog;
use edgek_store_watch::{Store, Window};
use tokio::net::TcpListener;

use crate::cluster::{Cluster, follow_rbac, load_rbac};
use crate::exit::{Code, Failure};

/// A running control plane.
pub(crate) struct ControlPlane {
    pub(crate) server: Server,
    pub(crate) pki: Arc<Pki>,
    store: Arc<Store>,
    rbac: Arc<Rbac>,
}

impl ControlPlane {
    /// Binds the port, opens the store and the PKI, and begins to serve.
    pub(crate) async fn start(
        config: &Config,
        node: &Identity<'_>,
        dial: Arc<dyn Dial>,
        scope: &Scope,
    ) -> Result<Self, Failure> {
        let listener = bind(config).await?;
        let environment = |error: anyhow::Error| Failure::new(Code::Environment, error);
        let folder = config.data_dir.join("server");
        let log = SqliteLog::open(&folder.join("db"), edgek_store_log::Options::default())
            .map_err(|error| environment(error.into()))?;
        let pki = Pki::open(&folder.join("tls")).map_err(|error| environment(error.into()))?;
        let pki = Arc::new(pki);
        let resources = Catalog::builtin().iter().cloned();
        let store = Store::open(Arc::new(log), resources, Window::default()).await;
        let store = store.with_context(|| {
            let folder = folder.join("db");
            format!(
                "{} cannot be read: restore a backup of it, or move it away to start empty",
                folder.display()
            )
        });
        let store = Arc::new(store.map_err(environment)?);
        let rbac = Arc::new(Rbac::default());
        follow_rbac(&store, &rbac, scope)?;
        let server = build(config, &store, &rbac, &pki, dial, scope)?;
        let tls = tls(config, node, &pki, scope)?;
        let (serving, owner) = (server.clone(), scope.clone());
        scope.spawn_draining("api server", async move { serving.serve(listener, Some(tls), owner).await });
        keep_kubeconfig(config, &pki, scope)?;
        Ok(Self { server, pki, store, rbac })
    }

    /// A client inside the process that acts as `user` in `groups`.
    pub(crate) fn client(&self, user: &str, groups: &[&str]) -> Client {
        let groups = groups.iter().copied().chain(["system:authenticated"]).map(str::to_owned);
        Client::in_process(self.server.service_as(Arc::new(User::new(user, groups))))
    }

    /// A client for the server's own chores.
    pub(crate) fn own_client(&self) -> Client {
        self.client("system:apiserver", &[PRIVILEGED_GROUP])
    }

    /// Makes authorization know every role that is stored now, without waiting for the watches behind it.
    pub(crate) fn refresh_rbac(&self) -> Result<()> {
        load_rbac(&self.store, &self.rbac)
    }

    /// Writes what is only in memory to disk and closes the store.
    pub(crate) async fn close(&self) -> Result<()> {
        self.store.close().await.context("closing the datastore")
    }
}

/// What the certificate must name besides the configuration.
pub(crate) struct Identity<'a> {
    pub(crate) name: &'a str,
    pub(crate) address: IpAddr,
}

async fn bind(config: &Config) -> Result<TcpListener, Failure> {
    let address = SocketAddr::new(config.bind_address, config.https_listen_port);
    TcpListener::bind(address).await.map_err(|error| {
        let advice = match error.kind() {
            std::io::ErrorKind::AddrInUse => {
                "another program listens there (perhaps another edgek: `edgek service status`); stop it, or choose another --https-listen-port"
            }
            std::io::ErrorKind::AddrNotAvailable => "no interface has this address; choose another --bind-address",
            _ => "choose another --bind-address or --https-listen-port",
        };
        Failure::new(Code::Environment, anyhow::anyhow!("cannot listen on {address}: {error}; {advice}"))
    })
}

fn build(
    config: &Config,
    store: &Arc<Store>,
    rbac: &Arc<Rbac>,
    pki: &Pki,
    dial: Arc<dyn Dial>,
    scope: &Scope,
) -> Result<Server> {
    let cluster = Arc::new(Cluster(store.clone()));
    let issuer = format!("https://kubernetes.default.svc.{}", config.cluster_domain);
    let tokens = Arc::new(Tokens::new(&pki.service_account_key, &issuer, cluster.clone())?);
    let certificates = Arc::new(ClientCertificates::new(pki.client_ca.pem())?);
    let authorizer = Chain(vec![Arc::new(NodeAuthorizer::new(cluster)), rbac.clone()]);
    let IpAddr::V4(network) = config.service_cidr.network else {
        anyhow::bail!("service-cidr: {} is not an IPv4 range", config.service_cidr);
    };
    let ports = config.service_node_port_range;
    Ok(Server::new(Parts {
        store: store.clone(),
        catalog: Catalog::builtin(),
        schema: Schema::builtin(),
        authenticator: Arc::new(Credentials::new(certificates, tokens.clone())),
        authorizer: Arc::new(authorizer),
        tokens,
        dial,
        ca: pki.server_ca.pem().to_owned(),
        address: SocketAddr::new(own_address(config), config.https_listen_port).to_string(),
        services: ServiceRange {
            network,
            prefix: config.service_cidr.prefix,
            node_ports: ports.first..=ports.last,
        },
        scope: scope.clone(),
    }))
}

/// Where this machine reaches its own API server.
fn own_address(config: &Config) -> IpAddr {
    if config.bind_address.is_unspecified() { Ipv4Addr::LOCALHOST.into() } else { config.bind_address }
}

fn tls(
    config: &Config,
    node: &Identity<'_>,
    pki: &Arc<Pki>,
    scope: &Scope,
) -> Result<Arc<rustls::ServerConfig>> {
    let mut sans: Vec<String> = vec![
        "localhost".to_owned(),
        "127.0.0.1".to_owned(),
        "::1".to_owned(),
        "kubernetes".to_owned(),
        "kubernetes.default".to_owned(),
        "kubernetes.default.svc".to_owned(),
        format!("kubernetes.default.svc.{}", config.cluster_domain),
        node.name.to_owned(),
        node.address.to_string(),
    ];
    sans.extend(config.service_cidr.nth(1).map(|address| address.to_string()));
    sans.extend(config.tls_sans.iter().cloned());
    if !config.bind_address.is_unspecified() {
        sans.push(config.bind_address.to_string());
    }
    sans.sort();
    sans.dedup();
    let serving = Serving::new(&pki.server_ca, "edgek", sans)?;
    serving.spawn_renewal(pki.clone(), scope);
    let verifier = ClientCertificates::new(pki.client_ca.pem())?.tls_verifier();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(serving);
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(tls))
}

fn keep_kubeconfig(config: &Config, pki: &Arc<Pki>, scope: &Scope) -> Result<(), Failure> {
    let admin = kubeconfig::Admin {
        path: config.write_kubeconfig.clone(),
        mode: config.write_kubeconfig_mode.0,
        server: format!("https://{}", SocketAddr::new(own_address(config), config.https_listen_port)),
        pki: pki.clone(),
    };
    admin
        .write()
        .context("choose another --write-kubeconfig, or make its folder writable")
        .map_err(|error| Failure::new(Code::Environment, error))?;
    scope.spawn("admin kubeconfig", admin.renew());
    Ok(())
}
