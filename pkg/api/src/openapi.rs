//! OpenAPI documents, v3 by group and version and v2 for all, made from the schema and the catalog when asked for and
//! not kept. Called by the HTTP layer for `/openapi/...`; `kubectl explain`, its dry-run check and client-go read them.

mod definition;
mod description;
mod gnostic;
mod path;
#[cfg(test)]
mod tests;
mod v2;
mod v3;

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use serde_json::{Map, Value, json};

use crate::resource::{Catalog, Resource};
use crate::schema::Schema;

/// The media type of `Documents::v2_protobuf`.
pub const V2_PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

/// What documents are made from. The schema must hold every type of the catalog.
#[derive(Clone, Copy, Debug)]
pub struct Documents<'a> {
    /// The types.
    pub schema: &'a Schema,
    /// The resources.
    pub catalog: &'a Catalog,
    /// The server's version, `v1.37.0`.
    pub version: &'a str,
}

impl Documents<'_> {
    /// `/openapi/v3`: where the document of each group and version is. Its address changes with its content.
    pub fn index(&self) -> Value {
        let paths: Map<String, Value> = self
            .group_versions()
            .map(|(group, version)| {
                let path = prefix(group, version);
                let hash = self.etag(group, version);
                let url = format!("/openapi/v3/{path}?hash={hash}");
                (path, json!({ "serverRelativeURL": url }))
            })
            .collect();
        json!({ "paths": paths })
    }

    /// `/openapi/v3/{path}` as JSON, for a path as in the index (`api/v1`, `apis/apps/v1`).
    pub fn v3(&self, path: &str) -> Option<String> {
        let (group, version) =
            self.group_versions().find(|(group, version)| prefix(group, version) == path)?;
        Some(v3::document(self, group, version))
    }

    /// `/openapi/v2` as JSON.
    pub fn v2(&self) -> String {
        v2::document(self)
    }

    /// `/openapi/v2` as [`V2_PROTOBUF`].
    pub fn v2_protobuf(&self) -> Vec<u8> {
        gnostic::document(self)
    }

    /// Identifies the content of a v3 document without making it; of the v2 document with empty names.
    pub fn etag(&self, group: &str, version: &str) -> String {
        let mut hasher = DefaultHasher::new();
        (self.version, self.schema.fingerprint()).hash(&mut hasher);
        let everything = group.is_empty() && version.is_empty();
        for resource in self.catalog.iter() {
            if everything || resource.group == group && resource.version == version {
                format!("{resource:?}").hash(&mut hasher);
            }
        }
        format!("{:016X}", hasher.finish())
    }

    /// In order of name.
    fn group_versions(&self) -> impl Iterator<Item = (&str, &str)> {
        let all: BTreeSet<_> =
            self.catalog.iter().map(|resource| (&*resource.group, &*resource.version)).collect();
        all.into_iter()
    }

    fn resources<'b>(&'b self, group: &'b str, version: &'b str) -> impl Iterator<Item = &'b Resource> {
        self.catalog.version(group, version).map(|resource| &**resource)
    }
}

/// `api/v1`, `apis/apps/v1`.
fn prefix(group: &str, version: &str) -> String {
    if group.is_empty() { format!("api/{version}") } else { format!("apis/{group}/{version}") }
}
