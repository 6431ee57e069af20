//! The service proxy: makes the addresses of Services lead to their endpoints, in the kernel.
//!
//! `cmd/edgek` calls [`start`] on every node. Data flows one way: [`view`] reads objects, [`rules`] says what each
//! address and port leads to (pure), [`state`] finds what a change adds and removes (pure), [`kernel`] carries it out
//! in one nftables transaction, and [`conntrack`] forgets the UDP flows that lead to endpoints that are gone.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "tests"))]

mod chain;
mod conntrack;
mod elements;
mod kernel;
mod rules;
mod state;
mod view;
mod worker;

use edgek_node_network::Range;

pub use kernel::remove;
pub use worker::start;

/// What the proxy must know of its node.
#[derive(Debug, Clone)]
pub struct Config {
    /// The node's name: endpoints of this name are local.
    pub node: String,
    /// The nftables table's name.
    pub table: String,
    /// The addresses of all pods of the cluster; whoever else comes is masqueraded.
    pub cluster: Range,
    /// The addresses of Services.
    pub services: Range,
}

/// Why the kernel does not do what the Services ask.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A step of netlink failed.
    #[error("{step}")]
    Netlink {
        /// What was being done, to what.
        step: String,
        /// What the kernel answered.
        source: nlink::Error,
    },
    /// The table cannot be watched.
    #[error(transparent)]
    Watch(#[from] edgek_node_network::Error),
}

trait Step<T> {
    /// Names the step that failed.
    fn step(self, step: impl FnOnce() -> String) -> Result<T, Error>;
}

impl<T> Step<T> for Result<T, nlink::Error> {
    fn step(self, step: impl FnOnce() -> String) -> Result<T, Error> {
        self.map_err(|source| Error::Netlink { step: step(), source })
    }
}
