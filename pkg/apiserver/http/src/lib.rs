//! The wire: the request chain, routes, negotiation, and the only place an error becomes a status code.
//!
//! [`Server`] is built once from the store, the authenticator, the authorizer and the way to nodes. It serves
//! listeners over TLS, and callers inside the process as a tower service.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "tests"))]

mod answer;
mod body;
mod chain;
mod decode;
mod dial;
mod documents;
mod error;
mod forward;
mod health;
mod impersonate;
mod info;
mod limits;
mod links;
mod list;
mod listen;
mod metrics;
mod negotiate;
mod node;
mod options;
mod proxy;
mod query;
mod rest;
mod review;
mod route;
mod server;
mod show;
mod subresource;
mod table;
mod tunnel;
mod watch;
mod yaml;

pub use body::{Body, BoxError, MAX_REQUEST_BYTES, empty, full};
pub use dial::{BoxedIo, Dial, Io, NoDial, Target};
pub use edgek_apiserver_registry::ServiceRange;
pub use listen::{PeerAddress, PeerCertificates};
pub use server::{Parts, Server, Service};
