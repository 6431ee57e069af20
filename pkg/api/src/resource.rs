//! Resources: what the API serves under which path, and all that no schema says of it (plural, short names, verbs,
//! subresources, selectable fields). The built-in ones are the table `resource/builtin.txt`; custom resources are added
//! to a [`Catalog`] at run time. The API server routes by it, discovery publishes it, clients map kinds with it.

mod catalog;
mod parse;
#[cfg(test)]
mod tests;

pub use catalog::{Catalog, Group};
pub use parse::ParseError;

use crate::schema::{GroupVersionKind, Name, TypeId};

/// A collection of objects of one kind, served under one group and version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// `apps`; empty for core.
    pub group: Name,
    /// `v1`.
    pub version: Name,
    /// The name in paths: `deployments`.
    pub plural: Name,
    /// `deployment`.
    pub singular: Name,
    /// `Deployment`.
    pub kind: Name,
    /// `DeploymentList`.
    pub list_kind: Name,
    /// `deploy`.
    pub short_names: Box<[Name]>,
    /// Groups of resources a client may ask for at once: `all`.
    pub categories: Box<[Name]>,
    /// Whether objects live in namespaces.
    pub namespaced: bool,
    /// What may be done, sorted.
    pub verbs: Box<[Name]>,
    /// Sorted by name.
    pub subresources: Box<[Subresource]>,
    /// The fields whose values are kept beside each object, in the order of `Meta::fields`.
    pub fields: Box<[Selectable]>,
    /// What a field selector may name, besides metadata: a label and its index in `fields`.
    pub labels: Box<[(Name, usize)]>,
    /// The group and version under which objects are stored, when it is another.
    pub stored_as: Option<(Name, Name)>,
    /// `storageVersionHash` in discovery; empty when the resource is not stored.
    pub hash: Name,
    /// The type of the kind, in the schema of the group's owner.
    pub type_id: TypeId,
}

/// A part of an object, or an action on it, with a path of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subresource {
    /// `scale`.
    pub name: Name,
    /// Group and version of `kind`, when they are not the resource's.
    pub group_version: Option<(Name, Name)>,
    /// The kind that is read and written: `Scale`.
    pub kind: Name,
    /// What may be done, sorted.
    pub verbs: Box<[Name]>,
}

/// A field whose value is kept beside each object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selectable {
    /// The name in field selectors: `spec.nodeName`.
    pub label: Name,
    /// Paths of field names; the first that holds something counts.
    pub paths: Box<[Box<[Box<str>]>]>,
    /// The value of an absent field.
    pub default: Box<str>,
}

impl Resource {
    /// Whether `verb` is served.
    pub fn serves(&self, verb: &str) -> bool {
        self.verbs.iter().any(|served| served == verb)
    }

    /// Whether objects are kept, rather than only answered (reviews, bindings).
    pub fn is_stored(&self) -> bool {
        !self.hash.is_empty()
    }

    /// The subresource with that name.
    pub fn subresource(&self, name: &str) -> Option<&Subresource> {
        self.subresources.iter().find(|sub| sub.name == name)
    }

    /// `apps/v1`, or `v1` in the core group.
    pub fn api_version(&self) -> String {
        api_version(&self.group, &self.version)
    }

    /// Group, version and kind.
    pub fn gvk(&self) -> GroupVersionKind {
        GroupVersionKind { group: self.group.clone(), version: self.version.clone(), kind: self.kind.clone() }
    }

    /// `deployments.apps`, or `pods` in the core group: how errors name the resource.
    pub fn group_resource(&self) -> String {
        qualified(&self.plural, &self.group)
    }

    /// `Deployment.apps`, or `Pod` in the core group: how errors name the kind.
    pub fn group_kind(&self) -> String {
        qualified(&self.kind, &self.group)
    }
}

impl Subresource {
    /// Whether `verb` is served.
    pub fn serves(&self, verb: &str) -> bool {
        self.verbs.iter().any(|served| served == verb)
    }

    /// Group, version and kind of what is read and written under `resource`.
    pub fn gvk(&self, resource: &Resource) -> GroupVersionKind {
        let own = || (resource.group.clone(), resource.version.clone());
        let (group, version) = self.group_version.clone().unwrap_or_else(own);
        GroupVersionKind { group, version, kind: self.kind.clone() }
    }
}

/// `apps/v1`, or `v1` in the core group.
pub fn api_version(group: &str, version: &str) -> String {
    if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") }
}

fn qualified(name: &str, group: &str) -> String {
    if group.is_empty() { name.to_owned() } else { format!("{name}.{group}") }
}
