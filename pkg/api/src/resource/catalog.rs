//! `Catalog`: the resources that are served, in the order of discovery.

use std::sync::{Arc, LazyLock};

use super::{Resource, parse};
use crate::schema::{Name, Schema};

/// The resources that are served. Cheap to clone, so that custom resources can be added to a copy.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    /// Group by group in the order of priority, the preferred version first.
    resources: Vec<Arc<Resource>>,
}

/// A group and its versions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// `apps`; empty for core.
    pub name: Name,
    /// The preferred version first.
    pub versions: Vec<Name>,
}

impl Catalog {
    /// The resources of Kubernetes v1.37 that are generally available.
    pub fn builtin() -> &'static Catalog {
        static BUILTIN: LazyLock<Catalog> = LazyLock::new(|| {
            let resources = parse::table(include_str!("builtin.txt"), Schema::builtin())
                .expect("the table in the binary is well-formed");
            Catalog { resources: resources.into_iter().map(Arc::new).collect() }
        });
        &BUILTIN
    }

    /// The resource under that path.
    pub fn find(&self, group: &str, version: &str, plural: &str) -> Option<&Arc<Resource>> {
        self.resources.iter().find(|r| r.plural == plural && r.group == group && r.version == version)
    }

    /// The resource of that kind. Of several, the first: `bindings`, never `pods/binding`.
    pub fn by_kind(&self, group: &str, version: &str, kind: &str) -> Option<&Arc<Resource>> {
        self.resources.iter().find(|r| r.kind == kind && r.group == group && r.version == version)
    }

    /// The resource of that kind, from an object's `apiVersion` (`apps/v1`, `v1`).
    pub fn by_api_version(&self, api_version: &str, kind: &str) -> Option<&Arc<Resource>> {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        self.by_kind(group, version, kind)
    }

    /// The resource under which objects of `resource` are stored: most often itself.
    pub fn stored<'a>(&'a self, resource: &'a Arc<Resource>) -> &'a Arc<Resource> {
        let other = resource.stored_as.as_ref();
        other.and_then(|(group, version)| self.find(group, version, &resource.plural)).unwrap_or(resource)
    }

    /// Every resource, in the order of discovery.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Resource>> {
        self.resources.iter()
    }

    /// The resources of one group and version.
    pub fn version<'a>(
        &'a self,
        group: &'a str,
        version: &'a str,
    ) -> impl Iterator<Item = &'a Arc<Resource>> {
        self.resources.iter().filter(move |r| r.group == group && r.version == version)
    }

    /// The groups in the order of priority.
    pub fn groups(&self) -> Vec<Group> {
        let mut groups: Vec<Group> = Vec::new();
        for resource in &self.resources {
            let at = groups.iter().position(|group| group.name == resource.group).unwrap_or_else(|| {
                groups.push(Group { name: resource.group.clone(), versions: Vec::new() });
                groups.len() - 1
            });
            if !groups[at].versions.contains(&resource.version) {
                groups[at].versions.push(resource.version.clone());
            }
        }
        groups
    }

    /// Adds a resource after those of its group, or replaces the one under its path.
    pub fn insert(&mut self, resource: Resource) {
        let same = |r: &Arc<Resource>| {
            r.group == resource.group && r.version == resource.version && r.plural == resource.plural
        };
        if let Some(at) = self.resources.iter().position(same) {
            self.resources[at] = Arc::new(resource);
            return;
        }
        let after = self.resources.iter().rposition(|r| r.group == resource.group);
        let at = after.map_or(self.resources.len(), |at| at + 1);
        self.resources.insert(at, Arc::new(resource));
    }

    /// Removes the resource under that path.
    pub fn remove(&mut self, group: &str, version: &str, plural: &str) -> Option<Arc<Resource>> {
        let at = self
            .resources
            .iter()
            .position(|r| r.plural == plural && r.group == group && r.version == version)?;
        Some(self.resources.remove(at))
    }
}
