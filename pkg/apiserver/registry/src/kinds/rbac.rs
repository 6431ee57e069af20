//! Roles and role bindings.

use edgek_api::name;
use serde_json::Value;

use crate::strategy::{PLAIN, Strategy, UpdateOfMissing};
use edgek_api::field::{ErrorList, Path};
use edgek_apiserver_admission::fields::{Fields, same};

const GROUP: &str = "rbac.authorization.k8s.io";

pub(super) const ROLE: Strategy = Strategy {
    name: name::Rule::PathSegment,
    validate: validate_role,
    update_of_missing: UpdateOfMissing::Create,
    ..PLAIN
};
pub(super) const BINDING: Strategy = Strategy {
    name: name::Rule::PathSegment,
    default,
    validate: validate_binding,
    validate_update,
    update_of_missing: UpdateOfMissing::Create,
    ..PLAIN
};

fn default(binding: &mut Value) {
    binding.object_mut("roleRef").default_empty("apiGroup", GROUP);
    for subject in binding.items_mut("subjects") {
        if matches!(subject.text("kind"), "User" | "Group") {
            subject.default_empty("apiGroup", GROUP);
        }
    }
}

fn validate_role(role: &Value, errors: &mut ErrorList) {
    let rules = Path::Root("rules");
    for (index, rule) in role.items("rules").iter().enumerate() {
        let path = rules.index(index);
        if rule.items("verbs").is_empty() {
            errors.required(&path.field("verbs"), "verbs must contain at least one value");
        }
        if rule.items("nonResourceURLs").is_empty() {
            if rule.items("apiGroups").is_empty() {
                errors
                    .required(&path.field("apiGroups"), "resource rules must supply at least one api group");
            }
            if rule.items("resources").is_empty() {
                errors.required(&path.field("resources"), "resource rules must supply at least one resource");
            }
        } else if role.has("metadata.namespace") {
            errors.invalid(
                &path.field("nonResourceURLs"),
                rule.at("nonResourceURLs").clone(),
                "namespaced rules cannot apply to non-resource URLs",
            );
        }
    }
}

fn validate_binding(binding: &Value, errors: &mut ErrorList) {
    let reference = binding.at("roleRef");
    let path = Path::Root("roleRef");
    if reference.text("apiGroup") != GROUP {
        errors.not_supported(&path.field("apiGroup"), reference.text("apiGroup"), &[GROUP]);
    }
    let kinds: &[&str] =
        if binding.has("metadata.namespace") { &["Role", "ClusterRole"] } else { &["ClusterRole"] };
    if !kinds.contains(&reference.text("kind")) {
        errors.not_supported(&path.field("kind"), reference.text("kind"), kinds);
    }
    if reference.text("name").is_empty() {
        errors.required(&path.field("name"), "");
    }
    let subjects = Path::Root("subjects");
    for (index, subject) in binding.items("subjects").iter().enumerate() {
        let path = subjects.index(index);
        if subject.text("name").is_empty() {
            errors.required(&path.field("name"), "");
        }
        let group = match subject.text("kind") {
            "ServiceAccount" => {
                if subject.text("namespace").is_empty() && !binding.has("metadata.namespace") {
                    errors.required(&path.field("namespace"), "");
                }
                ""
            }
            "User" | "Group" => GROUP,
            other => {
                errors.not_supported(&path.field("kind"), other, &["ServiceAccount", "User", "Group"]);
                continue;
            }
        };
        if subject.text("apiGroup") != group {
            errors.not_supported(&path.field("apiGroup"), subject.text("apiGroup"), &[group]);
        }
    }
}

fn validate_update(new: &Value, old: &Value, errors: &mut ErrorList) {
    if !same(new.at("roleRef"), old.at("roleRef")) {
        errors.invalid(&Path::Root("roleRef"), new.at("roleRef").clone(), "cannot change roleRef");
    }
}
