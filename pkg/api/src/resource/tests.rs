//! Tests of `resource`.

use super::*;

#[test]
fn the_built_in_table_covers_every_served_kind_and_its_subresources() {
    let catalog = Catalog::builtin();
    let pods = catalog.find("", "v1", "pods").unwrap();
    assert_eq!((&*pods.kind, &*pods.list_kind, &*pods.singular), ("Pod", "PodList", "pod"));
    assert!(pods.namespaced && pods.is_stored() && pods.serves("deletecollection"));
    let subresources: Vec<_> = pods.subresources.iter().map(|s| &*s.name).collect();
    let expected = "attach binding ephemeralcontainers eviction exec log portforward proxy resize status";
    assert_eq!(subresources.join(" "), expected);
    assert_eq!(pods.subresource("eviction").unwrap().gvk(pods).api_version(), "policy/v1");

    let reviews = catalog.by_kind("authorization.k8s.io", "v1", "SubjectAccessReview").unwrap();
    assert!(!reviews.is_stored() && reviews.serves("create") && !reviews.serves("get"));
    assert_eq!(catalog.by_api_version("apps/v1", "Deployment").unwrap().group_resource(), "deployments.apps");
    assert_eq!(catalog.iter().count(), 72);
}

#[test]
fn the_preferred_version_stands_first() {
    let groups = Catalog::builtin().groups();
    assert_eq!(groups[0], Group { name: "".into(), versions: vec!["v1".into()] });
    let autoscaling = groups.iter().find(|g| g.name == "autoscaling").unwrap();
    assert_eq!(autoscaling.versions, ["v2", "v1"]);
}

#[test]
fn events_of_both_groups_share_storage_and_fields() {
    let catalog = Catalog::builtin();
    let (core, events) =
        (catalog.find("", "v1", "events").unwrap(), catalog.find("events.k8s.io", "v1", "events").unwrap());
    assert_eq!(catalog.stored(events), core);
    assert_eq!(events.fields, core.fields);
    let label =
        |r: &Resource, name: &str| r.labels.iter().find(|(label, _)| label == name).map(|(_, at)| *at);
    assert_eq!(label(events, "regarding.kind"), label(core, "involvedObject.kind"));
    assert_eq!(label(events, "involvedObject.kind"), None);
}

#[test]
fn a_custom_resource_is_served_after_its_group_until_it_is_removed() {
    let mut catalog = Catalog::builtin().clone();
    let template = catalog.find("apps", "v1", "deployments").unwrap();
    let custom = Resource { plural: "webs".into(), kind: "Web".into(), ..Resource::clone(template) };
    catalog.insert(custom.clone());
    catalog.insert(custom);
    let plurals: Vec<_> = catalog.version("apps", "v1").map(|r| &*r.plural).collect();
    assert_eq!(
        plurals,
        ["controllerrevisions", "daemonsets", "deployments", "replicasets", "statefulsets", "webs"]
    );
    assert!(catalog.remove("apps", "v1", "webs").is_some());
    assert!(catalog.find("apps", "v1", "webs").is_none());
}

#[test]
fn a_broken_table_is_refused() {
    let check = |text, expected| {
        assert_eq!(parse::table(text, crate::schema::Schema::builtin()).unwrap_err(), expected)
    };
    check("/v1\n  pods", ParseError::Malformed(2));
    check("/v1\n  pods Pod namespaced color=blue", ParseError::Malformed(2));
    check("/v1\n  cats Cat namespaced", ParseError::UnknownKind { line: 2, kind: "/v1, Kind=Cat".into() });
    check("/v1\n  pods Pod namespaced\n    field a as=b", ParseError::UnknownLabel(2));
}
