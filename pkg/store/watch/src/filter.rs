//! `Filter`: which objects of a collection a list or watch is about.

use edgek_api::resource::Resource;
use edgek_api::selector::field::{self, Key};
use edgek_api::selector::label;

use crate::Object;

/// Which objects of a collection a list or watch is about; by default all.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// The namespace; empty for all, and for cluster-scoped resources.
    pub namespace: Box<str>,
    /// The label selector.
    pub labels: label::Selector,
    /// The field selector, parsed for the resource under which the objects are stored.
    pub fields: field::Selector,
}

impl Filter {
    /// Whether the object is meant.
    pub fn matches(&self, object: &Object) -> bool {
        let meta = object.meta();
        (self.namespace.is_empty() || self.namespace == meta.namespace)
            && (self.fields.is_empty() || self.fields.matches(meta))
            && (self.labels.is_empty() || self.labels.matches_meta(meta))
    }

    /// Whether no selector narrows the namespace down.
    pub(crate) fn is_plain(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    /// What comes after every key of the meant objects; empty for no end. `0` is what follows the slash.
    pub(crate) fn end(&self) -> String {
        if self.namespace.is_empty() { String::new() } else { format!("{}0", self.namespace) }
    }

    /// What every key of the meant objects starts with.
    pub(crate) fn prefix(&self) -> String {
        if self.namespace.is_empty() { String::new() } else { format!("{}/", self.namespace) }
    }

    /// The one key that can be meant, when the filter names it.
    pub(crate) fn key(&self, namespaced: Scope) -> Option<String> {
        let name = self.fields.required(Key::Name)?;
        match namespaced {
            Scope::Cluster => Some(name.to_owned()),
            Scope::Namespaced if self.namespace.is_empty() => None,
            Scope::Namespaced => Some(format!("{}/{name}", self.namespace)),
        }
    }
}

/// Whether a resource's objects live in namespaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    Cluster,
    Namespaced,
}

impl Scope {
    /// That of a resource.
    pub(crate) fn of(resource: &Resource) -> Self {
        if resource.namespaced { Self::Namespaced } else { Self::Cluster }
    }
}
