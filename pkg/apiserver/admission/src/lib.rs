//! Change, then judge: admission inside every write attempt.
//!
//! The registry runs the plugins of a [`Chain`] on the very object it is about to write: first those that change it,
//! then, after defaulting and validation, those that judge it. It can only do so through an [`Admission`], which only
//! an authorised request gets.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "tests"))]

pub mod fields;
mod plugins;
mod random;
mod request;

pub use plugins::{
    CertificateRequester, CertificateRights, DefaultTolerations, NamespaceLifecycle, NodeRestriction,
    NodeTaint, Priority, RbacEscalation, RuntimeClass, ServiceAccount,
};
pub use random::random_suffix;
pub use request::{DryRun, Operation, Request};

use std::sync::Arc;

use async_trait::async_trait;
use edgek_apiserver_authn::User;
use edgek_apiserver_authz::{Authorized, Authorizer};
use parking_lot::Mutex;
use serde_json::Value;

/// Why a request is not admitted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The request is forbidden; the client reads `<resource> "<name>" is forbidden: <message>`.
    #[error("{message}")]
    Forbidden {
        /// Why.
        message: String,
        /// A machine-readable cause.
        cause: Option<Cause>,
    },
    /// Something the request needs does not exist.
    #[error("{resource} {name:?} not found")]
    NotFound {
        /// The plural resource.
        resource: &'static str,
        /// Its name.
        name: String,
    },
    /// A plugin could not decide.
    #[error("{0}")]
    Internal(String),
}

impl Error {
    /// A request that is forbidden because of `message`.
    pub fn forbidden(message: impl Into<String>) -> Self {
        Self::Forbidden { message: message.into(), cause: None }
    }
}

/// A machine-readable cause of a refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cause {
    /// What kind of cause, such as `NamespaceTerminating`.
    pub kind: &'static str,
    /// What is wrong.
    pub message: String,
    /// The field it is about.
    pub field: &'static str,
}

/// What a plugin does with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phases {
    /// Nothing.
    None,
    /// It may change the object.
    Mutate,
    /// It judges the final object.
    Validate,
    /// Both.
    Both,
}

/// One admission plugin.
#[async_trait]
pub trait Plugin: Send + Sync + 'static {
    /// What the plugin does with such a request; asked before it is called.
    fn phases(&self, request: &Request<'_>) -> Phases;

    /// Changes the object about to be written, or refuses the request. The object is null for deletions and connects.
    ///
    /// # Errors
    /// The request is not admitted.
    async fn mutate(&self, request: &Request<'_>, object: &mut Value) -> Result<(), Error> {
        let _ = (request, object);
        Ok(())
    }

    /// Judges the object about to be written; null for deletions and connects.
    ///
    /// # Errors
    /// The request is not admitted.
    async fn validate(&self, request: &Request<'_>, object: &Value) -> Result<(), Error> {
        let _ = (request, object);
        Ok(())
    }
}

/// The current state of other objects, from the cache.
pub trait Lookup: Send + Sync + 'static {
    /// One object by plural resource, namespace (empty for cluster-scoped) and name.
    fn get(&self, group: &str, resource: &str, namespace: &str, name: &str) -> Option<Value>;
    /// All objects of a resource in a namespace (empty for all).
    fn list(&self, group: &str, resource: &str, namespace: &str) -> Vec<Value>;
}

/// The plugins in the order they run.
pub struct Chain {
    plugins: Vec<Box<dyn Plugin>>,
}

impl Chain {
    /// A chain of these plugins.
    pub fn new(plugins: Vec<Box<dyn Plugin>>) -> Self {
        Self { plugins }
    }

    /// The built-in plugins, in upstream's order.
    pub fn builtin(objects: &Arc<dyn Lookup>, authorizer: &Arc<dyn Authorizer>) -> Self {
        Self::new(vec![
            Box::new(NamespaceLifecycle::new(objects.clone())),
            Box::new(ServiceAccount::new(objects.clone())),
            Box::new(NodeRestriction::new(objects.clone())),
            Box::new(NodeTaint),
            Box::new(Priority::new(objects.clone())),
            Box::new(DefaultTolerations),
            Box::new(RuntimeClass::new(objects.clone())),
            Box::new(CertificateRequester),
            Box::new(CertificateRights::new(authorizer.clone())),
            Box::new(RbacEscalation::new(authorizer.clone(), objects.clone())),
        ])
    }

    /// Adds a plugin at the end.
    pub fn push(&mut self, plugin: Box<dyn Plugin>) {
        self.plugins.push(plugin);
    }

    /// What one authorised request needs to write.
    pub fn admit<'a>(&'a self, authorized: &'a Authorized, dry_run: DryRun) -> Admission<'a> {
        Admission { chain: self, authorized, dry_run, warnings: Mutex::default() }
    }
}

/// The permission to write of one authorised request. Every write of the registry demands one.
pub struct Admission<'a> {
    chain: &'a Chain,
    authorized: &'a Authorized,
    dry_run: DryRun,
    warnings: Mutex<Vec<String>>,
}

impl<'a> Admission<'a> {
    /// Who writes.
    pub fn user(&self) -> &'a Arc<User> {
        self.authorized.user()
    }

    /// Whether the write is only tried.
    pub fn dry_run(&self) -> DryRun {
        self.dry_run
    }

    /// Notes a warning for the client.
    pub fn warn(&self, warning: impl Into<String>) {
        let warning = warning.into();
        let mut warnings = self.warnings.lock();
        if !warnings.contains(&warning) {
            warnings.push(warning);
        }
    }

    /// The warnings so far.
    pub fn take_warnings(&self) -> Vec<String> {
        std::mem::take(&mut *self.warnings.lock())
    }

    /// Runs the plugins that change the object.
    ///
    /// # Errors
    /// The first refusal.
    pub async fn mutate(&self, request: &Request<'_>, object: &mut Value) -> Result<(), Error> {
        for plugin in &self.chain.plugins {
            if matches!(plugin.phases(request), Phases::Mutate | Phases::Both) {
                plugin.mutate(request, object).await?;
            }
        }
        Ok(())
    }

    /// Runs the plugins that judge the final object.
    ///
    /// # Errors
    /// The first refusal.
    pub async fn validate(&self, request: &Request<'_>, object: &Value) -> Result<(), Error> {
        for plugin in &self.chain.plugins {
            if matches!(plugin.phases(request), Phases::Validate | Phases::Both) {
                plugin.validate(request, object).await?;
            }
        }
        Ok(())
    }
}
