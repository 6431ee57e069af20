//! The YAML decoder: no input makes it panic, and what it accepts is accepted as JSON, strictly and unchanged.
#![no_main]

use edgek_api::json::{self, Unknown};
use edgek_api::schema::Schema;
use edgek_api::yaml;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let schema = Schema::builtin();
    let id = schema.by_api_version("v1", "Pod").expect("a built-in kind");
    let Ok(decoded) = yaml::decode(data, schema, id, Unknown::Warn) else { return };
    let encoded = serde_json::to_vec(&decoded.value).expect("a value encodes");
    let again = json::decode(&encoded, schema, id, Unknown::Strict).expect("canonical form decodes strictly");
    assert_eq!(again.value, decoded.value);
});
