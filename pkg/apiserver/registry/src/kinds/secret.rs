//! Secrets.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use edgek_api::name;
use serde_json::Value;

use super::configmap::{MAX_DATA, decoded_length, immutable_data};
use crate::meta::immutable;
use crate::strategy::{PLAIN, Strategy};
use edgek_api::field::{ErrorList, Path};
use edgek_apiserver_admission::fields::Fields;

pub(super) const STRATEGY: Strategy =
    Strategy { default, validate, validate_update, prepare_update, ..PLAIN };

const DATA: Path<'static> = Path::Root("data");

fn default(secret: &mut Value) {
    secret.default_empty("type", "Opaque");
    // `stringData` is for writing only: it is merged into `data`.
    let Some(Value::Object(text)) = secret.remove("stringData") else { return };
    for (key, value) in text {
        let encoded = STANDARD.encode(value.as_str().unwrap_or_default());
        secret.object_mut("data").set(&key, encoded);
    }
}

fn prepare_update(new: &mut Value, old: &Value) {
    if new.text("type").is_empty() {
        new.set("type", old.text("type"));
    }
}

fn validate(secret: &Value, errors: &mut ErrorList) {
    let mut total = 0;
    for (key, value) in secret.entries("data") {
        errors.invalid_all(&DATA.key(key), key, name::config_key(key));
        total += decoded_length(value);
    }
    if total > MAX_DATA {
        errors.too_long(&DATA, MAX_DATA);
    }
    let data = secret.at("data");
    match secret.text("type") {
        "kubernetes.io/service-account-token" => {
            const ACCOUNT: &str = "kubernetes.io/service-account.name";
            if secret.at("metadata.annotations").get(ACCOUNT).is_none_or(|name| name == "") {
                errors.required(&Path::Root("metadata").field("annotations").key(ACCOUNT), "");
            }
        }
        "kubernetes.io/dockercfg" => docker_config(data, ".dockercfg", errors),
        "kubernetes.io/dockerconfigjson" => docker_config(data, ".dockerconfigjson", errors),
        "kubernetes.io/basic-auth" if data.get("username").is_none() && data.get("password").is_none() => {
            errors.required(&DATA.key("username"), "");
            errors.required(&DATA.key("password"), "");
        }
        "kubernetes.io/ssh-auth" if data.get("ssh-privatekey").is_none_or(|key| key == "") => {
            errors.required(&DATA.key("ssh-privatekey"), "");
        }
        "kubernetes.io/tls" => {
            for key in ["tls.crt", "tls.key"] {
                if data.get(key).is_none() {
                    errors.required(&DATA.key(key), "");
                }
            }
        }
        _ => {}
    }
}

fn docker_config(data: &Value, key: &str, errors: &mut ErrorList) {
    let path = DATA.key(key);
    let Some(encoded) = data.get(key).and_then(Value::as_str) else { return errors.required(&path, "") };
    let config = STANDARD.decode(encoded).unwrap_or_default();
    if let Err(error) = serde_json::from_slice::<serde_json::Map<String, Value>>(&config) {
        errors.invalid(&path, "<secret contents redacted>", &error.to_string());
    }
}

fn validate_update(new: &Value, old: &Value, errors: &mut ErrorList) {
    immutable(new.at("type"), old.at("type"), &Path::Root("type"), errors);
    immutable_data(new, old, &["data"], errors);
}
