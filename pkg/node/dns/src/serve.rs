//! The sockets: UDP and TCP on port 53 of the cluster DNS address.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use edgek_base_lifecycle::{Backoff, Scope};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tracing::{debug, warn};

use crate::respond::{Reply, Responder, overloaded};
use crate::upstream::{read_message, write_message};
use crate::wire::Transport;

/// The longest query: names are short.
const LONGEST_QUERY: usize = 4096;
/// Queries that wait for other name servers.
const WAITING: usize = 512;
/// Open TCP connections.
const CONNECTIONS: usize = 128;
/// How long a TCP connection may be silent, and take for an answer.
const SILENCE: Duration = Duration::from_secs(10);

/// Answers messages by UDP until the scope ends.
pub(crate) async fn udp(socket: UdpSocket, responder: Arc<Responder>, scope: Scope) {
    let (socket, waiting) = (Arc::new(socket), Arc::new(Semaphore::new(WAITING)));
    let (mut buffer, mut out) = (vec![0; LONGEST_QUERY], Vec::with_capacity(LONGEST_QUERY));
    let mut backoff = Backoff::new(Duration::from_millis(10), Duration::from_secs(10));
    loop {
        let (length, client) = match socket.recv_from(&mut buffer).await {
            Ok(received) => received,
            Err(error) => {
                warn!(%error, "receiving queries");
                backoff.wait().await;
                continue;
            }
        };
        backoff.reset();
        let message = &buffer[..length];
        match responder.at_once(message, Transport::Udp, &mut out) {
            Reply::None => {}
            Reply::Ready => send(&socket, &out, client).await,
            Reply::Later => match waiting.clone().try_acquire_owned() {
                Ok(place) => {
                    let (socket, responder, message) = (socket.clone(), responder.clone(), message.to_vec());
                    scope.spawn("dns query", async move {
                        let mut out = Vec::new();
                        responder.later(&message, Transport::Udp, &mut out).await;
                        send(&socket, &out, client).await;
                        drop(place);
                    });
                }
                Err(_) if overloaded(&mut out, message, Transport::Udp).is_ok() => {
                    send(&socket, &out, client).await;
                }
                Err(_) => {}
            },
        }
    }
}

async fn send(socket: &UdpSocket, answer: &[u8], client: SocketAddr) {
    // The client asks again if it still wants to know.
    if let Err(error) = socket.send_to(answer, client).await {
        debug!(%error, %client, "answering a query");
    }
}

/// Answers messages by TCP until the scope ends.
pub(crate) async fn tcp(listener: TcpListener, responder: Arc<Responder>, scope: Scope) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let mut backoff = Backoff::new(Duration::from_millis(10), Duration::from_secs(10));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, client)) => {
                backoff.reset();
                let responder = responder.clone();
                scope.spawn("dns connection", async move {
                    if let Err(error) = connection(stream, &responder).await {
                        debug!(%error, %client, "a connection for queries ended");
                    }
                    drop(place);
                });
            }
            Err(error) => {
                warn!(%error, "accepting connections for queries");
                backoff.wait().await;
            }
        }
    }
}

async fn connection(mut stream: TcpStream, responder: &Responder) -> std::io::Result<()> {
    let (mut message, mut out) = (Vec::new(), Vec::new());
    loop {
        timeout(SILENCE, read_message(&mut stream, &mut message)).await??;
        match responder.at_once(&message, Transport::Tcp, &mut out) {
            Reply::None => return Ok(()),
            Reply::Ready => {}
            Reply::Later => responder.later(&message, Transport::Tcp, &mut out).await,
        }
        timeout(SILENCE, write_message(&mut stream, &out)).await??;
    }
}
