//! The protobuf decoder: no input makes it panic, and what it accepts survives encoding and decoding.
#![no_main]

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
    let _ = protobuf::open(data);
    let Some((choice, body)) = data.split_first() else { return };
    let (api_version, kind) = KINDS[usize::from(*choice) % KINDS.len()];
    let schema = Schema::builtin();
    let id = schema.by_api_version(api_version, kind).expect("a built-in kind");
    let enveloped = protobuf::envelope(api_version, kind, body);
    let Ok(value) = protobuf::decode(&enveloped, schema, id) else { return };
    let encoded = protobuf::encode(&value, schema, id);
    let again = protobuf::decode(&encoded, schema, id).expect("what was encoded decodes");
    assert_eq!(again, value);
});
