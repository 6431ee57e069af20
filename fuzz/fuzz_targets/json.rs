//! The JSON decoder: no input makes it panic, and what it accepts it accepts again, strictly and unchanged,
//! and protobuf carries it unchanged.
#![no_main]

use edgek_api::json::{self, Unknown};
use edgek_api::protobuf;
use edgek_api::schema::Schema;
use libfuzzer_sys::fuzz_target;

/// Together they hold every kind of field.
const KINDS: &[(&str, &str)] = &[
    ("v1", "Pod"),
    ("apps/v1", "Deployment"),
    ("v1", "ConfigMap"),
    ("v1", "Secret"),
    ("v1", "Service"),
    ("v1", "Node"),
    ("v1", "Event"),
    ("v1", "List"),
    ("apiextensions.k8s.io/v1", "CustomResourceDefinition"),
    ("certificates.k8s.io/v1", "CertificateSigningRequest"),
    ("resource.k8s.io/v1", "ResourceClaim"),
];

fuzz_target!(|data: &[u8]| {
    let Some((choice, body)) = data.split_first() else { return };
    let (api_version, kind) = KINDS[usize::from(*choice) % KINDS.len()];
    let schema = Schema::builtin();
    let id = schema.by_api_version(api_version, kind).expect("a built-in kind");
    let Ok(decoded) = json::decode(body, schema, id, Unknown::Warn) else { return };
    let encoded = serde_json::to_vec(&decoded.value).expect("a value encodes");
    let again = json::decode(&encoded, schema, id, Unknown::Strict).expect("canonical form decodes strictly");
    assert_eq!(again.value, decoded.value);
    let wire = protobuf::encode(&decoded.value, schema, id);
    assert_eq!(protobuf::decode(&wire, schema, id).expect("what was encoded decodes"), decoded.value);
});
