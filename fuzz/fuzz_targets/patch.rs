//! The three patches: none makes the engine panic or grow without bound, whatever it is applied to decodes by the schema
//! or is refused, and a merge patch applied twice changes nothing more.
#![no_main]

use std::sync::LazyLock;

use edgek_api::json::{self, Unknown};
use edgek_api::patch;
use edgek_api::schema::{Schema, TypeId};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

static POD: LazyLock<(TypeId, Value)> = LazyLock::new(|| {
    let schema = Schema::builtin();
    let id = schema.by_api_version("v1", "Pod").expect("a built-in kind");
    let seed = &include_bytes!("../seeds/json/pod.json")[1..];
    (id, json::decode(seed, schema, id, Unknown::Strict).expect("the seed is a pod").value)
});

fuzz_target!(|data: &[u8]| {
    let Some((kind, text)) = data.split_first() else { return };
    let schema = Schema::builtin();
    let (id, pod) = &*POD;
    let patched = match kind % 3 {
        0 => patch::json::apply(pod.clone(), text),
        1 => patch::merge::apply(pod.clone(), text),
        _ => patch::strategic::apply(pod.clone(), text, schema, *id),
    };
    let Ok(patched) = patched else { return };
    if kind % 3 == 1 {
        let again = patch::merge::apply(patched.clone(), text).expect("it applied once");
        assert_eq!(again, patched);
    }
    let encoded = serde_json::to_vec(&patched).expect("a value encodes");
    let _ = json::decode(&encoded, schema, *id, Unknown::Warn);
});
