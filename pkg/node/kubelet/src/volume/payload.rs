//! What is in volumes made from objects: config maps, secrets, fields of the pod, trust bundles, and tokens.

use std::collections::BTreeMap;

use edgek_client::Client;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    DownwardAPIVolumeFile, KeyToPath, Pod, ProjectedVolumeSource, ServiceAccount,
    ServiceAccountTokenProjection, VolumeProjection,
};
use parking_lot::Mutex;
use serde_json::json;

use super::atomic::{File, Payload};
use super::trust_bundle;
use crate::config::Config;
use crate::env::{Facts, field, resource};
use crate::node::status::Allocatable;
use crate::objects::Objects;

/// What a secret or config map contributes when nothing else is said.
pub(super) const DEFAULT_MODE: i32 = 0o644;
const DEFAULT_EXPIRATION: i64 = 3600;

/// Gathers the contents of volumes.
pub(super) struct Gatherer {
    objects: Objects,
    client: Client,
    allocatable: Allocatable,
    /// Tokens that still hold, by pod, audience and requested lifetime.
    tokens: Mutex<BTreeMap<(String, String, i64), Token>>,
}

#[derive(Debug, Clone)]
struct Token {
    text: String,
    renew: Timestamp,
}

impl Gatherer {
    pub(super) fn new(objects: Objects, client: Client, allocatable: Allocatable) -> Self {
        Self { objects, client, allocatable, tokens: Mutex::default() }
    }

    /// Forgets the tokens of a pod that is gone.
    pub(super) fn forget(&self, uid: &str) {
        self.tokens.lock().retain(|(pod, ..), _| pod != uid);
    }

    /// When the first token of a pod is to be renewed.
    pub(super) fn renew_at(&self, uid: &str) -> Option<Timestamp> {
        let tokens = self.tokens.lock();
        tokens.iter().filter(|((pod, ..), _)| pod == uid).map(|(_, token)| token.renew).min()
    }

    pub(super) async fn config_map(
        &self,
        pod: &Pod,
        name: &str,
        wanted: Selection<'_>,
    ) -> Result<Payload, String> {
        let found =
            self.client.namespaced::<k8s_openapi::api::core::v1::ConfigMap>(namespace(pod)).get(name).await;
        let data = match found {
            Ok(found) => {
                let text =
                    found.data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.into_bytes()));
                let binary =
                    found.binary_data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.0));
                Some(text.chain(binary).collect())
            }
            Err(error) if error.is_not_found() => None,
            Err(error) => return Err(error.to_string()),
        };
        wanted.pick("configmap", "config", name, data)
    }

    pub(super) async fn secret(
        &self,
        pod: &Pod,
        name: &str,
        wanted: Selection<'_>,
    ) -> Result<Payload, String> {
        let found = self.objects.secret(namespace(pod), name).await.map_err(|error| error.to_string())?;
        let data = found
            .map(|s| s.data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.0)).collect());
        wanted.pick("secret", "secret", name, data)
    }

    pub(super) fn downward(
        &self,
        config: &Config,
        pod: &Pod,
        items: &[DownwardAPIVolumeFile],
        mode: i32,
    ) -> Result<Payload, String> {
        let hosts: Vec<String> = config.node_ips.iter().map(ToString::to_string).collect();
        let hosts: Vec<&str> = hosts.iter().map(String::as_str).collect();
        let facts = Facts {
            pod_ips: &[],
            host_ips: &hosts,
            cpu_milli: self.allocatable.cpu_milli,
            memory_bytes: self.allocatable.memory,
            storage_bytes: self.allocatable.storage,
        };
        let mut payload = Payload::new();
        for item in items {
            let text = match (&item.field_ref, &item.resource_field_ref) {
                (Some(selector), _) => field(pod, &selector.field_path, &facts),
                (None, Some(selector)) => resource(pod, None, selector, &facts),
                (None, None) => continue,
            };
            let text = text.map_err(|error| error.to_string())?;
            payload.insert(item.path.clone(), file(text.into_bytes(), item.mode.unwrap_or(mode)));
        }
        Ok(payload)
    }

    pub(super) async fn projected(
        &self,
        config: &Config,
        pod: &Pod,
        source: &ProjectedVolumeSource,
    ) -> Result<Payload, String> {
        let mode = source.default_mode.unwrap_or(DEFAULT_MODE);
        let mut payload = Payload::new();
        for part in source.sources.iter().flatten() {
            payload.extend(self.part(config, pod, part, mode).await?);
        }
        Ok(payload)
    }

    async fn part(
        &self,
        config: &Config,
        pod: &Pod,
        part: &VolumeProjection,
        mode: i32,
    ) -> Result<Payload, String> {
        if let Some(source) = &part.config_map {
            let wanted = Selection::new(source.items.as_deref(), source.optional, mode);
            return self.config_map(pod, &source.name, wanted).await;
        }
        if let Some(source) = &part.secret {
            let wanted = Selection::new(source.items.as_deref(), source.optional, mode);
            return self.secret(pod, &source.name, wanted).await;
        }
        if let Some(source) = &part.downward_api {
            return self.downward(config, pod, source.items.as_deref().unwrap_or_default(), mode);
        }
        if let Some(source) = &part.service_account_token {
            let token = self.token(pod, source).await?;
            return Ok([(source.path.clone(), credential(pod, token, mode))].into());
        }
        if let Some(source) = &part.cluster_trust_bundle {
            let anchors = trust_bundle::anchors(&self.client, source).await?;
            return Ok([(source.path.clone(), credential(pod, anchors, mode))].into());
        }
        Err("projection is not supported on this node".to_owned())
    }

    /// A token of the pod's service account, bound to the pod; renewed after four fifths of its life.
    async fn token(&self, pod: &Pod, source: &ServiceAccountTokenProjection) -> Result<String, String> {
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        let audience = source.audience.clone().unwrap_or_default();
        let seconds = source.expiration_seconds.unwrap_or(DEFAULT_EXPIRATION);
        let key = (uid.clone(), audience.clone(), seconds);
        let now = Timestamp::now();
        if let Some(token) = self.tokens.lock().get(&key).filter(|token| now < token.renew) {
            return Ok(token.text.clone());
        }
        let audiences: Vec<&String> =
            [&audience].into_iter().filter(|audience| !audience.is_empty()).collect();
        let request = json!({
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {
                "audiences": audiences,
                "expirationSeconds": seconds,
                "boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": pod.metadata.name, "uid": uid},
            },
        });
        let account = pod.spec.as_ref().and_then(|spec| spec.service_account_name.as_deref());
        let account = account.filter(|name| !name.is_empty()).unwrap_or("default");
        let accounts = self.client.namespaced::<ServiceAccount>(namespace(pod));
        let answer = accounts
            .post(account, "token", &request)
            .await
            .map_err(|error| format!("failed to fetch token: {error}"))?;
        let text = answer["status"]["token"].as_str().unwrap_or_default().to_owned();
        let expires = answer["status"]["expirationTimestamp"].as_str().and_then(|text| text.parse().ok());
        let life = expires.map_or(seconds, |expires: Timestamp| expires.as_second() - now.as_second());
        let renew = Timestamp::from_second(now.as_second() + life / 5 * 4).unwrap_or(now);
        self.tokens.lock().insert(key, Token { text: text.clone(), renew });
        Ok(text)
    }
}

