//! `Attributes`: what a request asks for, as authorizers see it.

use edgek_apiserver_authn::User;

/// One question to an authorizer.
#[derive(Debug, Clone, Copy)]
pub struct Attributes<'a> {
    /// Who asks.
    pub user: &'a User,
    /// For what.
    pub target: &'a Target<'a>,
}

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub enum Target<'a> {
    /// An object, or all objects of a resource.
    Resource {
        /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`, or a special verb such as
        /// `bind`, `escalate`, `impersonate`, `use`.
        verb: &'a str,
        /// The API group; empty for core.
        group: &'a str,
        /// The API version; empty or `*` when unknown.
        version: &'a str,
        /// The plural resource.
        resource: &'a str,
        /// The subresource; empty for the object itself.
        subresource: &'a str,
        /// The namespace; empty for cluster-scoped resources and for all namespaces.
        namespace: &'a str,
        /// The object's name; empty for collections.
        name: &'a str,
        /// The field selector of a list, watch or deletecollection as it was sent; empty when absent.
        field_selector: &'a str,
        /// The label selector likewise.
        label_selector: &'a str,
    },
    /// A path outside the resource API.
    NonResource {
        /// The lower-case HTTP method.
        verb: &'a str,
        /// The path.
        path: &'a str,
    },
}
