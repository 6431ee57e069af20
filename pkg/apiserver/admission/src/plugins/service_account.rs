//! `ServiceAccount`: every pod acts as a service account, and its token is mounted into the pod's containers.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Value, json};

use crate::fields::Fields;
use crate::random::random_suffix;
use crate::{Error, Lookup, Operation, Phases, Plugin, Request};

/// Where containers find the token.
const MOUNT_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// What the names of the token's volume begin with.
const VOLUME: &str = "kube-api-access-";
/// How long a token is valid: an hour, and the few seconds by which the server recognises these tokens.
const EXPIRATION_SECONDS: i64 = 3607;
/// The account of pods that name none.
const DEFAULT: &str = "default";
/// How often, and how far apart, the default account of a namespace is looked for, about as upstream.
const ATTEMPTS: u32 = 20;
const PAUSE: Duration = Duration::from_millis(50);
/// The annotation that marks the API's image of a static pod.
const MIRROR: &str = "kubernetes.io/config.mirror";

/// The plugin.
pub struct ServiceAccount {
    objects: Arc<dyn Lookup>,
}

impl ServiceAccount {
    /// The plugin, looking service accounts up in `objects`.
    pub fn new(objects: Arc<dyn Lookup>) -> Self {
        Self { objects }
    }

    /// The account, given a moment if it is the default one: its controller may be about to make it in a new namespace.
    async fn account(&self, namespace: &str, name: &str) -> Option<Value> {
        let attempts = if name == DEFAULT { ATTEMPTS } else { 1 };
        for attempt in 1..=attempts {
            let account = self.objects.get("", "serviceaccounts", namespace, name);
            if account.is_some() || attempt == attempts {
                return account;
            }
            edgek_base_lifecycle::sleep(PAUSE).await;
        }
        None
    }
}

#[async_trait]
impl Plugin for ServiceAccount {
    fn phases(&self, request: &Request<'_>) -> Phases {
        if request.operation == Operation::Create && request.is("", "pods") {
            Phases::Mutate
        } else {
            Phases::None
        }
    }

    async fn mutate(&self, request: &Request<'_>, pod: &mut Value) -> Result<(), Error> {
        if pod.at("metadata.annotations").get(MIRROR).is_some() {
            return mirror_pod(pod);
        }
        let spec = pod.object_mut("spec");
        if spec.text("serviceAccountName").is_empty() {
            spec.set("serviceAccountName", DEFAULT);
            spec.set("serviceAccount", DEFAULT);
        }
        let name = spec.text("serviceAccountName").to_owned();
        let Some(account) = self.account(request.namespace, &name).await else {
            return Err(Error::forbidden(format!(
                "error looking up service account {}/{name}: serviceaccount \"{name}\" not found",
                request.namespace
            )));
        };
        let wants = |object: &Value| object.get("automountServiceAccountToken").and_then(Value::as_bool);
        if wants(spec).or_else(|| wants(&account)).unwrap_or(true) {
            mount_token(spec);
        }
        let secrets = account.items("imagePullSecrets");
        if spec.items("imagePullSecrets").is_empty() && !secrets.is_empty() {
            spec.set("imagePullSecrets", secrets.to_vec());
        }
        Ok(())
    }
}

/// A mirror pod is what a node already runs: it may not need anything of the API.
fn mirror_pod(pod: &Value) -> Result<(), Error> {
    if !pod.text("spec.serviceAccountName").is_empty() {
        return Err(Error::forbidden("a mirror pod may not reference service accounts"));
    }
    let volumes = pod.items("spec.volumes");
    if volumes.iter().any(|volume| volume.has("secret")) {
        return Err(Error::forbidden("a mirror pod may not reference secrets"));
    }
    let projects = |volume: &Value| {
        volume.items("projected.sources").iter().any(|source| source.has("serviceAccountToken"))
    };
    if volumes.iter().any(projects) {
        return Err(Error::forbidden("a mirror pod may not use ServiceAccountToken volume projections"));
    }
    Ok(())
}

/// Mounts the token into every container that mounts nothing at its place.
fn mount_token(spec: &mut Value) {
    let existing =
        spec.items("volumes").iter().map(|volume| volume.text("name")).find(|name| name.starts_with(VOLUME));
    let existing = existing.map(ToOwned::to_owned);
    let volume = existing.clone().unwrap_or_else(|| format!("{VOLUME}{}", random_suffix(5)));
    let mut mounted = false;
    for list in ["initContainers", "containers"] {
        for container in spec.items_mut(list) {
            let mut mounts = container.items("volumeMounts").to_vec();
            if mounts.iter().any(|mount| mount.text("mountPath") == MOUNT_PATH) {
                continue;
            }
            mounts.push(json!({"mountPath": MOUNT_PATH, "name": volume, "readOnly": true}));
            container.set("volumeMounts", mounts);
            mounted = true;
        }
    }
    if mounted && existing.is_none() {
        let mut volumes = spec.items("volumes").to_vec();
        volumes.push(token_volume(&volume));
        spec.set("volumes", volumes);
    }
}

fn token_volume(name: &str) -> Value {
    json!({"name": name, "projected": {"defaultMode": 0o644, "sources": [
        {"serviceAccountToken": {"expirationSeconds": EXPIRATION_SECONDS, "path": "token"}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {"downwardAPI": {"items": [
            {"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}},
        ]}},
    ]}})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_is_mounted_where_nothing_else_is() {
        let mut spec = json!({"containers": [{"name": "a"}, {"name": "b", "volumeMounts": [{"name": "own", "mountPath": MOUNT_PATH}]}]});
        mount_token(&mut spec);
        let volume = spec.items("volumes")[0].text("name").to_owned();
        assert!(volume.starts_with(VOLUME) && volume.len() == VOLUME.len() + 5, "{volume}");
        assert_eq!(spec.items("containers")[0].items("volumeMounts")[0].text("name"), volume);
        assert_eq!(spec.items("containers")[1].items("volumeMounts").len(), 1);
    }
}