/// Which keys of an object become files.
#[derive(Debug, Clone, Copy)]
pub(super) struct Selection<'a> {
    items: &'a [KeyToPath],
    presence: Presence,
    mode: i32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Presence {
    Required,
    Optional,
}

impl<'a> Selection<'a> {
    pub(super) fn new(items: Option<&'a [KeyToPath]>, optional: Option<bool>, mode: i32) -> Self {
        let presence = if optional == Some(true) { Presence::Optional } else { Presence::Required };
        Self { items: items.unwrap_or_default(), presence, mode }
    }

    fn pick(
        self,
        kind: &str,
        word: &str,
        name: &str,
        data: Option<BTreeMap<String, Vec<u8>>>,
    ) -> Result<Payload, String> {
        let optional = self.presence == Presence::Optional;
        let data = match data {
            Some(data) => data,
            None if optional => BTreeMap::new(),
            None => return Err(format!("{kind} {name:?} not found")),
        };
        if self.items.is_empty() {
            return Ok(data.into_iter().map(|(key, value)| (key, file(value, self.mode))).collect());
        }
        let mut payload = Payload::new();
        for item in self.items {
            match data.get(&item.key) {
                Some(value) => {
                    payload.insert(item.path.clone(), file(value.clone(), item.mode.unwrap_or(self.mode)));
                }
                None if optional => {}
                None => return Err(format!("{kind} references non-existent {word} key: {}", item.key)),
            }
        }
        Ok(payload)
    }
}

fn file(data: Vec<u8>, mode: i32) -> File {
    File { data, mode: u32::try_from(mode).unwrap_or(0o644) & 0o777, user: None }
}

/// A file for the pod's user alone, where there is one.
fn credential(pod: &Pod, text: String, mode: i32) -> File {
    let user = single_user(pod);
    let group = pod.spec.as_ref().and_then(|s| s.security_context.as_ref()).and_then(|s| s.fs_group);
    let mode = if user.is_some() || group.is_some() { 0o600 } else { mode };
    File { user, ..file(text.into_bytes(), mode) }
}

fn namespace(pod: &Pod) -> &str {
    pod.metadata.namespace.as_deref().unwrap_or_default()
}

/// The user all containers of a pod run as, if the pod says so.
fn single_user(pod: &Pod) -> Option<u32> {
    let spec = pod.spec.as_ref()?;
    let whole = spec.security_context.as_ref().and_then(|context| context.run_as_user);
    let all = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    let mut users =
        all.map(|c| c.security_context.as_ref().and_then(|context| context.run_as_user).or(whole));
    let first = users.next()??;
    users.all(|user| user == Some(first)).then(|| u32::try_from(first).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_become_files() {
        let check = |items: serde_json::Value,
                     optional: bool,
                     data: Option<&[&str]>,
                     expected: Result<&[&str], &str>| {
            let items: Vec<KeyToPath> = serde_json::from_value(items).unwrap();
            let data = data.map(|keys| keys.iter().map(|key| ((*key).to_owned(), b"x".to_vec())).collect());
            let picked =
                Selection::new(Some(&items), Some(optional), 0o644).pick("configmap", "config", "c", data);
            let paths = picked.map(|payload| {
                payload.iter().map(|(path, file)| format!("{path} {:o}", file.mode)).collect::<Vec<_>>()
            });
            let expected = expected.map(|paths| paths.iter().map(|p| (*p).to_owned()).collect());
            assert_eq!(paths, expected.map_err(str::to_owned));
        };
        check(json!([]), false, Some(&["a", "b"]), Ok(&["a 644", "b 644"]));
        check(json!([{"key": "a", "path": "d/x", "mode": 256}]), false, Some(&["a", "b"]), Ok(&["d/x 400"]));
        check(json!([{"key": "z", "path": "x"}]), true, Some(&["a"]), Ok(&[]));
        let missing = "configmap references non-existent config key: z";
        check(json!([{"key": "z", "path": "x"}]), false, Some(&["a"]), Err(missing));
        check(json!([]), true, None, Ok(&[]));
        check(json!([]), false, None, Err("configmap \"c\" not found"));
    }
}
