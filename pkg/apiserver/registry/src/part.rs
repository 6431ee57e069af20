//! `Part`: which part of an object a write is about. Each subresource that writes its object has its rules here.

use serde_json::Value;

use crate::meta::qualified_finalizer;
use crate::pod::{Use, validate_ephemeral_containers_update, validate_resize, validate_spec};
use crate::strategy::{Strategy, copy};
use edgek_api::field::{ErrorList, Path};
use edgek_api::name;
use edgek_apiserver_admission::fields::{Fields, same};

/// What a write changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The object, except what other parts own.
    Object,
    /// `status`.
    Status,
    /// The number of replicas, by way of a `Scale`.
    Scale,
    /// The finalizers in a namespace's spec.
    Finalize,
    /// The verdict on a certificate signing request.
    Approval,
    /// The ephemeral containers of a pod.
    EphemeralContainers,
    /// The resources of a pod's containers.
    Resize,
    /// The node of a pod.
    Binding,
}

impl Part {
    /// The part a subresource of this name writes, `None` when it writes none.
    pub fn of(subresource: &str) -> Option<Self> {
        Some(match subresource {
            "" => Self::Object,
            "status" => Self::Status,
            "scale" => Self::Scale,
            "finalize" => Self::Finalize,
            "approval" => Self::Approval,
            "ephemeralcontainers" => Self::EphemeralContainers,
            "resize" => Self::Resize,
            "binding" => Self::Binding,
            _ => return None,
        })
    }

    /// The name of its subresource.
    pub(crate) fn subresource(self) -> &'static str {
        match self {
            Self::Object => "",
            Self::Status => "status",
            Self::Scale => "scale",
            Self::Finalize => "finalize",
            Self::Approval => "approval",
            Self::EphemeralContainers => "ephemeralcontainers",
            Self::Resize => "resize",
            Self::Binding => "binding",
        }
    }

    /// Makes the changed object follow from the old one: all that the part does not own is as it was.
    pub(crate) fn advance(self, strategy: &Strategy, new: &mut Value, old: &Value) {
        match self {
            Self::Object | Self::Scale | Self::Binding => {
                strategy.advance(new, old);
                if self == Self::Binding {
                    // The scheduler's verdict is part of the status, which the object's own rules just restored. It
                    // is no change of what was asked for.
                    set_scheduled(new);
                    new.object_mut("metadata").set("generation", old.at("metadata.generation").clone());
                }
            }
            Self::Status => strategy.advance_status(new, old),
            Self::Approval => advance_approval(strategy, new, old),
            Self::Finalize => keep_only(new, old, "spec", "finalizers"),
            Self::EphemeralContainers => {
                keep_only(new, old, "spec", "ephemeralContainers");
                strategy.advance(new, old);
            }
            Self::Resize => {
                let mut resized = old.clone();
                copy(&mut resized, new, "spec");
                *new = resized;
                strategy.advance(new, old);
            }
        }
    }

    /// What is wrong with the change.
    pub(crate) fn validate(self, strategy: &Strategy, new: &Value, old: &Value, problems: &mut ErrorList) {
        match self {
            Self::Object | Self::Scale => {
                (strategy.validate)(new, problems);
                (strategy.validate_update)(new, old, problems);
            }
            Self::Status => (strategy.validate_status)(new, old, problems),
            Self::EphemeralContainers => {
                validate_spec(new.at("spec"), &Path::Root("spec"), Use::Pod, problems);
                validate_ephemeral_containers_update(new, old, problems);
            }
            Self::Resize => {
                validate_spec(new.at("spec"), &Path::Root("spec"), Use::Pod, problems);
                validate_resize(new, old, problems);
            }
            Self::Finalize => {
                let path = Path::Root("spec.finalizers");
                for (index, finalizer) in new.items("spec.finalizers").iter().enumerate() {
                    let text = finalizer.as_str().unwrap_or_default();
                    problems.invalid_all(&path.index(index), text, name::qualified_name(text));
                    qualified_finalizer(finalizer, &path.index(index), problems);
                }
            }
            Self::Approval | Self::Binding => {}
        }
    }
}

/// Keeps the old object except for one field of one section.
fn keep_only(new: &mut Value, old: &Value, section: &str, field: &str) {
    let value = new.at(section).get(field).cloned();
    let mut kept = old.clone();
    match value {
        Some(value) => kept.object_mut(section).set(field, value),
        None => drop(kept.object_mut(section).remove(field)),
    }
    *new = kept;
}

/// Approval changes the conditions only; the certificate belongs to the signer.
fn advance_approval(strategy: &Strategy, new: &mut Value, old: &Value) {
    let mut kept = old.clone();
    copy(kept.object_mut("status"), new.at("status"), "conditions");
    copy(new, &kept, "status");
    strategy.advance_status(new, old);
    let now = edgek_api::time::now_seconds();
    for condition in new.object_mut("status").items_mut("conditions") {
        let before =
            old.items("status.conditions").iter().find(|old| old.text("type") == condition.text("type"));
        if before.is_none_or(|before| !same(before, condition)) {
            condition.default("lastUpdateTime", now.clone());
            condition.default("lastTransitionTime", now.clone());
        }
    }
}

fn set_scheduled(pod: &mut Value) {
    let now = edgek_api::time::now_seconds();
    let mut conditions = pod.items("status.conditions").to_vec();
    conditions.retain(|condition| condition.text("type") != "PodScheduled");
    conditions.push(serde_json::json!({"type": "PodScheduled", "status": "True", "lastTransitionTime": now}));
    pod.object_mut("status").set("conditions", conditions);
}
