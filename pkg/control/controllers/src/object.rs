//! What several controllers ask of an object.

use std::collections::BTreeMap;
use std::time::Duration;

use edgek_api::selector::label::Selector;
use edgek_client::Error;
use edgek_control_runtime::{Involved, Item, Key};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Namespace, Pod, PodCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, OwnerReference, Time};
use serde::Deserialize;
use serde_json::{Value, json};

/// Whether new objects may be made in a namespace.
#[expect(clippy::needless_pass_by_value, reason = "a predicate for `is_some_and`")]
pub(crate) fn is_active_namespace(namespace: Namespace) -> bool {
    namespace.metadata.deletion_timestamp.is_none()
}

/// Whether a request failed because its namespace is ending, which is no reason to try again.
pub(crate) fn is_namespace_ending(error: &edgek_client::Error) -> bool {
    error.is_forbidden() && error.to_string().ends_with("because it is being terminated")
}

/// An object's key.
pub(crate) fn key(metadata: &ObjectMeta) -> Key {
    Key::new(metadata.namespace.as_deref().unwrap_or_default(), name(metadata))
}

/// An object's name.
pub(crate) fn name(metadata: &ObjectMeta) -> &str {
    metadata.name.as_deref().unwrap_or_default()
}

/// An object's uid.
pub(crate) fn uid(metadata: &ObjectMeta) -> &str {
    metadata.uid.as_deref().unwrap_or_default()
}

/// A reference to the owner that manages an object.
pub(crate) fn controller(api_version: &str, kind: &str, owner: &ObjectMeta) -> OwnerReference {
    OwnerReference {
        api_version: api_version.to_owned(),
        kind: kind.to_owned(),
        name: name(owner).to_owned(),
        uid: uid(owner).to_owned(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// An object as events name it.
pub(crate) fn involved(api_version: &str, kind: &str, metadata: &ObjectMeta) -> Involved {
    let Key { namespace, name } = key(metadata);
    Involved {
        api_version: api_version.to_owned(),
        kind: kind.to_owned(),
        namespace,
        name,
        uid: uid(metadata).to_owned(),
        field_path: String::new(),
    }
}

/// The object of an informer as events name it.
pub(crate) fn involved_item(api_version: &str, kind: &str, item: &Item) -> Involved {
    let Key { namespace, name } = item.key.clone();
    let (api_version, kind) = (api_version.to_owned(), kind.to_owned());
    Involved { api_version, kind, namespace, name, uid: item.uid.clone(), field_path: String::new() }
}

/// What a label selector picks; `None` when it is not valid.
pub(crate) fn selector(selector: &LabelSelector) -> Option<Selector> {
    Selector::from_object(&serde_json::to_value(selector).ok()?).ok()
}

/// Whether a selector picks an object with these labels.
pub(crate) fn selects(selector: &Selector, labels: &BTreeMap<String, String>) -> bool {
    selector.matches(|label| labels.get(label).map(String::as_str))
}

/// The part of any object's metadata that says whose it is and whether it ends.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Ownership {
    pub(crate) owner_references: Vec<OwnerReference>,
    pub(crate) finalizers: Vec<String>,
    pub(crate) deletion_timestamp: Option<String>,
}

impl Ownership {
    /// What an informer's item says.
    pub(crate) fn of(item: &Item) -> Self {
        Self::parse(&item.bytes)
    }

    /// What an object in JSON says; nothing when it is none.
    pub(crate) fn parse(object: &[u8]) -> Self {
        #[derive(Deserialize)]
        struct Object {
            metadata: Ownership,
        }
        serde_json::from_slice::<Object>(object).map(|object| object.metadata).unwrap_or_default()
    }

    /// The owner that manages the object, if it is of this kind.
    pub(crate) fn controller(&self, kind: &str) -> Option<&OwnerReference> {
        let mut owners = self.owner_references.iter();
        owners.find(|owner| owner.controller == Some(true)).filter(|owner| owner.kind == kind)
    }
}

/// A pod's phase.
pub(crate) fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

/// Whether a pod has ended by itself.
pub(crate) fn is_finished(pod: &Pod) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed")
}

/// Whether a pod counts as a replica (upstream: `IsPodActive`).
pub(crate) fn is_active(pod: &Pod) -> bool {
    !is_finished(pod) && pod.metadata.deletion_timestamp.is_none()
}

/// A pod's condition of this type.
pub(crate) fn pod_condition<'a>(pod: &'a Pod, condition: &str) -> Option<&'a PodCondition> {
    let mut conditions = pod.status.as_ref()?.conditions.iter().flatten();
    conditions.find(|candidate| candidate.type_ == condition)
}

/// The condition of a pod that is ended by the cluster and not by itself.
pub(crate) fn disruption_target(pod: &Pod, reason: &str, message: &str) -> Value {
    json!({
        "type": "DisruptionTarget",
        "status": "True",
        "reason": reason,
        "message": message,
        "lastTransitionTime": Time(Timestamp::now()),
        "observedGeneration": pod.metadata.generation,
    })
}

/// Since when a pod is ready; `None` when it is not.
pub(crate) fn ready_since(pod: &Pod) -> Option<Timestamp> {
    let ready = pod_condition(pod, "Ready").filter(|condition| condition.status == "True")?;
    Some(ready.last_transition_time.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0))
}

/// How long a ready pod must stay so until it is available: zero when it is, `None` when it is not ready.
pub(crate) fn available_in(pod: &Pod, min_ready_seconds: i32, now: Timestamp) -> Option<Duration> {
    let since = ready_since(pod)?;
    let needed = Duration::from_secs(min_ready_seconds.max(0).unsigned_abs().into());
    let passed = Duration::try_from(now.duration_since(since)).unwrap_or_default();
    Some(needed.saturating_sub(passed))
}

/// What is gone already needs nothing more.
pub(crate) fn unless_gone(outcome: Result<(), Error>) -> Result<(), Error> {
    match outcome {
        Err(error) if !error.is_not_found() => Err(error),
        _ => Ok(()),
    }
}
