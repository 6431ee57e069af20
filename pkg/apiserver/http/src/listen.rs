//! Serving a listener: TLS, HTTP/1.1 and HTTP/2 connections with their limits, and their end.
//!
//! A connection task ends when its client leaves or its scope is cancelled; then it accepts no new request, finishes
//! those it has and closes. Watches end with the scope, too.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use edgek_base_lifecycle::Scope;
use http::{Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use rustls_pki_types::CertificateDer;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tracing::{debug, warn};

use crate::body::{Body, BoxError};
use crate::server::Inner;

/// Connections at a time; further ones wait in the kernel's backlog.
const MAX_CONNECTIONS: usize = 4096;
/// HTTP/2 streams per connection, as upstream's default.
const MAX_STREAMS: u32 = 250;
/// The same for clients with a certificate: a node has one connection, and on it a watch for each object that its pods
/// are made from. Without room for them its lease would wait too.
const MAX_STREAMS_OF_NODE: u32 = 16_384;
/// The longest header block, the most that one connection buffers while it reads.
const MAX_HEADER_BYTES: usize = 64 * 1024;
/// A client that has not finished its handshake by then is dropped.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(30);
/// An HTTP/1.1 client that has sent no further request by then is dropped: upstream's idle timeout.
const IDLE_TIMEOUT: Duration = Duration::from_secs(90);
/// How often an HTTP/2 client that says nothing is asked whether it is still there; rarely, for the network of an edge.
const PING_INTERVAL: Duration = Duration::from_secs(180);
/// How long a connection may take to finish its requests once its scope is cancelled.
const DRAIN: Duration = Duration::from_secs(10);

/// The certificates a client presented, leaf first; in the extensions of its requests.
#[derive(Debug, Clone, Default)]
pub struct PeerCertificates(pub Arc<[CertificateDer<'static>]>);

/// The address a request came from; in its extensions.
#[derive(Debug, Clone, Copy)]
pub struct PeerAddress(pub SocketAddr);

/// Accepts connections until `scope` is cancelled. Without `tls` it speaks plain HTTP: for tests on loopback.
pub(crate) async fn serve(
    server: Arc<Inner>,
    listener: TcpListener,
    tls: Option<Arc<rustls::ServerConfig>>,
    scope: Scope,
) {
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let acceptor = tls.map(TlsAcceptor::from);
    loop {
        let Ok(slot) = slots.clone().acquire_owned().await else { return };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = scope.cancelled() => return,
        };
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors, or the client left at once: only time helps with the former.
                warn!(%error, "cannot accept a connection");
                edgek_base_lifecycle::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let connection = Connection { server: server.clone(), address, scope: scope.clone() };
        let acceptor = acceptor.clone();
        scope.spawn_draining("connection", async move {
            connection.run(stream, acceptor).await;
            drop(slot);
        });
    }
}

struct Connection {
    server: Arc<Inner>,
    address: SocketAddr,
    scope: Scope,
}

impl Connection {
    async fn run(self, stream: TcpStream, acceptor: Option<TlsAcceptor>) {
        // Small answers must not wait for an acknowledgement.
        let _ = stream.set_nodelay(true);
        let Some(acceptor) = acceptor else {
            return self.converse(TokioIo::new(stream), PeerCertificates::default()).await;
        };
        let handshake = tokio::select! {
            handshake = tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)) => handshake,
            () = self.scope.cancelled() => return,
        };
        match handshake {
            Ok(Ok(stream)) => {
                let certificates = stream.get_ref().1.peer_certificates().unwrap_or_default();
                let certificates =
                    certificates.iter().map(|certificate| certificate.clone().into_owned()).collect();
                self.converse(TokioIo::new(stream), PeerCertificates(certificates)).await;
            }
            Ok(Err(error)) => debug!(address = %self.address, %error, "TLS handshake failed"),
            Err(_) => debug!(address = %self.address, "TLS handshake took too long"),
        }
    }

    async fn converse<I>(self, io: I, certificates: PeerCertificates)
    where
        I: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
    {
        let streams = if certificates.0.is_empty() { MAX_STREAMS } else { MAX_STREAMS_OF_NODE };
        let mut builder = Builder::new(ScopeExecutor(self.scope.clone()));
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(IDLE_TIMEOUT)
            .max_buf_size(MAX_HEADER_BYTES);
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(streams)
            .max_header_list_size(64 * 1024)
            .initial_stream_window_size(256 * 1024)
            .initial_connection_window_size(1024 * 1024)
            .keep_alive_interval(PING_INTERVAL);
        let Self { server, address, scope } = self;
        let service = service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(certificates.clone());
            request.extensions_mut().insert(PeerAddress(address));
            let server = server.clone();
            async move {
                let request = request.map(|body| body.map_err(boxed).boxed_unsync());
                Ok::<Response<Body>, std::convert::Infallible>(crate::chain::handle(server, request).await)
            }
        });
        let connection = builder.serve_connection_with_upgrades(io, service);
        let mut connection = std::pin::pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = scope.cancelled() => {
                connection.as_mut().graceful_shutdown();
                tokio::time::timeout(DRAIN, connection).await.unwrap_or(Ok(()))
            }
        };
        if let Err(error) = ended {
            debug!(%address, error, "connection ended early");
        }
    }
}

fn boxed(error: hyper::Error) -> BoxError {
    Box::new(error)
}

/// Lets hyper start the tasks of HTTP/2 streams in the connection's scope.
#[derive(Clone)]
struct ScopeExecutor(Scope);

impl<F> hyper::rt::Executor<F> for ScopeExecutor
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, future: F) {
        self.0.spawn_draining("stream", future);
    }
}
