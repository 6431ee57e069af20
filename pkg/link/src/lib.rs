//! The one connection between a worker and a server, which the worker opens: HTTP/2 over TLS.
//!
//! ```text
//! worker ── requests of the kubelet and its like ──▶ server     Uplink
//!        ── CONNECT: a stream that stays open ─────▶            over which HTTP/2 runs with the roles reversed:
//!        ◀── CONNECT host:port ────────────────────             Tunnels ▶ inward::serve
//! ```
//!
//! So the API server reaches kubelets, pods and services on a worker that has no open port and may be behind NAT.
//! `cmd/edgek` is the only user: an agent starts an [`Uplink`], a server keeps [`Tunnels`].

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "tests"))]

mod connection;
mod executor;
pub mod inward;
mod resolve;
pub mod tls;
mod tunnels;
mod uplink;

pub use connection::{Connection, Error, bearer};
pub use inward::Inward;
pub use tunnels::Tunnels;
pub use uplink::{Settings, Uplink};

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use tokio::io::{AsyncRead, AsyncWrite};

/// An error of a body's source.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
/// A body of requests and responses.
pub type Body = UnsyncBoxBody<Bytes, BoxError>;

/// A byte stream to somewhere else.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// A byte stream of any origin.
pub type BoxedIo = Box<dyn Io>;

/// Streams that the server may have open to a worker at a time.
const STREAMS: u32 = 512;
/// Bytes under way on one of them.
const STREAM_WINDOW: u32 = 256 << 10;
/// Bytes under way on all of them: a stream whose reader has stopped takes nothing from the others.
const CONNECTION_WINDOW: u32 = STREAMS * STREAM_WINDOW;
