//! Discovery: the documents that tell clients which resources there are, made from a [`Catalog`]. The legacy ones are
//! one document for each group and version; the aggregated ones are one for `/api` and one for `/apis`.

use serde_json::{Map, Value, json};

use crate::resource::{Catalog, Group, Resource, Subresource, api_version};
use crate::schema::Name;

/// The document at `/api`: the versions of the core group. `address` is where clients reach the server, `host:port`.
pub fn core_versions(catalog: &Catalog, address: &str) -> Value {
    let core = catalog.groups().into_iter().find(|group| group.name.is_empty());
    json!({
        "kind": "APIVersions",
        "versions": core.map(|group| group.versions).unwrap_or_default(),
        "serverAddressByClientCIDRs": [{ "clientCIDR": "0.0.0.0/0", "serverAddress": address }],
    })
}

/// The document at `/apis`: every group but the core group.
pub fn groups(catalog: &Catalog) -> Value {
    let named = catalog.groups().into_iter().filter(|group| !group.name.is_empty());
    json!({ "kind": "APIGroupList", "apiVersion": "v1", "groups": named.map(|g| describe_group(&g)).collect::<Vec<_>>() })
}

/// The document at `/apis/{group}`.
pub fn group(catalog: &Catalog, name: &str) -> Option<Value> {
    let group = catalog.groups().into_iter().find(|group| group.name == name && !name.is_empty())?;
    let mut document = describe_group(&group);
    document["kind"] = "APIGroup".into();
    document["apiVersion"] = "v1".into();
    Some(document)
}

/// The document at `/api/{version}` or `/apis/{group}/{version}`: its resources, each followed by its subresources.
pub fn resources(catalog: &Catalog, group: &str, version: &str) -> Option<Value> {
    let described: Vec<Value> = catalog.version(group, version).flat_map(|r| describe_resource(r)).collect();
    if described.is_empty() {
        return None;
    }
    let mut document = json!({
        "kind": "APIResourceList",
        "groupVersion": api_version(group, version),
        "resources": described,
    });
    // As upstream: the core document is older than this field.
    if !group.is_empty() {
        document["apiVersion"] = "v1".into();
    }
    Some(document)
}

/// Which of the two roots a document is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Root {
    /// `/api`.
    Core,
    /// `/apis`.
    Groups,
}

/// The aggregated document at `/api` or `/apis`: an `APIGroupDiscoveryList` of `apidiscovery.k8s.io/v2`.
pub fn aggregated(catalog: &Catalog, root: Root) -> Value {
    let belongs = |group: &Group| group.name.is_empty() == (root == Root::Core);
    let items = catalog.groups().into_iter().filter(belongs).map(|group| aggregated_group(catalog, &group));
    json!({
        "kind": "APIGroupDiscoveryList",
        "apiVersion": "apidiscovery.k8s.io/v2",
        "metadata": {},
        "items": items.collect::<Vec<_>>(),
    })
}

fn describe_group(group: &Group) -> Value {
    let describe =
        |version: &Name| json!({ "groupVersion": api_version(&group.name, version), "version": version });
    json!({
        "name": group.name,
        "versions": group.versions.iter().map(describe).collect::<Vec<_>>(),
        "preferredVersion": group.versions.first().map(describe),
    })
}

fn describe_resource(resource: &Resource) -> Vec<Value> {
    let mut own = json!({
        "name": resource.plural,
        "singularName": resource.singular,
        "namespaced": resource.namespaced,
        "kind": resource.kind,
        "verbs": resource.verbs,
    });
    add_names(&mut own, resource);
    if resource.is_stored() {
        own["storageVersionHash"] = json!(resource.hash);
    }
    let subresource = |sub: &Subresource| {
        let mut described = json!({
            "name": format!("{}/{}", resource.plural, sub.name),
            "singularName": "",
            "namespaced": resource.namespaced,
            "kind": sub.kind,
            "verbs": sub.verbs,
        });
        if let Some((group, version)) = &sub.group_version {
            described["group"] = json!(group);
            described["version"] = json!(version);
        }
        described
    };
    [own].into_iter().chain(resource.subresources.iter().map(subresource)).collect()
}

fn aggregated_group(catalog: &Catalog, group: &Group) -> Value {
    let version = |version: &Name| {
        let resources = catalog.version(&group.name, version).map(|r| aggregated_resource(r));
        json!({ "version": version, "freshness": "Current", "resources": resources.collect::<Vec<_>>() })
    };
    let mut metadata = Map::new();
    if !group.name.is_empty() {
        metadata.insert("name".to_owned(), json!(group.name));
    }
    json!({ "metadata": metadata, "versions": group.versions.iter().map(version).collect::<Vec<_>>() })
}

