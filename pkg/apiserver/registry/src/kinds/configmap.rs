//! ConfigMaps.

use edgek_api::name;
use serde_json::Value;

use crate::strategy::{PLAIN, Strategy};
use edgek_api::field::{ErrorList, Path};
use edgek_apiserver_admission::fields::{Fields, same};

pub(super) const STRATEGY: Strategy = Strategy { validate, validate_update, ..PLAIN };

/// The most bytes of data in one ConfigMap or Secret: 1 MiB.
pub(super) const MAX_DATA: usize = 1024 * 1024;

fn validate(map: &Value, errors: &mut ErrorList) {
    let mut total = 0;
    let data = Path::Root("data");
    for (key, value) in map.entries("data") {
        errors.invalid_all(&data.key(key), key, name::config_key(key));
        if map.at("binaryData").get(key).is_some() {
            errors.invalid(&data.key(key), key.as_str(), "duplicate of key present in binaryData");
        }
        total += value.as_str().map_or(0, str::len);
    }
    let binary = Path::Root("binaryData");
    for (key, value) in map.entries("binaryData") {
        errors.invalid_all(&binary.key(key), key, name::config_key(key));
        total += decoded_length(value);
    }
    if total > MAX_DATA {
        errors.too_long(&Path::Root(""), MAX_DATA);
    }
}

/// The bytes that a base64 string stands for.
pub(super) fn decoded_length(value: &Value) -> usize {
    let text = value.as_str().unwrap_or_default();
    text.trim_end_matches('=').len() * 3 / 4
}

fn validate_update(new: &Value, old: &Value, errors: &mut ErrorList) {
    immutable_data(new, old, &["data", "binaryData"], errors);
}

/// Once `immutable` is set it stays, and so does the data.
pub(super) fn immutable_data(new: &Value, old: &Value, fields: &[&str], errors: &mut ErrorList) {
    const DETAIL: &str = "field is immutable when `immutable` is set";
    if !old.flag("immutable") {
        return;
    }
    if !new.flag("immutable") {
        errors.forbidden(&Path::Root("immutable"), DETAIL);
    }
    for field in fields {
        if !same(new.at(field), old.at(field)) {
            errors.forbidden(&Path::Root(field), DETAIL);
        }
    }
}
