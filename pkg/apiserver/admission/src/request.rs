//! `Request`: what a plugin knows of the write it looks at.

use edgek_apiserver_authn::User;
use serde_json::Value;

/// What is done to the object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// It is created.
    Create,
    /// It is updated or patched.
    Update,
    /// It is deleted.
    Delete,
    /// A connection to it is opened (`exec`, `proxy`, ...).
    Connect,
}

/// Whether a write is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DryRun {
    /// It is.
    No,
    /// Everything but the storing is done: plugins must have no side effects.
    All,
}

/// One write attempt.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// What is done.
    pub operation: Operation,
    /// The API group; empty for core.
    pub group: &'a str,
    /// The API version.
    pub version: &'a str,
    /// The kind.
    pub kind: &'a str,
    /// The plural resource.
    pub resource: &'a str,
    /// The subresource; empty for the object itself.
    pub subresource: &'a str,
    /// The namespace; that of its name for a namespace, empty for other cluster-scoped resources.
    pub namespace: &'a str,
    /// The name; empty while it is to be generated.
    pub name: &'a str,
    /// Who writes.
    pub user: &'a User,
    /// Whether the write is only tried.
    pub dry_run: DryRun,
    /// The object as it is stored; `None` for creations.
    pub old: Option<&'a Value>,
}

impl Request<'_> {
    /// Whether the request is about this resource itself, not a subresource.
    pub fn is(&self, group: &str, resource: &str) -> bool {
        self.subresource.is_empty() && self.group == group && self.resource == resource
    }
}
