//! Both codecs against what upstream's own serializers wrote (`testdata/generate.sh`).

use std::io::Read as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::*;
use crate::json::{self, Unknown};
use crate::schema::{Schema, TypeId};

struct Published {
    name: String,
    json: String,
    wire: Vec<u8>,
}

fn published() -> Vec<Published> {
    let mut text = String::new();
    let packed: &[u8] = include_bytes!("../../testdata/published.tsv.gz");
    flate2::read::GzDecoder::new(packed).read_to_string(&mut text).unwrap();
    text.lines()
        .map(|line| {
            let mut columns = line.split('\t').map(str::to_owned);
            let mut next = || columns.next().unwrap();
            Published { name: next(), json: next(), wire: STANDARD.decode(next()).unwrap() }
        })
        .collect()
}

/// The type of `core.v1.Pod` or `.v1.Pod`.
fn type_of(name: &str) -> Option<TypeId> {
    let mut parts = name.rsplitn(3, '.');
    let (kind, version, group) = (parts.next()?, parts.next()?, parts.next()?);
    let group = if group == "core" { "" } else { group };
    Schema::builtin()
        .by_kind(group, version, kind)
        .or_else(|| Schema::builtin().by_name(&format!("io.k8s.apimachinery.pkg.apis.meta.v1.{kind}")))
}

/// Upstream's JSON without the nulls and empty lists that canonical JSON leaves out.
fn without_nulls(value: Value) -> Value {
    match value {
        Value::Array(items) => items.into_iter().map(without_nulls).collect(),
        Value::Object(entries) => entries
            .into_iter()
            .filter(|(_, value)| !value.is_null() && *value != json!([]))
            .map(|(key, value)| (key, without_nulls(value)))
            .collect(),
        other => other,
    }
}

#[test]
fn json_and_protobuf_agree_with_upstream_in_both_directions() {
    let schema = Schema::builtin();
    let mut covered = 0;
    for Published { name, json, wire } in published() {
        let Some(id) = type_of(&name) else { continue };
        covered += 1;
        let from_json = json::decode(json.as_bytes(), schema, id, Unknown::Strict).expect(&name).value;
        let from_wire = decode(&wire, schema, id).expect(&name);
        assert_eq!(from_json, from_wire, "{name}: JSON (left) and protobuf (right) differ");
        let upstream = without_nulls(serde_json::from_str(&json).unwrap());
        assert_eq!(
            without_nulls(from_json.clone()),
            upstream,
            "{name}: canonical JSON (left) and upstream's differ"
        );
        assert_eq!(encode(&from_json, schema, id), wire, "{name}: bytes differ from upstream's");
    }
    assert!(covered > 110, "only {covered} kinds of the published ones are in the schema");
}

#[test]
fn a_list_and_a_watch_event_hold_encoded_objects_as_bytes() {
    let schema = Schema::builtin();
    let (pod, pods) = (type_of("core.v1.Pod").unwrap(), type_of("core.v1.PodList").unwrap());
    let value =
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": {}, "status": {}});
    let message = encode_message(&value, schema, pod);

    let meta = ListMeta { resource_version: "7".into(), next: "more".into(), remaining: Some(2) };
    let listed = list("v1", "PodList", &meta, [&*message, &*message]);
    let item = json!({"metadata": {"name": "a"}, "spec": {}, "status": {}});
    let metadata = json!({"resourceVersion": "7", "continue": "more", "remainingItemCount": 2});
    let expected =
        json!({"apiVersion": "v1", "kind": "PodList", "metadata": metadata, "items": [item, item]});
    assert_eq!(decode(&listed, schema, pods).unwrap(), expected);
    assert_eq!(listed, encode(&expected, schema, pods));

    let frame = watch_frame("ADDED", "v1", "Pod", &message);
    let (len, event) = frame.split_first_chunk().unwrap();
    assert_eq!(usize::try_from(u32::from_be_bytes(*len)).unwrap(), event.len());
    let event = decode_message(event, schema, type_of("core.v1.WatchEvent").unwrap()).unwrap();
    assert_eq!(event, json!({"type": "ADDED", "object": value}));
}

#[test]
fn damaged_bodies_are_refused() {
    fn check(message: &[u8], expected: &str) {
        let pod = type_of("core.v1.Pod").unwrap();
        let error = decode(&envelope("v1", "Pod", message), Schema::builtin(), pod).unwrap_err();
        assert_eq!(error.to_string(), expected, "{message:x?}");
    }
    check(&[0x0a], "unexpected EOF");
    check(&[0x0a, 5, 1], "unexpected EOF");
    check(&[0x0b], "proto: wrong wireType = 3 for field 1");
    check(&[0x08, 1], "proto: wrong wireType = 0 for field metadata");
    check(&[0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1], "proto: integer overflow");
    // metadata.creationTimestamp in the year 292277026596
    let far = [&[0x0a, 12, 0x42, 10, 0x08][..], &[0xff; 8], &[0x7f]].concat();
    check(&far, "year is not in the range [0,9999]");

    let not_protobuf = decode(b"{}", Schema::builtin(), type_of("core.v1.Pod").unwrap());
    assert_eq!(not_protobuf, Err(DecodeError::NoMagic));
}

#[test]
fn depth_and_number_are_bounded() {
    let schemas = Schema::builtin();
    let id =
        schemas.by_name("io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps").unwrap();
    // Field 28 is `not`, a schema.
    let nested = |depth| {
        (0..depth).fold(Vec::new(), |inner, _| {
            let mut out = Writer::default();
            out.bytes(28, &inner);
            out.finish()
        })
    };
    assert!(decode_message(&nested(50), schemas, id).is_ok());
    assert_eq!(decode_message(&nested(5000), schemas, id), Err(DecodeError::TooDeep));
    // Field 25 is `allOf`, a list of schemas.
    let many: Vec<u8> = [0xca, 0x01, 0x00].repeat(100_000);
    assert_eq!(decode_message(&many, schemas, id), Err(DecodeError::TooMany));
}

#[test]
fn a_negative_number_and_packed_lists_are_read() {
    let schema = Schema::builtin();
    let id = schema.by_name("io.k8s.api.core.v1.PodSecurityContext").unwrap();
    // runAsUser -1, then supplementalGroups 1 and 300, packed.
    let body = [&[0x10][..], &[0xff; 9], &[1, 0x22, 3, 1, 0xac, 2]].concat();
    let value = decode_message(&body, schema, id).unwrap();
    assert_eq!(value, json!({"runAsUser": -1, "supplementalGroups": [1, 300]}));
}
