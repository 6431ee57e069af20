//! `ResourceRef`: where the objects of a kind are found.

use std::borrow::Cow;

use k8s_openapi::{ClusterResourceScope, NamespaceResourceScope, Resource};

/// A resource by its path.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ResourceRef {
    /// The group; empty for core.
    pub group: Cow<'static, str>,
    /// The version.
    pub version: Cow<'static, str>,
    /// The name in paths.
    pub plural: Cow<'static, str>,
    /// The kind of its objects.
    pub kind: Cow<'static, str>,
    /// Whether its objects live in namespaces.
    pub namespaced: bool,
}

impl ResourceRef {
    /// The resource of a kind that lives in namespaces.
    pub fn namespaced<K: Resource<Scope = NamespaceResourceScope>>() -> Self {
        Self::of::<K>(true)
    }

    /// The resource of a kind that lives in none.
    pub fn cluster<K: Resource<Scope = ClusterResourceScope>>() -> Self {
        Self::of::<K>(false)
    }

    fn of<K: Resource>(namespaced: bool) -> Self {
        Self {
            group: K::GROUP.into(),
            version: K::VERSION.into(),
            plural: K::URL_PATH_SEGMENT.into(),
            kind: K::KIND.into(),
            namespaced,
        }
    }

    /// `apps/v1`, or `v1` in the core group.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.to_string()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// The path of a collection; of an object with a name, and of a subresource with both.
    pub fn path(&self, namespace: Option<&str>, name: &str, subresource: &str) -> String {
        let mut path =
            if self.group.is_empty() { "/api/".to_owned() } else { format!("/apis/{}/", self.group) };
        path.push_str(&self.version);
        if let Some(namespace) = namespace.filter(|_| self.namespaced) {
            path.push_str("/namespaces/");
            path.push_str(namespace);
        }
        for part in [&self.plural, name, subresource].into_iter().filter(|part| !part.is_empty()) {
            path.push('/');
            path.push_str(part);
        }
        path
    }
}