fn aggregated_resource(resource: &Resource) -> Value {
    let mut described = json!({
        "resource": resource.plural,
        "responseKind": { "group": "", "version": "", "kind": resource.kind },
        "scope": if resource.namespaced { "Namespaced" } else { "Cluster" },
        "singularResource": resource.singular,
        "verbs": resource.verbs,
    });
    add_names(&mut described, resource);
    let subresource = |sub: &Subresource| {
        let (group, version) = sub.group_version.clone().unwrap_or_default();
        json!({
            "subresource": sub.name,
            "responseKind": { "group": group, "version": version, "kind": sub.kind },
            "verbs": sub.verbs,
        })
    };
    if !resource.subresources.is_empty() {
        described["subresources"] = resource.subresources.iter().map(subresource).collect();
    }
    described
}

fn add_names(described: &mut Value, resource: &Resource) {
    if !resource.short_names.is_empty() {
        described["shortNames"] = json!(resource.short_names);
    }
    if !resource.categories.is_empty() {
        described["categories"] = json!(resource.categories);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn catalog() -> &'static Catalog {
        Catalog::builtin()
    }

    #[test]
    fn the_roots_list_groups_in_order_of_priority() {
        let core = core_versions(catalog(), "10.0.0.1:6443");
        assert_eq!(core["versions"], json!(["v1"]));
        assert_eq!(core["serverAddressByClientCIDRs"][0]["serverAddress"], "10.0.0.1:6443");
        let groups = groups(catalog());
        let names: Vec<_> =
            groups["groups"].as_array().unwrap().iter().map(|g| g["name"].as_str().unwrap()).collect();
        assert_eq!(names[..3], ["apiregistration.k8s.io", "apps", "events.k8s.io"]);
        let expected = json!({
            "kind": "APIGroup", "apiVersion": "v1", "name": "autoscaling",
            "versions": [
                { "groupVersion": "autoscaling/v2", "version": "v2" },
                { "groupVersion": "autoscaling/v1", "version": "v1" },
            ],
            "preferredVersion": { "groupVersion": "autoscaling/v2", "version": "v2" },
        });
        assert_eq!(group(catalog(), "autoscaling"), Some(expected));
        assert_eq!((group(catalog(), ""), group(catalog(), "x")), (None, None));
    }

    #[test]
    fn a_version_lists_resources_and_subresources() {
        let core = resources(catalog(), "", "v1").unwrap();
        assert_eq!((&core["groupVersion"], &core["apiVersion"]), (&json!("v1"), &Value::Null));
        let named =
            |name: &str| core["resources"].as_array().unwrap().iter().find(|r| r["name"] == name).cloned();
        let expected = json!({
            "name": "pods", "singularName": "pod", "namespaced": true, "kind": "Pod", "shortNames": ["po"],
            "categories": ["all"], "storageVersionHash": "xPOwRZ+Yhw8=",
            "verbs": ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"],
        });
        assert_eq!(named("pods"), Some(expected));
        let expected = json!({
            "name": "pods/eviction", "singularName": "", "namespaced": true, "group": "policy", "version": "v1",
            "kind": "Eviction", "verbs": ["create"],
        });
        assert_eq!(named("pods/eviction"), Some(expected));
        assert_eq!(resources(catalog(), "apps", "v1").unwrap()["apiVersion"], "v1");
        assert_eq!(resources(catalog(), "apps", "v2"), None);
    }

    #[test]
    fn the_aggregated_documents_hold_everything() {
        let core = aggregated(catalog(), Root::Core);
        assert_eq!(core["items"].as_array().unwrap().len(), 1);
        assert_eq!(core["items"][0]["metadata"], json!({}));
        let groups = aggregated(catalog(), Root::Groups);
        let apps = &groups["items"][1];
        assert_eq!(apps["metadata"], json!({ "name": "apps" }));
        let expected = json!({
            "resource": "deployments", "responseKind": { "group": "", "version": "", "kind": "Deployment" },
            "scope": "Namespaced", "singularResource": "deployment", "shortNames": ["deploy"], "categories": ["all"],
            "verbs": ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"],
            "subresources": [
                { "subresource": "scale", "verbs": ["get", "patch", "update"],
                  "responseKind": { "group": "autoscaling", "version": "v1", "kind": "Scale" } },
                { "subresource": "status", "verbs": ["get", "patch", "update"],
                  "responseKind": { "group": "", "version": "", "kind": "Deployment" } },
            ],
        });
        assert_eq!(apps["versions"][0]["resources"][2], expected);
    }
}
