//! [`listen`]: the kubelet API on a TCP port, over TLS.

use std::sync::Arc;
use std::time::Duration;

use edgek_base_lifecycle::Scope;
use edgek_base_pki::Peer;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tracing::{debug, warn};

use super::{Gate, Server, respond};

/// Connections at a time; further ones wait in the kernel's backlog.
const MAX_CONNECTIONS: usize = 256;
/// A client that has not finished its handshake, or sent a further request, by then is dropped.
const PATIENCE: Duration = Duration::from_secs(30);

/// Serves callers that `gate` lets in until the scope ends. `tls` verifies client certificates and asks for none.
pub async fn listen(
    server: Server,
    gate: Gate,
    listener: TcpListener,
    tls: Arc<rustls::ServerConfig>,
    scope: Scope,
) {
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let acceptor = TlsAcceptor::from(tls);
    loop {
        let Ok(slot) = slots.clone().acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of file descriptors, or the client left at once: only time helps with the former.
                warn!(%error, "cannot accept a connection to the kubelet API");
                edgek_base_lifecycle::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let (server, gate, acceptor) = (server.clone(), gate.clone(), acceptor.clone());
        scope.spawn("kubelet connection", async move {
            converse(server, gate, stream, acceptor).await;
            drop(slot);
        });
    }
}

async fn converse(server: Server, gate: Gate, stream: TcpStream, acceptor: TlsAcceptor) {
    // Small answers must not wait for an acknowledgement.
    let _ = stream.set_nodelay(true);
    let stream = match tokio::time::timeout(PATIENCE, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return debug!(%error, "TLS handshake failed"),
        Err(_) => return debug!("TLS handshake took too long"),
    };
    let leaf = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
    let peer = leaf.and_then(Peer::of);
    let service = hyper::service::service_fn(move |request| {
        let (server, gate, peer) = (server.clone(), gate.clone(), peer.clone());
        async move {
            let admitted = gate.admit(&request, peer.as_ref()).await;
            Ok::<_, std::convert::Infallible>(match admitted {
                Ok(()) => server.handle(request).await,
                Err(refusal) => respond(refusal),
            })
        }
    });
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(PATIENCE);
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    if let Err(error) = connection.with_upgrades().await {
        debug!(%error, "kubelet connection");
    }
}
