//! The environment of a container: literals with `$(VAR)`, fields, resources, config maps, secrets and services.
//! [`resolve`] is called when a container is made; everything below it is pure.

mod field;
mod service;

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, EnvVarSource, Pod, Secret};

use crate::objects::Objects;
use crate::static_pods;

pub use field::{Facts, field, resource};
pub use service::variables as service_variables;

/// Why a container cannot be configured: the message of `CreateContainerConfigError`, in upstream's words.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A config map or secret does not exist.
    #[error("{kind} {name:?} not found")]
    Missing {
        /// `configmap` or `secret`.
        kind: &'static str,
        /// Its name.
        name: String,
    },
    /// It has no such key.
    #[error("couldn't find key {key} in {kind} {namespace}/{name}")]
    MissingKey {
        /// `ConfigMap` or `Secret`.
        kind: &'static str,
        /// The pod's namespace.
        namespace: String,
        /// The object's name.
        name: String,
        /// The key.
        key: String,
    },
    /// The pod has no such field, or it is not one that containers may see.
    #[error("unsupported fieldPath: {0}")]
    Field(String),
    /// The container or resource does not exist.
    #[error("{0}")]
    Resource(String),
    /// The API server did not say.
    #[error(transparent)]
    Api(#[from] edgek_client::Error),
}

/// The config maps and secrets a container refers to; `None` for those that do not exist.
#[derive(Debug, Default)]
pub struct Sources {
    config_maps: BTreeMap<String, Option<BTreeMap<String, String>>>,
    secrets: BTreeMap<String, Option<Secret>>,
}

/// The environment of `container`: its variables by name.
///
/// # Errors
/// See [`Error`].
pub async fn resolve(
    objects: &Objects,
    pod: &Pod,
    container: &Container,
    facts: &Facts<'_>,
) -> Result<BTreeMap<String, String>, Error> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let links = pod.spec.as_ref().and_then(|spec| spec.enable_service_links).unwrap_or(true);
    // A static pod waits for no API server: it may be one.
    if !static_pods::is_static(pod) {
        objects.services_known().await;
    }
    let services = service_variables(&objects.services(namespace), namespace, links);
    let sources = Sources::fetch(objects, namespace, container).await?;
    build(pod, container, facts, &sources, services)
}

impl Sources {
    async fn fetch(objects: &Objects, namespace: &str, container: &Container) -> Result<Self, Error> {
        let mut sources = Self::default();
        for name in names(
            container,
            |from| &from.config_map_key_ref,
            |s| &s.name,
            |e| e.config_map_ref.as_ref().map(|r| &r.name),
        ) {
            let found = objects.config_map(namespace, &name).await?;
            sources.config_maps.insert(name, found);
        }
        for name in names(
            container,
            |from| &from.secret_key_ref,
            |s| &s.name,
            |e| e.secret_ref.as_ref().map(|r| &r.name),
        ) {
            let found = objects.secret(namespace, &name).await?;
            sources.secrets.insert(name, found);
        }
        Ok(sources)
    }

    fn secret_data(&self, name: &str) -> Option<BTreeMap<String, String>> {
        let data = self.secrets.get(name)?.as_ref()?.data.iter().flatten();
        Some(data.map(|(key, value)| (key.clone(), String::from_utf8_lossy(&value.0).into_owned())).collect())
    }

    fn config_map(&self, name: &str) -> Option<BTreeMap<String, String>> {
        self.config_maps.get(name)?.clone()
    }
}

fn names<K>(
    container: &Container,
    key: impl Fn(&EnvVarSource) -> &Option<K>,
    name: impl Fn(&K) -> &String,
    whole: impl Fn(&k8s_openapi::api::core::v1::EnvFromSource) -> Option<&String>,
) -> std::collections::BTreeSet<String> {
    let keys = container.env.iter().flatten().filter_map(|var| var.value_from.as_ref());
    let keys = keys.filter_map(|from| key(from).as_ref()).map(|k| name(k).clone());
    let all = container.env_from.iter().flatten().filter_map(|from| whole(from).cloned());
    keys.chain(all).collect()
}

/// Puts the environment together: `envFrom` first, `env` over it, services where nothing else has the name.
fn build(
    pod: &Pod,
    container: &Container,
    facts: &Facts<'_>,
    sources: &Sources,
    services: BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>, Error> {
    let mut env = BTreeMap::new();
    for from in container.env_from.iter().flatten() {
        let (kind, name, optional, data) = match (&from.config_map_ref, &from.secret_ref) {
            (Some(r), _) => ("configmap", &r.name, r.optional, sources.config_map(&r.name)),
            (None, Some(r)) => ("secret", &r.name, r.optional, sources.secret_data(&r.name)),
            (None, None) => continue,
        };
        let Some(data) = data else {
            if optional == Some(true) {
                continue;
            }
            return Err(Error::Missing { kind, name: name.clone() });
        };
        let prefix = from.prefix.as_deref().unwrap_or_default();
        env.extend(data.into_iter().map(|(key, value)| (format!("{prefix}{key}"), value)));
    }
    for variable in container.env.iter().flatten() {
        let literal = variable.value.as_deref().unwrap_or_default();
        let value = match &variable.value_from {
            Some(from) if literal.is_empty() => match sourced(pod, container, facts, sources, from)? {
                Some(value) => value,
                None => continue,
            },
            _ => expand(literal, |name| env.get(name).or_else(|| services.get(name)).cloned()),
        };
        env.insert(variable.name.clone(), value);
    }
    for (name, value) in services {
        env.entry(name).or_insert(value);
    }
    Ok(env)
}

/// The value of a variable with a source; `None` when it is optional and absent.
fn sourced(
    pod: &Pod,
    container: &Container,
    facts: &Facts<'_>,
    sources: &Sources,
    from: &EnvVarSource,
) -> Result<Option<String>, Error> {
    if let Some(selector) = &from.field_ref {
        return field(pod, &selector.field_path, facts).map(Some);
    }
    if let Some(selector) = &from.resource_field_ref {
        return resource(pod, Some(container), selector, facts).map(Some);
    }
    let (kinds, name, key, optional, data) = if let Some(s) = &from.config_map_key_ref {
        (("configmap", "ConfigMap"), &s.name, &s.key, s.optional, sources.config_map(&s.name))
    } else if let Some(s) = &from.secret_key_ref {
        (("secret", "Secret"), &s.name, &s.key, s.optional, sources.secret_data(&s.name))
    } else {
        return Ok(Some(String::new()));
    };
    let optional = optional == Some(true);
    let Some(data) = data else {
        return if optional { Ok(None) } else { Err(Error::Missing { kind: kinds.0, name: name.clone() }) };
    };
    match data.get(key) {
        Some(value) => Ok(Some(value.clone())),
        None if optional => Ok(None),
        None => Err(Error::MissingKey {
            kind: kinds.1,
            namespace: pod.metadata.namespace.clone().unwrap_or_default(),
            name: name.clone(),
            key: key.clone(),
        }),
    }
}

/// Replaces `$(NAME)` by what `lookup` knows; unknown names stay as they are and `$$` is a plain `$`.
pub fn expand(text: &str, lookup: impl Fn(&str) -> Option<String>) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some((name, after)) = rest.strip_prefix('(').and_then(|r| r.split_once(')')) {
            match lookup(name) {
                Some(value) => out.push_str(&value),
                None => out.push_str(&format!("$({name})")),
            }
            rest = after;
        } else {
            out.push('$');
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests;
