//! Requests to a Kubernetes API, typed and untyped, over any transport.
//!
//! Controllers, the scheduler and the kubelet see the cluster only through a [`Client`]. Its transport is any tower
//! service: the API server in the same process, which `cmd/edgek` passes in with an identity of its own per caller,
//! or a connection to another machine. Objects travel as JSON.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "tests"))]

mod api;
mod error;
mod params;
mod resource;
pub mod shared;
mod watch;

pub use api::Api;
pub use error::{Error, Failure};
pub use params::{Delete, ListQuery, Patch, Propagation, WatchQuery};
pub use resource::ResourceRef;
pub use watch::{Event, EventKind, Watch};

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use http::{HeaderValue, Method, Request, Response, header};
use http_body_util::{BodyExt as _, Full, Limited, combinators::UnsyncBoxBody};
use k8s_openapi::{ClusterResourceScope, NamespaceResourceScope, Resource};
use serde_json::Value;
use tower::{Service, ServiceExt as _};

/// An error of a body's source.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
/// A body of requests and responses.
pub type Body = UnsyncBoxBody<Bytes, BoxError>;

/// The longest answer that is read at once.
const MAX_ANSWER: usize = 256 << 20;

type Transport = dyn Fn(Request<Body>) -> BoxFuture<'static, Result<Response<Body>, BoxError>> + Send + Sync;

/// Speaks to one API server as one user. Clones are cheap and share the transport.
#[derive(Clone)]
pub struct Client {
    transport: Arc<Transport>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Client")
    }
}

impl Client {
    /// A client over a transport that cannot fail by itself, such as the API server in the same process.
    pub fn in_process<S>(service: S) -> Self
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>
            + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send + 'static,
    {
        Self::new(service.map_err(|never| match never {}))
    }

    /// A client over any transport.
    pub fn new<S>(service: S) -> Self
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = BoxError>
            + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send + 'static,
    {
        Self { transport: Arc::new(move |request| service.clone().oneshot(request).boxed()) }
    }

    /// The objects of a kind in a namespace.
    pub fn namespaced<K: Resource<Scope = NamespaceResourceScope>>(&self, namespace: &str) -> Api<K> {
        Api::new(self.clone(), ResourceRef::namespaced::<K>(), Some(namespace.to_owned()))
    }

    /// The objects of a kind in all namespaces.
    pub fn all<K: Resource<Scope = NamespaceResourceScope>>(&self) -> Api<K> {
        Api::new(self.clone(), ResourceRef::namespaced::<K>(), None)
    }

    /// The objects of a kind that lives in no namespace.
    pub fn cluster<K: Resource<Scope = ClusterResourceScope>>(&self) -> Api<K> {
        Api::new(self.clone(), ResourceRef::cluster::<K>(), None)
    }

    /// The objects of any resource, as JSON; `namespace` is `None` for all namespaces and for cluster resources.
    pub fn untyped(&self, resource: ResourceRef, namespace: Option<&str>) -> Api<Value> {
        Api::new(self.clone(), resource, namespace.map(str::to_owned))
    }

    /// The answer to a GET of any path, as JSON.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn get_path(&self, path: &str) -> Result<Value, Error> {
        let bytes = self.bytes(request(Method::GET, path, "application/json", Bytes::new())?).await?;
        serde_json::from_slice(&bytes).map_err(Error::Decode)
    }

    /// Sends a request and gives back the answer of a request that succeeded, whatever its length.
    pub(crate) async fn send(&self, request: Request<Body>) -> Result<Response<Body>, Error> {
        let response = (self.transport)(request).await.map_err(Error::Transport)?;
        if response.status().is_success() {
            return Ok(response);
        }
        let code = response.status().as_u16();
        Err(Error::Api(Failure::parse(code, &read(response.into_body()).await?)))
    }

    pub(crate) async fn bytes(&self, request: Request<Body>) -> Result<Bytes, Error> {
        read(self.send(request).await?.into_body()).await
    }
}

/// Reads a whole body. Not an `async fn`: the compiler cannot see that one over boxed errors is `Send`.
fn read(body: Body) -> BoxFuture<'static, Result<Bytes, Error>> {
    let whole = Limited::new(body, MAX_ANSWER).collect();
    whole.map(|read| read.map(|body| body.to_bytes()).map_err(Error::Transport)).boxed()
}

/// Reads objects or lists of them.
pub(crate) fn read_request(path: &str, accept: &'static str) -> Result<Request<Body>, Error> {
    let mut request = request(Method::GET, path, "application/json", Bytes::new())?;
    request.headers_mut().insert(header::ACCEPT, HeaderValue::from_static(accept));
    Ok(request)
}

pub(crate) fn request(
    method: Method,
    path: &str,
    content_type: &str,
    body: Bytes,
) -> Result<Request<Body>, Error> {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::ACCEPT, "application/json")
        .header(header::CONTENT_TYPE, content_type)
        .body(Full::new(body).map_err(|never| match never {}).boxed_unsync());
    request.map_err(|error| Error::Request(error.to_string()))
}
