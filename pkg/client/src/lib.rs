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
mod watch;

pub use api::Api;
pub use error::{Error, Failure};
pub use params::{Delete, ListQuery, Patch, Propagation, WatchQuery};
pub use resource::ResourceRef;
pub use watch::{Event, EventKind, Watch};

use std::convert::Infallible;

use bytes::Bytes;
use http::{Method, Request, Response, header};
use http_body_util::{BodyExt as _, Full, Limited, combinators::UnsyncBoxBody};
use k8s_openapi::{ClusterResourceScope, NamespaceResourceScope, Resource};
use serde_json::Value;
use tower::util::BoxCloneSyncService;
use tower::{Service, ServiceExt as _};

/// An error of a body's source.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
/// A body of requests and responses.
pub type Body = UnsyncBoxBody<Bytes, BoxError>;

/// The longest answer that is read at once.
const MAX_ANSWER: usize = 256 << 20;

/// Speaks to one API server as one user. Clones are cheap and share the transport.
#[derive(Clone)]
pub struct Client {
    transport: BoxCloneSyncService<Request<Body>, Response<Body>, BoxError>,
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
        Self { transport: BoxCloneSyncService::new(service) }
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
        let response = self.transport.clone().oneshot(request).await.map_err(Error::Transport)?;
        if response.status().is_success() {
            return Ok(response);
        }
        let code = response.status().as_u16();
        let body =
            Limited::new(response.into_body(), MAX_ANSWER).collect().await.map_err(Error::Transport)?;
        Err(Error::Api(Failure::parse(code, &body.to_bytes())))
    }

    pub(crate) async fn bytes(&self, request: Request<Body>) -> Result<Bytes, Error> {
        let body = self.send(request).await?.into_body();
        Ok(Limited::new(body, MAX_ANSWER).collect().await.map_err(Error::Transport)?.to_bytes())
    }
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
