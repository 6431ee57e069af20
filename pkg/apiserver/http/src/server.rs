//! `Server`: everything a request needs, built once.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use edgek_api::resource::Catalog;
use edgek_api::schema::Schema;
use edgek_apiserver_admission::{Chain, Lookup, Plugin};
use edgek_apiserver_authn::{Authenticator, Tokens, User};
use edgek_apiserver_authz::Authorizer;
use edgek_apiserver_registry::{Registry, ServiceRange};
use edgek_base_lifecycle::Scope;
use edgek_store_watch::Store;
use http::{Request, Response};
use tokio::net::TcpListener;

use crate::body::Body;
use crate::dial::Dial;
use crate::limits::Limits;
use crate::{chain, listen};

/// What a server is made of.
pub struct Parts {
    /// The objects.
    pub store: Arc<Store>,
    /// The resources it serves.
    pub catalog: &'static Catalog,
    /// What their kinds look like.
    pub schema: &'static Schema,
    /// Who asks.
    pub authenticator: Arc<dyn Authenticator>,
    /// Who may.
    pub authorizer: Arc<dyn Authorizer>,
    /// Makes tokens of service accounts.
    pub tokens: Arc<Tokens>,
    /// The way to nodes, pods and services.
    pub dial: Arc<dyn Dial>,
    /// The CA certificate of the server in PEM, served at `/cacerts`: joining nodes compare it with their token.
    pub ca: String,
    /// Where clients reach the server, `host:port`.
    pub address: String,
    /// Where services get addresses and ports from.
    pub services: ServiceRange,
    /// Owns the tasks of the server. Watches and connections end with it.
    pub scope: Scope,
}

/// The API server.
#[derive(Clone)]
pub struct Server(Arc<Inner>);

/// What the layers of the chain share.
pub(crate) struct Inner {
    pub(crate) registry: Registry,
    pub(crate) admission: Chain,
    pub(crate) catalog: &'static Catalog,
    pub(crate) schema: &'static Schema,
    pub(crate) authenticator: Arc<dyn Authenticator>,
    pub(crate) authorizer: Arc<dyn Authorizer>,
    pub(crate) tokens: Arc<Tokens>,
    pub(crate) dial: Arc<dyn Dial>,
    pub(crate) ca: String,
    pub(crate) address: String,
    pub(crate) limits: Limits,
    pub(crate) scope: Scope,
}

impl Inner {
    /// Whether a path may be read without credentials, should the authorizer agree.
    pub(crate) fn anonymous_allowed(&self, path: &str) -> bool {
        let path = path.trim_end_matches('/');
        ["/cacerts", "/healthz", "/livez", "/readyz", "/version"].contains(&path)
            || path.starts_with("/livez/")
            || path.starts_with("/readyz/")
            || path.starts_with("/healthz/")
    }
}

impl Server {
    /// A server with the built-in admission plugins.
    pub fn new(parts: Parts) -> Self {
        Self::with_plugins(parts, Vec::new())
    }

    /// A server with more admission plugins, which run after the built-in ones.
    pub fn with_plugins(parts: Parts, plugins: Vec<Box<dyn Plugin>>) -> Self {
        let registry = Registry::new(parts.store, parts.catalog, parts.schema, parts.services);
        let lookup: Arc<dyn Lookup> = Arc::new(registry.lookup());
        let mut admission = Chain::builtin(&lookup, &parts.authorizer);
        plugins.into_iter().for_each(|plugin| admission.push(plugin));
        let inner = Arc::new(Inner {
            registry,
            admission,
            catalog: parts.catalog,
            schema: parts.schema,
            authenticator: parts.authenticator,
            authorizer: parts.authorizer,
            tokens: parts.tokens,
            dial: parts.dial,
            ca: parts.ca,
            address: parts.address,
            limits: Limits::default(),
            scope: parts.scope,
        });
        let owner = inner.clone();
        inner.scope.spawn("event expiry", async move { owner.registry.expire_events().await });
        Self(inner)
    }

    /// A service for callers inside the process, who are known as `user` whatever their requests carry.
    pub fn service_as(&self, user: Arc<User>) -> Service {
        Service { server: self.clone(), user: Some(user) }
    }

    /// A service whose callers authenticate by the headers of their requests.
    pub fn service(&self) -> Service {
        Service { server: self.clone(), user: None }
    }

    /// Serves a listener until `scope` is cancelled; requests that run then are finished. Without `tls` it speaks plain
    /// HTTP, which only tests want.
    pub async fn serve(&self, listener: TcpListener, tls: Option<Arc<rustls::ServerConfig>>, scope: Scope) {
        listen::serve(self.0.clone(), listener, tls, scope).await;
    }
}

/// The server as a tower service.
#[derive(Clone)]
pub struct Service {
    server: Server,
    user: Option<Arc<User>>,
}

impl tower::Service<Request<Body>> for Service {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        if let Some(user) = &self.user {
            request.extensions_mut().insert(user.clone());
        }
        let server = self.server.0.clone();
        let answer = chain::handle(server, request);
        Box::pin(async move { Ok(answer.await) })
    }
}
