//! The table and its reader. That every field is right is shown by the codecs' and OpenAPI's tests against upstream.

use serde_json::json;

use super::*;

fn of_kind(api_version: &str, kind: &str) -> &'static Type {
    let schema = Schema::builtin();
    schema.get(schema.by_api_version(api_version, kind).unwrap())
}

#[test]
fn types_are_found_by_name_and_by_kind() {
    let schema = Schema::builtin();
    assert_eq!(of_kind("v1", "Event").name, "io.k8s.api.core.v1.Event");
    assert_eq!(of_kind("events.k8s.io/v1", "Event").name, "io.k8s.api.events.v1.Event");
    assert_eq!(of_kind("apps/v1", "Deployment").go_name(), "v1.Deployment");
    assert_eq!(of_kind("v1", "DeleteOptions").short_name(), "DeleteOptions");
    assert!(of_kind("v1", "DeleteOptions").every_group);
    assert_eq!(schema.by_api_version("apps/v1", "Pod"), None);
    for (id, message_type) in schema.types() {
        assert_eq!(schema.by_name(&message_type.name), Some(id));
    }
}

#[test]
fn a_field_carries_what_upstream_says_of_it() {
    let schema = Schema::builtin();
    let spec = schema.get(schema.by_name("io.k8s.api.core.v1.PodSpec").unwrap());
    let containers = spec.field("containers").unwrap();
    assert_eq!(containers.wire, [2, 0, 0]);
    assert_eq!((containers.list_type(), containers.map_keys()), (Some(ListType::Map), &["name".into()][..]));
    assert_eq!((containers.patch_key(), containers.patch_strategy()), (Some("name"), PatchStrategy::Merge));
    assert!(containers.required && matches!(&containers.kind, FieldKind::List(_)));
    assert!(spec.field("nodeSelector").unwrap().atomic_map());
    assert_eq!(spec.field("hostNetwork").unwrap().presence, Presence::NonZero);
    assert_eq!(spec.field("priority").unwrap().presence, Presence::Optional);
    assert!(spec.field("hostnetwork").is_none());

    let volume = schema.get(schema.by_name("io.k8s.api.core.v1.Volume").unwrap());
    assert_eq!(volume.field("emptyDir").unwrap().wire, [2, 2, 0]);
    let port = schema.get(schema.by_name("io.k8s.api.core.v1.ServicePort").unwrap());
    assert_eq!(port.field("protocol").unwrap().default(), Some("\"TCP\""));
    assert_eq!(port.field("port").unwrap().default(), Some("0"));
    assert_eq!(port.field("name").unwrap().default(), None);
}

#[test]
fn no_type_has_more_fields_than_the_decoder_tells_apart() {
    let most = Schema::builtin().types().map(|(_, t)| t.fields.len()).max().unwrap();
    assert!(most <= 128, "{most} fields; see json::decode::message");
}

#[test]
fn a_table_that_breaks_the_grammar_is_refused() {
    fn check(text: &'static str, expected: &str) {
        assert_eq!(Schema::parse(text).unwrap_err().to_string(), format!("schema table {expected}"));
    }
    check("package p\ntype A odd", "line 2: unknown attribute \"odd\"");
    check("package p\ntype A kind=Pod", "line 2: \"Pod\" is not group/version/kind");
    check("package p\ntype A\n  f 1", "line 3: missing kind");
    check("package p\ntype A\n  f x string always", "line 3: \"x\" is not a field number");
    check("package p\ntype A\n  f 1.2.3.4 string always", "line 3: \"1.2.3.4\" is nested too deeply");
    check("package p\ntype A\n  f 1 B always", "line 3: \"B\" is not in the table");
    check("package p\ntype A\n  f 1 string sometimes", "line 3: unknown presence \"sometimes\"");
    check("package p\ntype A\n  f 1 string always list=bag", "line 3: unknown list type \"bag\"");
}

#[test]
fn a_schema_of_its_own_works_like_the_built_in_one() {
    let text =
        "package p\ntype B\n  x 1 int32 always\ntype A kind=g/v2/A\n  bs 1 {[B]} nonzero\n  b 2 B always";
    let schema = Schema::parse(text).unwrap();
    let id = schema.by_kind("g", "v2", "A").unwrap();
    assert_eq!(zero(&schema, &FieldKind::Message(id)), Some(json!({"b": {"x": 0}})));
    assert_ne!(schema.fingerprint(), Schema::builtin().fingerprint());
}
