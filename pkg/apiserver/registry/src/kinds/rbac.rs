//! Roles and role bindings.

use edgek_api::name;
use serde_json::Value;

use crate::labels;
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
        let mut verbs = ErrorList::default();
        if rule.items("verbs").is_empty() {
            verbs.required(&path.field("verbs"), "");
        }
        if rule.items("nonResourceURLs").is_empty() {
            if rule.items("apiGroups").is_empty() {
                errors
                    .required(&path.field("apiGroups"), "resource rules must supply at least one api group");
            }
            if rule.items("resources").is_empty() {
                errors.required(&path.field("resources"), "resource rules must supply at least one resource");
            }
        } else {
            let (path, urls) = (path.field("nonResourceURLs"), rule.at("nonResourceURLs"));
            if role.has("metadata.namespace") {
                errors.invalid(&path, urls.clone(), "namespaced rules cannot apply to non-resource URLs");
            }
            if ["apiGroups", "resources", "resourceNames"].iter().any(|field| !rule.items(field).is_empty()) {
                let detail = "rules cannot apply to both regular resources and non-resource URLs";
                errors.invalid(&path, urls.clone(), detail);
            }
        }
        errors.0.append(&mut verbs.0);
    }
    if !role.has("aggregationRule") {
        return;
    }
    let path = Path::Root("aggregationRule.clusterRoleSelectors");
    let selectors = role.items("aggregationRule.clusterRoleSelectors");
    if selectors.is_empty() {
        let detail = "at least one clusterRoleSelector required if aggregationRule is non-nil";
        errors.required(&path, detail);
    }
    for (index, selector) in selectors.iter().enumerate() {
        let mut problems = ErrorList::default();
        labels::validate_selector(selector, &path.index(index), &mut problems);
        if !problems.is_empty() {
            problems.invalid(&path.index(index), Value::Null, "invalid label selector.");
        }
        errors.0.append(&mut problems.0);
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
    match reference.text("name") {
        "" => errors.required(&path.field("name"), ""),
        name => errors.invalid_all(&path.field("name"), name, name::path_segment(name)),
    }
    let subjects = Path::Root("subjects");
    for (index, subject) in binding.items("subjects").iter().enumerate() {
        let path = subjects.index(index);
        let kinds = ["ServiceAccount", "User", "Group"];
        if !kinds.contains(&subject.text("kind")) {
            errors.not_supported(&path.field("kind"), subject.text("kind"), &kinds);
        }
        if subject.text("name").is_empty() {
            errors.required(&path.field("name"), "");
        }
        let group = match subject.text("kind") {
            "ServiceAccount" => {
                let name = subject.text("name");
                if !name.is_empty() {
                    errors.invalid_all(&path.field("name"), name, name::dns1123_subdomain(name));
                }
                if subject.text("namespace").is_empty() && !binding.has("metadata.namespace") {
                    errors.required(&path.field("namespace"), "");
                }
                ""
            }
            "User" | "Group" => GROUP,
            _ => continue,
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
