//! Fields and resources of a pod as text (`fieldRef`, `resourceFieldRef`); for the environment and downward volumes.

use std::collections::BTreeMap;

use edgek_api::quantity::Quantity;
use k8s_openapi::api::core::v1::{Container, Pod, ResourceFieldSelector};

use super::Error;
use crate::resources::{bytes, milli};

/// What the node knows and the pod's object does not say (yet).
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// The pod's addresses.
    pub pod_ips: &'a [&'a str],
    /// The node's addresses.
    pub host_ips: &'a [&'a str],
    /// The node's allocatable CPU in thousandths: the limit of containers without one.
    pub cpu_milli: i64,
    /// The node's allocatable memory.
    pub memory_bytes: i64,
    /// The node's allocatable ephemeral storage.
    pub storage_bytes: i64,
}

/// A field of the pod as text.
///
/// # Errors
/// [`Error::Field`] for a field that containers may not see.
pub fn field(pod: &Pod, path: &str, facts: &Facts<'_>) -> Result<String, Error> {
    let meta = &pod.metadata;
    let spec = pod.spec.as_ref();
    let own = |text: Option<&String>| Ok(text.cloned().unwrap_or_default());
    let first = |ips: &[&str]| Ok(ips.first().map(|ip| (*ip).to_owned()).unwrap_or_default());
    match path {
        "metadata.name" => own(meta.name.as_ref()),
        "metadata.namespace" => own(meta.namespace.as_ref()),
        "metadata.uid" => own(meta.uid.as_ref()),
        "metadata.labels" => Ok(lines(meta.labels.as_ref())),
        "metadata.annotations" => Ok(lines(meta.annotations.as_ref())),
        "spec.nodeName" => own(spec.and_then(|s| s.node_name.as_ref())),
        "spec.serviceAccountName" => own(spec.and_then(|s| s.service_account_name.as_ref())),
        "status.hostIP" => first(facts.host_ips),
        "status.hostIPs" => Ok(facts.host_ips.join(",")),
        "status.podIP" => first(facts.pod_ips),
        "status.podIPs" => Ok(facts.pod_ips.join(",")),
        _ => {
            let of = |map: &Option<BTreeMap<String, String>>, key: &str| {
                Ok(map.as_ref().and_then(|map| map.get(key)).cloned().unwrap_or_default())
            };
            if let Some(key) = subscript(path, "metadata.labels") {
                return of(&meta.labels, key);
            }
            if let Some(key) = subscript(path, "metadata.annotations") {
                return of(&meta.annotations, key);
            }
            Err(Error::Field(path.to_owned()))
        }
    }
}

fn subscript<'a>(path: &'a str, map: &str) -> Option<&'a str> {
    path.strip_prefix(map)?.strip_prefix("['")?.strip_suffix("']")
}

/// `key="value"` by line, sorted by key.
fn lines(map: Option<&BTreeMap<String, String>>) -> String {
    let lines = map.into_iter().flatten().map(|(key, value)| format!("{key}={value:?}"));
    lines.collect::<Vec<_>>().join("\n")
}

/// A resource of a container as a number of `divisor`s, rounded up. A missing limit is what the node has.
///
/// # Errors
/// [`Error::Resource`] when the container or the resource does not exist.
pub fn resource(
    pod: &Pod,
    container: Option<&Container>,
    selector: &ResourceFieldSelector,
    facts: &Facts<'_>,
) -> Result<String, Error> {
    let container = match selector.container_name.as_deref().filter(|name| !name.is_empty()) {
        None => container,
        Some(name) => {
            let spec = pod.spec.as_ref();
            let all =
                spec.into_iter().flat_map(|s| s.containers.iter().chain(s.init_containers.iter().flatten()));
            Some(
                all.into_iter()
                    .find(|c| c.name == name)
                    .ok_or_else(|| Error::Resource(format!("container {name} not found")))?,
            )
        }
    };
    let resources = container.and_then(|c| c.resources.clone()).unwrap_or_default();
    let (list, name) = selector.resource.split_once('.').unwrap_or_default();
    let quantities = match list {
        "limits" => &resources.limits,
        "requests" => &resources.requests,
        _ => return Err(Error::Resource(format!("unsupported container resource : {}", selector.resource))),
    };
    let divisor: Option<Quantity> = selector.divisor.as_ref().and_then(|q| q.0.parse().ok());
    let is_limit = list == "limits";
    if name == "cpu" {
        let missing = if is_limit { facts.cpu_milli } else { 0 };
        let value = milli(quantities, name).filter(|v| *v > 0).unwrap_or(missing);
        return Ok(divide(value, divisor.map_or(1000, Quantity::milli_value), 1000));
    }
    let missing = match name {
        "memory" if is_limit => facts.memory_bytes,
        "ephemeral-storage" if is_limit => facts.storage_bytes,
        _ => 0,
    };
    let value = bytes(quantities, name).filter(|v| *v > 0).unwrap_or(missing);
    Ok(divide(value, divisor.map_or(1, Quantity::value), 1))
}

fn divide(value: i64, divisor: i64, one: i64) -> String {
    let divisor = if divisor <= 0 { one } else { divisor };
    (value / divisor + i64::from(value % divisor > 0)).to_string()
}
