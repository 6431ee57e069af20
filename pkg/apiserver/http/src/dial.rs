//! `Dial`: how the API server reaches nodes, pods and services, and `tunnel`, by which nodes let it. The server binary hands in the implementation: in
//! process for its own node, through the workers' tunnels for the others.

use std::io;

use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncWrite};

/// A byte stream to somewhere else.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// A byte stream of any origin.
pub type BoxedIo = Box<dyn Io>;

/// Where a stream leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// The kubelet API of a node; the stream carries plain HTTP/1.1 whatever the way is secured with.
    Kubelet {
        /// The node's name.
        node: String,
    },
    /// A TCP port of a pod or of a node.
    Tcp {
        /// The node it is on; empty when nobody knows.
        node: String,
        /// An IP address.
        host: String,
        /// The port.
        port: u16,
    },
}

/// Opens streams to nodes, pods and services.
#[async_trait]
pub trait Dial: Send + Sync + 'static {
    /// Opens one stream.
    ///
    /// # Errors
    /// Nobody listens there, or no way leads there.
    async fn dial(&self, target: Target) -> io::Result<BoxedIo>;

    /// Takes over the stream that a node has opened so that it can be reached. Without use for it, it is closed.
    fn accept(&self, _node: &str, _stream: BoxedIo) {}
}

/// Reaches nothing: for a server without nodes, and for tests.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoDial;

#[async_trait]
impl Dial for NoDial {
    async fn dial(&self, target: Target) -> io::Result<BoxedIo> {
        Err(io::Error::new(io::ErrorKind::HostUnreachable, format!("no way to {target:?}")))
    }
}
