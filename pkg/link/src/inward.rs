//! The worker's end of a tunnel: streams that the server opens, each to a place on this machine.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use edgek_base_lifecycle::Scope;
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tracing::debug;

use crate::executor::ScopeExecutor;
use crate::{BoxedIo, CONNECTION_WINDOW, STREAM_WINDOW, STREAMS};

/// Opens the places that a server asks for.
#[async_trait]
pub trait Inward: Send + Sync + 'static {
    /// Opens a stream to `host:port`.
    ///
    /// # Errors
    /// Nobody listens there, or the server has no business there.
    async fn open(&self, target: &str) -> io::Result<BoxedIo>;
}

/// Serves the streams of one tunnel until it ends.
pub async fn serve(io: BoxedIo, inward: Arc<dyn Inward>, scope: &Scope) {
    let streams = scope.clone();
    let service = service_fn(move |request| {
        let (inward, streams) = (inward.clone(), streams.clone());
        async move { Ok::<_, Infallible>(answer(request, &*inward, &streams).await) }
    });
    let connection = http2::Builder::new(ScopeExecutor(scope.clone()))
        .max_concurrent_streams(STREAMS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .serve_connection(TokioIo::new(io), service);
    if let Err(error) = connection.await {
        debug!(%error, "tunnel ended");
    }
}

async fn answer(mut request: Request<Incoming>, inward: &dyn Inward, scope: &Scope) -> Response<Full<Bytes>> {
    let target = request.uri().authority().map(ToString::to_string).unwrap_or_default();
    if request.method() != Method::CONNECT {
        return refuse(StatusCode::METHOD_NOT_ALLOWED, "only CONNECT is understood");
    }
    let mut there = match inward.open(&target).await {
        Ok(stream) => stream,
        Err(error) => {
            let status = match error.kind() {
                io::ErrorKind::PermissionDenied => StatusCode::FORBIDDEN,
                _ => StatusCode::BAD_GATEWAY,
            };
            return refuse(status, &error.to_string());
        }
    };
    let upgrade = hyper::upgrade::on(&mut request);
    scope.spawn("tunnelled stream", async move {
        let Ok(here) = upgrade.await else { return };
        // Either side may simply go away; that is how a stream ends.
        let _ = tokio::io::copy_bidirectional(&mut TokioIo::new(here), &mut there).await;
    });
    Response::new(Full::default())
}

fn refuse(status: StatusCode, text: &str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(text.to_owned()));
    *response.status_mut() = status;
    response
}
