//! The roles and bindings every cluster starts with, as upstream's bootstrap policy defines them.
//!
//! `bootstrap/policy.jsonl` holds one object a line: facts of Kubernetes v1.37.0, see NOTICE; `bootstrap/edgek.jsonl`
//! what joining nodes need besides. `cmd/edgek` creates
//! at each start those that are missing and extends those whose `autoupdate` annotation is not `false`.

use std::collections::HashSet;

use serde_json::Value;

static POLICY: &str = include_str!("../bootstrap/policy.jsonl");
static OWN: &str = include_str!("../bootstrap/edgek.jsonl");

/// All bootstrap objects: ClusterRoles, ClusterRoleBindings, Roles, RoleBindings. The rules of aggregated roles
/// (admin, edit, view) are filled in.
pub fn objects() -> Vec<Value> {
    let lines = POLICY.lines().chain(OWN.lines());
    let mut objects: Vec<Value> = lines.filter_map(|line| serde_json::from_str(line).ok()).collect();
    // view aggregates into edit and edit into admin: each pass carries the rules one step further.
    for _ in 0..3 {
        aggregate(&mut objects);
    }
    objects
}

fn aggregate(objects: &mut [Value]) {
    let sources = objects.to_vec();
    for role in objects {
        let Some(selectors) = role["aggregationRule"]["clusterRoleSelectors"].as_array() else { continue };
        let rules: Vec<Value> =
            sources.iter().filter(|source| aggregates(selectors, source)).flat_map(rules_of).collect();
        let mut seen = HashSet::new();
        role["rules"] = rules.into_iter().filter(|rule| seen.insert(rule.to_string())).collect();
    }
}

fn aggregates(selectors: &[Value], role: &Value) -> bool {
    role["kind"] == "ClusterRole"
        && selectors
            .iter()
            .filter_map(|selector| selector["matchLabels"].as_object())
            .any(|wanted| wanted.iter().all(|(key, value)| role["metadata"]["labels"][key] == *value))
}

fn rules_of(role: &Value) -> Vec<Value> {
    role["rules"].as_array().cloned().unwrap_or_default()
}

/// The rules of the static role of nodes, which the Node authorizer evaluates for what it does not subdivide.
pub fn node_rules() -> Vec<crate::PolicyRule> {
    let role = POLICY
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .find(|role| role["kind"] == "ClusterRole" && role["metadata"]["name"] == "system:node");
    role.map(|mut role| serde_json::from_value(role["rules"].take()).unwrap_or_default()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_of_the_policy_is_an_object() {
        assert_eq!(objects().len(), POLICY.lines().count() + OWN.lines().count());
    }

    #[test]
    fn aggregated_roles_hold_the_rules_of_their_parts() {
        let objects = objects();
        let role = |name: &str| {
            objects.iter().find(|o| o["kind"] == "ClusterRole" && o["metadata"]["name"] == name).unwrap()
        };
        let allows = |name: &str, verb: &str, resource: &str| {
            rules_of(role(name)).iter().any(|rule| {
                let has = |field: &str, value: &str| {
                    rule[field].as_array().is_some_and(|items| items.iter().any(|i| i == value))
                };
                has("verbs", verb) && has("resources", resource)
            })
        };
        assert!(
            allows("view", "get", "pods")
                && !allows("view", "create", "pods")
                && !allows("view", "get", "secrets")
        );
        assert!(allows("edit", "create", "pods") && allows("edit", "get", "configmaps"));
        assert!(allows("admin", "create", "rolebindings") && allows("admin", "create", "pods"));
    }

    #[test]
    fn nodes_have_their_static_rules() {
        assert!(node_rules().iter().any(|rule| rule.resources.iter().any(|r| r == "nodes")));
    }
}
