//! Which pull secrets fit an image: docker config files and their matching rules. Pure.

use std::collections::BTreeMap;

use base64::Engine as _;
use edgek_node_runtime::{Credentials, Reference};
use k8s_openapi::api::core::v1::Secret;
use serde::Deserialize;

#[derive(Deserialize, Default)]
#[serde(default)]
struct Entry {
    username: String,
    password: String,
    auth: String,
    identitytoken: String,
    registrytoken: String,
}

#[derive(Deserialize)]
struct Config {
    auths: BTreeMap<String, Entry>,
}

/// The credentials of `secrets` (`kubernetes.io/dockerconfigjson` and `dockercfg`) for an image; those for the longest
/// path come first. Secrets that cannot be read are left out, as upstream does.
pub fn matching(secrets: &[Secret], reference: &Reference) -> Vec<Credentials> {
    let target = &reference.repository;
    let mut found: Vec<(String, Credentials)> = Vec::new();
    for (key, entry) in secrets.iter().flat_map(entries) {
        let pattern = normalize(&key);
        if matches(&pattern, target)
            && let Some(credentials) = entry.credentials()
        {
            found.push((pattern, credentials));
        }
    }
    found.sort_by_key(|(pattern, _)| std::cmp::Reverse(pattern.len()));
    found.into_iter().map(|(_, credentials)| credentials).collect()
}

fn entries(secret: &Secret) -> BTreeMap<String, Entry> {
    let data =
        |key: &str| secret.data.as_ref().and_then(|data| data.get(key)).map(|value| value.0.as_slice());
    let json = data(".dockerconfigjson").and_then(|text| serde_json::from_slice::<Config>(text).ok());
    let old = || data(".dockercfg").and_then(|text| serde_json::from_slice(text).ok());
    json.map(|config| config.auths).or_else(old).unwrap_or_default()
}

impl Entry {
    fn credentials(&self) -> Option<Credentials> {
        if !self.identitytoken.is_empty() {
            return Some(Credentials::Identity(self.identitytoken.clone()));
        }
        if !self.registrytoken.is_empty() {
            return Some(Credentials::Bearer(self.registrytoken.clone()));
        }
        if !self.auth.is_empty() {
            let decoded = base64::engine::general_purpose::STANDARD.decode(self.auth.trim()).ok()?;
            let text = String::from_utf8(decoded).ok()?;
            let (username, password) = text.split_once(':')?;
            return Some(Credentials::Basic { username: username.to_owned(), password: password.to_owned() });
        }
        let (username, password) = (self.username.clone(), self.password.clone());
        (!username.is_empty()).then_some(Credentials::Basic { username, password })
    }
}

/// A config's key without scheme, API version and Docker Hub's many names.
fn normalize(key: &str) -> String {
    let key = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(key);
    let key = key.trim_end_matches('/');
    let key = key.strip_suffix("/v1").or_else(|| key.strip_suffix("/v2")).unwrap_or(key);
    let (host, path) = key.split_once('/').map_or((key, ""), |(host, path)| (host, path));
    let host = match host {
        "index.docker.io" | "registry-1.docker.io" => "docker.io",
        other => other,
    };
    if path.is_empty() { host.to_owned() } else { format!("{host}/{path}") }
}

/// Whether a pattern (`*.example.com/team`) covers an image: same number of host parts with `*` inside a part, same
/// port, and a path that begins the image's.
fn matches(pattern: &str, target: &str) -> bool {
    let split = |text: &str| -> (String, String, String) {
        let (authority, path) = text.split_once('/').unwrap_or((text, ""));
        let (host, port) = authority.split_once(':').unwrap_or((authority, ""));
        (host.to_owned(), port.to_owned(), path.to_owned())
    };
    let (host, port, path) = split(pattern);
    let (target_host, target_port, target_path) = split(target);
    let (parts, target_parts): (Vec<_>, Vec<_>) =
        (host.split('.').collect(), target_host.split('.').collect());
    parts.len() == target_parts.len()
        && parts.iter().zip(&target_parts).all(|(part, target)| glob(part, target))
        && port == target_port
        && target_path.starts_with(&path)
}

fn glob(pattern: &str, text: &str) -> bool {
    let Some((before, after)) = pattern.split_once('*') else { return pattern == text };
    let Some(rest) = text.strip_prefix(before) else { return false };
    (0..=rest.len()).filter(|at| rest.is_char_boundary(*at)).any(|at| glob(after, &rest[at..]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn secret(auths: &serde_json::Value) -> Secret {
        let text = json!({ "auths": auths }).to_string();
        let encoded = base64::engine::general_purpose::STANDARD.encode(text);
        serde_json::from_value(json!({"data": {".dockerconfigjson": encoded}})).unwrap()
    }

    #[test]
    fn the_longest_matching_entry_comes_first() {
        let basic = |name: &str| json!({"username": name, "password": "p"});
        let encoded = base64::engine::general_purpose::STANDARD.encode("hub:p:w");
        let secrets = [
            secret(
                &json!({"https://index.docker.io/v1/": {"auth": encoded}, "registry.example.com": basic("host")}),
            ),
            secret(&json!({"registry.example.com/team": basic("team"), "*.example.com": basic("any"),
                "registry.example.com:5000": basic("port")})),
        ];
        let check = |image: &str, expected: &[&str]| {
            let found = matching(&secrets, &Reference::parse(image).unwrap());
            let names: Vec<String> = found
                .into_iter()
                .map(|credentials| match credentials {
                    Credentials::Basic { username, password } => format!("{username}:{password}"),
                    other => format!("{other:?}"),
                })
                .collect();
            assert_eq!(names, expected, "{image}");
        };
        check("busybox", &["hub:p:w"]);
        check("registry.example.com/team/app:1", &["team:p", "host:p", "any:p"]);
        check("registry.example.com/other/app", &["host:p", "any:p"]);
        check("registry.example.com:5000/app", &["port:p"]);
        check("a.b.example.com/app", &[]);
    }
}
