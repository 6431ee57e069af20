//! Who may: RBAC and the Node authorizer.
//!
//! `http` asks [`authorize`] once per request. Its proof, [`Authorized`], is what admission and thus every write of
//! `registry` demands, so that no path can reach the store around it.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "tests"))]

mod attributes;
pub mod bootstrap;
mod chain;
mod node;
mod policy;
mod rule;

pub use attributes::{Attributes, Target};
pub use chain::Chain;
pub use node::{NODES, NodeAuthorizer, NodeObjects, Referenced, node_name};
pub use policy::{Kind, Rbac};
pub use rule::{PolicyRule, RoleRef, Subject, rules_allow};

use std::sync::Arc;

use edgek_apiserver_authn::User;

/// What one authorizer says about one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// The request may proceed; nobody else is asked.
    Allow {
        /// Why, for the audit log and access reviews.
        reason: String,
    },
    /// The request is refused; nobody else is asked.
    Deny {
        /// Why, for the client.
        reason: String,
    },
    /// Another authorizer decides; the request is refused when none allows it.
    NoOpinion {
        /// Why, for the client, should nobody allow it.
        reason: String,
    },
}

/// Decides who may do what, from memory: it never waits.
pub trait Authorizer: Send + Sync + 'static {
    /// The decision about one request.
    fn authorize(&self, attributes: &Attributes<'_>) -> Decision;

    /// The rules by which the user may act in `namespace`, for reviews; authorizers that decide otherwise have none.
    fn rules(&self, user: &User, namespace: &str) -> Vec<PolicyRule> {
        let _ = (user, namespace);
        Vec::new()
    }
}

/// A refused request, with the reason to tell the client (may be empty).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denied {
    /// Why.
    pub reason: String,
}

/// The proof that a request of this user passed the authorizer.
#[derive(Debug, Clone)]
pub struct Authorized {
    user: Arc<User>,
}

impl Authorized {
    /// Who was authorised.
    pub fn user(&self) -> &Arc<User> {
        &self.user
    }
}

/// Asks the authorizer about a request of `user`.
///
/// # Errors
/// [`Denied`] when the authorizer does not allow it.
pub fn authorize(
    authorizer: &dyn Authorizer,
    user: &Arc<User>,
    target: &Target<'_>,
) -> Result<Authorized, Denied> {
    match authorizer.authorize(&Attributes { user, target }) {
        Decision::Allow { .. } => Ok(Authorized { user: user.clone() }),
        Decision::Deny { reason } | Decision::NoOpinion { reason } => Err(Denied { reason }),
    }
}

/// Allows everything: for tests and for `--authorization-mode=AlwaysAllow`.
#[derive(Debug, Clone, Copy, Default)]
pub struct AlwaysAllow;

impl Authorizer for AlwaysAllow {
    fn authorize(&self, _: &Attributes<'_>) -> Decision {
        Decision::Allow { reason: String::new() }
    }
}
