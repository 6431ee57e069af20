//! Tests of `object`.

use super::*;
use crate::resource::Catalog;

const POD: &str = r#"{"apiVersion":"v1","kind":"Pod","metadata":{"annotations":{"a":"{\"b\":[1]}"},"creationTimestamp":"2026-01-01T00:00:00Z","deletionTimestamp":"2026-01-02T00:00:00Z","finalizers":["x/y"],"generation":3,"labels":{"app":"w\u00e9b","tier":""},"name":"p","namespace":"d","ownerReferences":[{"apiVersion":"apps/v1","blockOwnerDeletion":true,"controller":true,"kind":"ReplicaSet","name":"r","uid":"u2"}],"uid":"u1"},"spec":{"containers":[{"name":"spec.nodeName"}],"hostNetwork":true,"nodeName":"n","restartPolicy":"Always"},"status":{"podIP":"10.0.0.1","phase":"Running"}}"#;

fn parse(json: &str, group: &str, plural: &str) -> Result<Meta, MetaError> {
    Meta::parse(json.as_bytes(), Catalog::builtin().find(group, "v1", plural).unwrap())
}

fn fields(json: &str, group: &str, plural: &str) -> String {
    let resource = Catalog::builtin().find(group, "v1", plural).unwrap();
    let meta = parse(json, group, plural).unwrap();
    let shown = resource.fields.iter().zip(&meta.fields).filter(|(_, value)| !value.is_empty());
    shown.map(|(field, value)| format!("{}={value}", field.label)).collect::<Vec<_>>().join(" ")
}

#[test]
fn metadata_is_read_and_the_rest_skipped() {
    let meta = parse(POD, "", "pods").unwrap();
    assert_eq!((&*meta.name, &*meta.namespace, meta.uid.as_str(), meta.generation), ("p", "d", "u1", 3));
    assert!(meta.is_deleting());
    assert_eq!((meta.label("app"), meta.label("tier"), meta.label("x")), (Some("wéb"), Some(""), None));
    assert_eq!(meta.finalizers, ["x/y".into()].into());
    let owner = meta.controller().unwrap();
    assert_eq!((&*owner.kind, owner.uid.as_str(), owner.block_owner_deletion), ("ReplicaSet", "u2", true));
}

#[test]
fn selectable_fields_are_read_with_their_defaults() {
    let shown = "spec.hostNetwork=true spec.nodeName=n spec.restartPolicy=Always status.phase=Running status.podIP=10.0.0.1";
    assert_eq!(fields(POD, "", "pods"), shown);
    assert_eq!(fields("{}", "", "pods"), "spec.hostNetwork=false");
    assert_eq!(fields(r#"{"spec":null,"status":[{"phase":"x"}]}"#, "", "pods"), "spec.hostNetwork=false");
    assert_eq!(fields(r#"{"status":{"succeeded":2}}"#, "batch", "jobs"), "status.successful=2");
    let both = r#"{"reportingComponent":"a","source":{"component":"b"}}"#;
    assert_eq!(fields(both, "", "events"), "reportingComponent=a source=b");
    assert_eq!(
        fields(r#"{"reportingComponent":"a","source":{}}"#, "", "events"),
        "reportingComponent=a source=a"
    );
}

#[test]
fn what_is_no_object_is_refused() {
    for bad in
        ["", "[]", "{", r#"{"metadata":[]}"#, r#"{"a""#, r#"{"a":"b"#, r#"{"metadata":{"generation":"x"}}"#]
    {
        assert!(parse(bad, "", "pods").is_err(), "{bad}");
    }
}

#[test]
fn the_resource_version_goes_where_sorting_puts_it() {
    let check = |json: &str, expected: &str| {
        let stamped = stamp_revision(&Bytes::copy_from_slice(json.as_bytes()), 42);
        assert_eq!(std::str::from_utf8(&stamped).unwrap(), expected);
    };
    check(r#"{"kind":"X","metadata":{}}"#, r#"{"kind":"X","metadata":{"resourceVersion":"42"}}"#);
    check(
        r#"{"metadata":{"name":"a","uid":"b"},"spec":1}"#,
        r#"{"metadata":{"name":"a","resourceVersion":"42","uid":"b"},"spec":1}"#,
    );
    check(r#"{"metadata":{"name":"a"}}"#, r#"{"metadata":{"name":"a","resourceVersion":"42"}}"#);
    check(r#"{"metadata":{"uid":"b"}}"#, r#"{"metadata":{"resourceVersion":"42","uid":"b"}}"#);
    check(
        r#"{"metadata":{"name":"a","resourceVersion":"7","uid":"b"}}"#,
        r#"{"metadata":{"name":"a","resourceVersion":"42","uid":"b"}}"#,
    );
    check(r#"{"metadata":{"resourceVersion":"7"}}"#, r#"{"metadata":{"resourceVersion":"42"}}"#);
    check(
        r#"{"metadata":{"resourceVersion":"7","uid":"b"}}"#,
        r#"{"metadata":{"resourceVersion":"42","uid":"b"}}"#,
    );
    check(
        r#"{"data":{"metadata":"{\"a\":1}"},"metadata":{"name":"a"}}"#,
        r#"{"data":{"metadata":"{\"a\":1}"},"metadata":{"name":"a","resourceVersion":"42"}}"#,
    );
    check("[1]", "[1]");
    check(r#"{"metadata":null}"#, r#"{"metadata":null}"#);
}

#[test]
fn stamping_gives_canonical_json_again() {
    let stamped = stamp_revision(&Bytes::from_static(POD.as_bytes()), 7);
    let mut expected: serde_json::Value = serde_json::from_str(POD).unwrap();
    set(&mut expected, "metadata.resourceVersion", "7");
    let stamped: serde_json::Value = serde_json::from_slice(&stamped).unwrap();
    assert_eq!(stamped, expected);
}

#[test]
fn accessors_make_what_is_missing_and_read_the_absent_as_empty() {
    let mut object = serde_json::json!({"spec": null});
    set(&mut object, "spec.a.b", 1);
    metadata_mut(&mut object).insert("name".into(), "x".into());
    assert_eq!((name(&object), namespace(&object), number(&object, "spec.a.b")), ("x", "", Some(1)));
    assert_eq!(
        (get(&object, "spec.a.c"), items(&object, "spec").len(), text(&object, "spec.a")),
        (None, 0, "")
    );
}
