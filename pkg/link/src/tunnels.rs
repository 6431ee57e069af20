//! `Tunnels`: the server's ends of the tunnels, by the name of the node.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use edgek_base_lifecycle::Scope;
use http::{Method, Request};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use tracing::{debug, info};

use crate::executor::ScopeExecutor;
use crate::{BoxedIo, CONNECTION_WINDOW, STREAM_WINDOW};

/// The most that is read of a refusal.
const MAX_REFUSAL: usize = 4 << 10;

/// A worker from which nothing comes while somebody waits for it is asked whether it is there; an idle one is not.
const PING_INTERVAL: Duration = Duration::from_secs(20);
/// How long it may take to answer that.
const PING_TIMEOUT: Duration = Duration::from_secs(10);

type Sender = SendRequest<Empty<Bytes>>;

/// The tunnels of the workers that are connected. Clones share them.
#[derive(Clone, Default)]
pub struct Tunnels(Arc<Mutex<Open>>);

#[derive(Default)]
struct Open {
    tunnels: HashMap<String, (u64, Sender)>,
    /// Tells a node's tunnels at different times apart.
    next: u64,
}

impl Tunnels {
    /// Takes over a stream that a worker has opened. It replaces the node's tunnel; what runs over that goes on.
    pub fn accept(&self, node: &str, io: BoxedIo, scope: &Scope) {
        let (tunnels, node, executor) = (self.clone(), node.to_owned(), ScopeExecutor(scope.clone()));
        scope.spawn("tunnel", async move {
            let handshake = http2::Builder::new(executor)
                .timer(TokioTimer::new())
                .keep_alive_interval(PING_INTERVAL)
                .keep_alive_timeout(PING_TIMEOUT)
                .initial_stream_window_size(STREAM_WINDOW)
                .initial_connection_window_size(CONNECTION_WINDOW)
                .handshake(TokioIo::new(io))
                .await;
            let (sender, connection) = match handshake {
                Ok(made) => made,
                Err(error) => return debug!(node, %error, "no tunnel"),
            };
            let number = tunnels.insert(&node, sender);
            info!(node, "node connected");
            if let Err(error) = connection.await {
                debug!(node, %error, "tunnel broke");
            }
            if tunnels.remove(&node, number) {
                info!(node, "node disconnected");
            }
        });
    }

    fn insert(&self, node: &str, sender: Sender) -> u64 {
        let mut open = self.0.lock();
        open.next += 1;
        let number = open.next;
        open.tunnels.insert(node.to_owned(), (number, sender));
        number
    }

    /// Whether this was the node's last tunnel.
    fn remove(&self, node: &str, number: u64) -> bool {
        let mut open = self.0.lock();
        let last = open.tunnels.get(node).is_some_and(|(current, _)| *current == number);
        if last {
            open.tunnels.remove(node);
        }
        last
    }

    /// Whether the node is connected.
    pub fn is_connected(&self, node: &str) -> bool {
        self.0.lock().tunnels.contains_key(node)
    }

