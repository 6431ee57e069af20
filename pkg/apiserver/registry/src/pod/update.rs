//! What may change in a pod once it exists.

use std::collections::BTreeSet;

use serde_json::Value;

use super::quality::quality;
use edgek_api::field::{ErrorList, Path};
use edgek_apiserver_admission::fields::{Fields, same};

const SPEC: Path<'static> = Path::Root("spec");

/// The fields an update may change, as upstream lists them in its message.
const UPDATABLE: &str = "`spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,\
                         `spec.tolerations` (only additions to existing tolerations),\
                         `spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

/// Validates the update of a pod's spec.
pub(crate) fn pod(new: &Value, old: &Value, errors: &mut ErrorList) {
    let (new, old) = (new.at("spec"), old.at("spec"));
    for list in ["containers", "initContainers"] {
        if new.items(list).len() != old.items(list).len() {
            return errors.forbidden(&SPEC.field(list), "pod updates may not add or remove containers");
        }
    }
    deadline(new, old, errors);
    added_tolerations(new, old, errors);
    removed_gates(new, old, errors);

    let mut allowed = new.clone();
    for list in ["containers", "initContainers"] {
        for (container, old) in allowed.items_mut(list).zip(old.items(list)) {
            container.set("image", old.at("image").clone());
        }
    }
    let mut fields = vec!["activeDeadlineSeconds", "tolerations", "schedulingGates"];
    if !old.items("schedulingGates").is_empty() {
        // A gated pod has not been looked at by the scheduler: its placement may still be narrowed.
        added_node_selector(new, old, errors);
        fields.push("nodeSelector");
    }
    if old.number("terminationGracePeriodSeconds").is_some_and(|old| old < 0) {
        fields.push("terminationGracePeriodSeconds");
    }
    for field in fields {
        allowed.set(field, old.at(field).clone());
    }
    if !same(&allowed, old) {
        errors.forbidden(&SPEC, &format!("pod updates may not change fields other than {UPDATABLE}"));
    }
}

fn deadline(new: &Value, old: &Value, errors: &mut ErrorList) {
    let path = SPEC.field("activeDeadlineSeconds");
    match (new.number("activeDeadlineSeconds"), old.number("activeDeadlineSeconds")) {
        (Some(new), _) if !(0..=i64::from(i32::MAX)).contains(&new) => {
            errors.invalid(&path, new, "must be between 0 and 2147483647, inclusive");
        }
        (Some(new), Some(old)) if old < new => {
            errors.invalid(&path, new, "must be less than or equal to previous value");
        }
        (None, Some(_)) => {
            errors.invalid(&path, Value::Null, "must not update from a positive integer to nil value")
        }
        _ => {}
    }
}

fn added_tolerations(new: &Value, old: &Value, errors: &mut ErrorList) {
    let kept = |old: &Value| {
        new.items("tolerations").iter().any(|new| {
            let mut new = new.clone();
            new.set("tolerationSeconds", old.at("tolerationSeconds").clone());
            same(&new, old)
        })
    };
    if !old.items("tolerations").iter().all(kept) {
        errors.forbidden(
            &SPEC.field("tolerations"),
            "existing toleration can not be modified except its tolerationSeconds",
        );
    }
}

fn removed_gates(new: &Value, old: &Value, errors: &mut ErrorList) {
    let names = |spec: &Value| {
        spec.items("schedulingGates").iter().map(|gate| gate.text("name").to_owned()).collect::<BTreeSet<_>>()
    };
    for added in names(new).difference(&names(old)) {
        let detail = format!("only deletion is allowed, but found new scheduling gate '{added}'");
        errors.forbidden(&SPEC.field("schedulingGates").index(0), &detail);
    }
}

fn added_node_selector(new: &Value, old: &Value, errors: &mut ErrorList) {
    if old.entries("nodeSelector").any(|(key, value)| new.at("nodeSelector").get(key) != Some(value)) {
        let path = SPEC.field("nodeSelector");
        errors.invalid(
            &path,
            new.at("nodeSelector").clone(),
            "only additions to spec.nodeSelector are allowed (no mutations or deletions)",
        );
    }
}

/// Validates an update through the subresource `ephemeralcontainers`: containers may only be added.
pub(crate) fn ephemeral_containers(new: &Value, old: &Value, errors: &mut ErrorList) {
    let path = SPEC.field("ephemeralContainers");
    let new = new.items("spec.ephemeralContainers");
    for old in old.items("spec.ephemeralContainers") {
        let name = old.text("name");
        match new.iter().find(|container| container.text("name") == name) {
            None => errors
                .forbidden(&path, &format!("existing ephemeral containers {name:?} may not be removed\n")),
            Some(container) if !same(container, old) => {
                errors.forbidden(
                    &path,
                    &format!("existing ephemeral containers {name:?} may not be changed\n"),
                );
            }
            Some(_) => {}
        }
    }
}

/// Validates an update through the subresource `resize`: only cpu and memory of containers may change.
pub(crate) fn resize(new: &Value, old: &Value, errors: &mut ErrorList) {
    let mut allowed = new.at("spec").clone();
    for list in ["containers", "initContainers"] {
        for (container, old) in allowed.items_mut(list).zip(old.at("spec").items(list)) {
            for kind in ["limits", "requests"] {
                for name in ["cpu", "memory"] {
                    let before = old.at("resources").at(kind).get(name).cloned().unwrap_or_default();
                    container.object_mut("resources").object_mut(kind).set(name, before);
                }
            }
        }
    }
    if !same(&allowed, old.at("spec")) {
        errors.forbidden(&SPEC, "only cpu and memory resources are mutable");
    }
    let before = old.text("status.qosClass");
    if !before.is_empty() && quality(new) != before {
        errors.invalid(&SPEC, before, "Pod QOS Class may not change as a result of resizing");
    }
}
