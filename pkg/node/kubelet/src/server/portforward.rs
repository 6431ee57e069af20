//! Port-forward: pairs of SPDY streams, each pair a TCP connection to the pod's loopback, opened from inside the pod's
//! network namespace.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use bytes::{Bytes, BytesMut};
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use nix::sched::{CloneFlags, setns};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::spdy;

/// The protocol inside the SPDY connection.
pub(super) const PROTOCOL: &str = "portforward.k8s.io";
/// The same tunnelled through a WebSocket.
pub(super) const TUNNELLED: &str = "SPDY/3.1+portforward.k8s.io";

/// Where a pod's ports are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// In a network namespace of its own.
    Namespace(PathBuf),
    /// In the node's.
    Host,
}

/// A pair that waits for its other half.
#[derive(Default)]
struct Half {
    error: Option<spdy::Stream>,
    data: Option<spdy::Stream>,
}

/// Serves the connections that a client asks for until it hangs up.
pub(super) async fn serve<IO>(io: IO, place: Place)
where
    IO: AsyncRead + AsyncWrite + Send + 'static,
{
    let (mut opened, driver) = spdy::accept(io);
    let forwarding = async move {
        let mut halves: HashMap<String, Half> = HashMap::new();
        let mut running = FuturesUnordered::new();
        loop {
            tokio::select! {
                stream = opened.recv() => match stream {
                    Some(stream) => if let Some((port, error, data)) = pair(&mut halves, stream) {
                        running.push(forward(place.clone(), port, error, data));
                    },
                    None => break,
                },
                Some(()) = running.next() => {}
            }
        }
    };
    let ((), _) = tokio::join!(forwarding, driver);
}

/// Adds a stream to its request; the request's port and streams when it is complete.
fn pair(
    halves: &mut HashMap<String, Half>,
    stream: spdy::Stream,
) -> Option<(u16, spdy::Stream, spdy::Stream)> {
    let header = |name: &str| stream.headers.get(name).cloned().unwrap_or_default();
    let port: u16 = header("port").parse().ok()?;
    // Old clients send no request id: their streams come in pairs, error first.
    let request = format!("{}/{port}", header("requestid"));
    let half = halves.entry(request.clone()).or_default();
    match header("streamtype").as_str() {
        "error" => half.error = Some(stream),
        "data" => half.data = Some(stream),
        _ => return None,
    }
    if half.error.is_none() || half.data.is_none() {
        return None;
    }
    let half = halves.remove(&request)?;
    Some((port, half.error?, half.data?))
}

async fn forward(place: Place, port: u16, error: spdy::Stream, data: spdy::Stream) {
    if let Err(failed) = copy(&place, port, data).await {
        let text = format!("error forwarding port {port} to pod: {failed}");
        let _ = error.outgoing.send(Bytes::from(text)).await;
    }
    let _ = error.outgoing.finish().await;
}

async fn copy(place: &Place, port: u16, data: spdy::Stream) -> io::Result<()> {
    let connected = connect(place, port).await;
    let spdy::Stream { mut incoming, outgoing, .. } = data;
    let mut connection = match connected {
        Ok(connection) => connection,
        Err(error) => {
            let _ = outgoing.reset().await;
            return Err(error);
        }
    };
    let (mut from_pod, mut to_pod) = connection.split();
    let up = async {
        while let Some(piece) = incoming.recv().await {
            to_pod.write_all(&piece).await?;
        }
        to_pod.shutdown().await
    };
    let down = async {
        let mut buffer = BytesMut::with_capacity(16 << 10);
        while from_pod.read_buf(&mut buffer).await? > 0 {
            if outgoing.send(buffer.split().freeze()).await.is_err() {
                return Ok(());
            }
            buffer.reserve(16 << 10);
        }
        let _ = outgoing.finish().await;
        Ok::<(), io::Error>(())
    };
    tokio::pin!(up, down);
    tokio::select! {
        // The pod is done: what the client still sends has nowhere to go.
        done = &mut down => done,
        sent = &mut up => match sent {
            Ok(()) => down.await,
            failed => failed,
        },
    }
}

async fn connect(place: &Place, port: u16) -> io::Result<TcpStream> {
    let addresses =
        [SocketAddr::from((Ipv4Addr::LOCALHOST, port)), SocketAddr::from((Ipv6Addr::LOCALHOST, port))];
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for address in addresses {
        let connected = match place {
            Place::Host => TcpStream::connect(address).await,
            Place::Namespace(path) => connect_inside(path, address).await,
        };
        match connected {
            Ok(stream) => return Ok(stream),
            // The IPv4 failure tells more: most pods have no IPv6.
            Err(error) if address.is_ipv4() => last = error,
            Err(_) => {}
        }
    }
    Err(last)
}

/// Opens a connection whose socket belongs to another network namespace: a thread of its own enters the namespace,
/// connects and ends, so that no thread of the runtime ever leaves its own.
async fn connect_inside(netns: &Path, address: SocketAddr) -> io::Result<TcpStream> {
    let namespace = std::fs::File::open(netns)?;
    let (sender, receiver) = tokio::sync::oneshot::channel();
    std::thread::Builder::new().name("port-forward".to_owned()).spawn(move || {
        let entered = setns(namespace, CloneFlags::CLONE_NEWNET).map_err(io::Error::from);
        let connected = entered.and_then(|()| {
            std::net::TcpStream::connect_timeout(&address, std::time::Duration::from_secs(10))
        });
        // Whoever asked may have hung up meanwhile.
        let _ = sender.send(connected);
    })?;
    let stream = receiver.await.map_err(|_| io::Error::from(io::ErrorKind::Interrupted))??;
    stream.set_nonblocking(true)?;
    TcpStream::from_std(stream)
}