    /// Opens a stream to `host:port` as the node sees it.
    ///
    /// # Errors
    /// The node is not connected, or it does not open that place.
    pub async fn open(&self, node: &str, target: &str) -> io::Result<BoxedIo> {
        let sender = self.0.lock().tunnels.get(node).map(|(_, sender)| sender.clone());
        let mut sender = sender.ok_or_else(|| {
            io::Error::new(io::ErrorKind::HostUnreachable, format!("node {node:?} is not connected"))
        })?;
        let request = Request::builder().method(Method::CONNECT).uri(target).body(Empty::new());
        let request = request.map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        let response = sender.send_request(request).await.map_err(io::Error::other)?;
        if !response.status().is_success() {
            let text = Limited::new(response.into_body(), MAX_REFUSAL).collect().await;
            let text = text.map_err(io::Error::other)?.to_bytes();
            return Err(io::Error::other(String::from_utf8_lossy(&text).into_owned()));
        }
        let stream = hyper::upgrade::on(response).await.map_err(io::Error::other)?;
        Ok(Box::new(TokioIo::new(stream)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inward::{self, Inward};
    use async_trait::async_trait;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    /// Echoes at `echo:1`; nothing else is there.
    struct Machine;

    #[async_trait]
    impl Inward for Machine {
        async fn open(&self, target: &str) -> io::Result<BoxedIo> {
            if target != "echo:1" {
                return Err(io::Error::new(io::ErrorKind::PermissionDenied, "nothing there"));
            }
            let (ours, theirs) = tokio::io::duplex(1 << 10);
            let (mut reader, mut writer) = tokio::io::split(theirs);
            Scope::root().spawn("echo", async move {
                let _ = tokio::io::copy(&mut reader, &mut writer).await;
                let _ = writer.shutdown().await;
            });
            Ok(Box::new(ours))
        }
    }

    /// A worker `w` that is connected, until the scope ends.
    async fn connected(scope: &Scope) -> Tunnels {
        let tunnels = Tunnels::default();
        let (ours, theirs) = tokio::io::duplex(64 << 10);
        tunnels.accept("w", Box::new(ours), scope);
        let worker = scope.clone();
        scope.spawn("worker", async move {
            inward::serve(Box::new(theirs), Arc::new(Machine), &worker).await;
        });
        while !tunnels.is_connected("w") {
            tokio::task::yield_now().await;
        }
        tunnels
    }

    #[tokio::test]
    async fn a_stream_carries_bytes_both_ways_to_its_end() {
        let scope = Scope::root();
        let tunnels = connected(&scope).await;
        let mut stream = tunnels.open("w", "echo:1").await.unwrap();
        let sent = vec![7; 1 << 20];
        let (mut reader, mut writer) = tokio::io::split(&mut stream);
        let write = async {
            writer.write_all(&sent).await.unwrap();
            writer.shutdown().await.unwrap();
        };
        let mut read = Vec::new();
        let (read_to_end, ()) = tokio::join!(reader.read_to_end(&mut read), write);
        assert_eq!(read_to_end.unwrap(), sent.len());
        assert_eq!(read, sent);
    }

    #[tokio::test]
    async fn streams_that_nobody_reads_do_not_hold_up_others() {
        let scope = Scope::root();
        let tunnels = connected(&scope).await;
        let mut stuck = Vec::new();
        for _ in 0..20 {
            let mut stream = tunnels.open("w", "echo:1").await.unwrap();
            // More than all windows and pipes of the stream hold.
            let flood = async {
                for _ in 0..1024 {
                    stream.write_all(&[0; 4 << 10]).await.unwrap();
                }
            };
            assert!(tokio::time::timeout(Duration::from_millis(50), flood).await.is_err());
            stuck.push(stream);
        }
        let mut stream = tunnels.open("w", "echo:1").await.unwrap();
        let mut read = [0; 5];
        let echoed = async {
            stream.write_all(b"hello").await.unwrap();
            stream.read_exact(&mut read).await.unwrap();
        };
        tokio::time::timeout(Duration::from_secs(10), echoed).await.expect("the others hold it up");
        assert_eq!(&read, b"hello");
    }

    #[tokio::test]
    async fn a_place_that_is_not_open_and_a_node_that_is_not_there_are_told() {
        let scope = Scope::root();
        let tunnels = connected(&scope).await;
        let error = tunnels.open("w", "other:1").await.err().unwrap();
        assert_eq!(error.to_string(), "nothing there");
        let error = tunnels.open("x", "echo:1").await.err().unwrap();
        assert_eq!(error.to_string(), "node \"x\" is not connected");
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_a_worker_that_is_gone_is_told() {
        let scope = Scope::root();
        let tunnels = Tunnels::default();
        let (ours, _silent) = tokio::io::duplex(64 << 10);
        tunnels.accept("w", Box::new(ours), &scope);
        while !tunnels.is_connected("w") {
            tokio::task::yield_now().await;
        }
        let opened = tokio::time::timeout(Duration::from_secs(60), tunnels.open("w", "echo:1")).await;
        assert!(opened.expect("an answer within a minute").is_err());
    }

    #[tokio::test]
    async fn a_newer_tunnel_replaces_the_older_one_and_outlives_it() {
        let (old, new) = (Scope::root(), Scope::root());
        let tunnels = connected(&old).await;
        let (ours, theirs) = tokio::io::duplex(64 << 10);
        tunnels.accept("w", Box::new(ours), &new);
        let worker = new.clone();
        new.spawn("worker", async move {
            inward::serve(Box::new(theirs), Arc::new(Machine), &worker).await;
        });
        while tunnels.0.lock().next < 2 {
            tokio::task::yield_now().await;
        }
        old.close(Duration::from_secs(5)).await.unwrap();
        assert!(tunnels.open("w", "echo:1").await.is_ok());
    }
}
