//! `RbacEscalation`: nobody grants rights that they do not have, as upstream's `registry/rbac/*/policybased`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use async_trait::async_trait;
use edgek_apiserver_authn::{PRIVILEGED_GROUP, User};
use edgek_apiserver_authz::{Attributes, Authorizer, Decision, PolicyRule, Target, rules_allow};
use serde_json::{Value, json};

use crate::fields::{Fields, same};
use crate::{Error, Lookup, Operation, Phases, Plugin, Request};

const GROUP: &str = "rbac.authorization.k8s.io";

/// The plugin.
pub struct RbacEscalation {
    authorizer: Arc<dyn Authorizer>,
    objects: Arc<dyn Lookup>,
}

impl RbacEscalation {
    /// The plugin, asking `authorizer` for the rights of users and looking roles up in `objects`.
    pub fn new(authorizer: Arc<dyn Authorizer>, objects: Arc<dyn Lookup>) -> Self {
        Self { authorizer, objects }
    }

    /// Whether the user may do something special with a role.
    fn may(&self, request: &Request<'_>, verb: &str, resource: &str, name: &str) -> bool {
        let target = target(verb, GROUP, resource, request.namespace, name);
        matches!(
            self.authorizer.authorize(&Attributes { user: request.user, target: &target }),
            Decision::Allow { .. }
        )
    }

    /// The rules that a binding grants, and the resource of its role.
    fn granted(&self, namespace: &str, binding: &Value) -> (&'static str, Value) {
        let cluster = binding.text("roleRef.kind") == "ClusterRole";
        let (resource, namespace) = if cluster { ("clusterroles", "") } else { ("roles", namespace) };
        let role = self.objects.get(GROUP, resource, namespace, binding.text("roleRef.name"));
        (resource, role.map(|role| role.at("rules").clone()).unwrap_or_default())
    }

    fn confirm(&self, request: &Request<'_>, granted: &Value) -> Result<(), Error> {
        let granted: Vec<PolicyRule> =
            serde_json::from_value(granted.clone()).map_err(|error| Error::Internal(error.to_string()))?;
        let held = self.authorizer.rules(request.user, request.namespace);
        let missing = missing(&granted, &held);
        if missing.is_empty() {
            return Ok(());
        }
        let User { name, groups, .. } = request.user;
        let groups = quoted(groups.iter().map(String::as_str));
        let missing = missing.into_iter().collect::<Vec<_>>().join("\n");
        Err(Error::forbidden(format!(
            "user {name:?} (groups={groups}) is attempting to grant RBAC permissions not currently held:\n{missing}"
        )))
    }
}

#[async_trait]
impl Plugin for RbacEscalation {
    fn phases(&self, request: &Request<'_>) -> Phases {
        let write = matches!(request.operation, Operation::Create | Operation::Update);
        let rbac = request.group == GROUP && request.subresource.is_empty();
        if write && rbac && !request.user.is_in(PRIVILEGED_GROUP) { Phases::Validate } else { Phases::None }
    }

    async fn validate(&self, request: &Request<'_>, object: &Value) -> Result<(), Error> {
        let unchanged = |field: &str| request.old.is_some_and(|old| same(old.at(field), object.at(field)));
        match request.resource {
            "roles" | "clusterroles" => {
                if unchanged("rules") && unchanged("aggregationRule") {
                    return Ok(());
                }
                if self.may(request, "escalate", request.resource, request.name) {
                    return Ok(());
                }
                self.confirm(request, object.at("rules"))?;
                let gathers = object.has("aggregationRule");
                let all = json!([
                    {"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]},
                    {"nonResourceURLs": ["*"], "verbs": ["*"]},
                ]);
                if gathers && self.confirm(request, &all).is_err() {
                    return Err(Error::forbidden(
                        "must have cluster-admin privileges to use the aggregationRule",
                    ));
                }
                Ok(())
            }
            _ => {
                if unchanged("roleRef") && unchanged("subjects") {
                    return Ok(());
                }
                let (resource, rules) = self.granted(request.namespace, object);
                if self.may(request, "bind", resource, object.text("roleRef.name")) {
                    return Ok(());
                }
                self.confirm(request, &rules)
            }
        }
    }
}

fn target<'a>(
    verb: &'a str,
    group: &'a str,
    resource: &'a str,
    namespace: &'a str,
    name: &'a str,
) -> Target<'a> {
    let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
    Target::Resource {
        verb,
        group,
        version: "v1",
        resource,
        subresource,
        namespace,
        name,
        field_selector: "",
        label_selector: "",
    }
}

/// The parts of `granted` that `held` does not cover, in upstream's form, sorted.
fn missing(granted: &[PolicyRule], held: &[PolicyRule]) -> BTreeSet<String> {
    // Which verbs are missing, by what they are missing for.
    let mut verbs: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    for rule in granted {
        for verb in &rule.verbs {
            for path in &rule.non_resource_urls {
                if !rules_allow(&Target::NonResource { verb, path }, held) {
                    verbs.entry(format!("NonResourceURLs:[{path:?}]")).or_default().insert(verb);
                }
            }
            for (group, resource) in rule
                .api_groups
                .iter()
                .flat_map(|group| rule.resources.iter().map(move |resource| (group, resource)))
            {
                let names =
                    if rule.resource_names.is_empty() { &[String::new()][..] } else { &rule.resource_names };
                for name in names {
                    if rules_allow(&target(verb, group, resource, "", name), held) {
                        continue;
                    }
                    let of =
                        if name.is_empty() { String::new() } else { format!(", ResourceNames:[{name:?}]") };
                    let what = format!("APIGroups:[{group:?}], Resources:[{resource:?}]{of}");
                    verbs.entry(what).or_default().insert(verb);
                }
            }
        }
    }
    verbs.into_iter().map(|(what, verbs)| format!("{{{what}, Verbs:{}}}", quoted(verbs))).collect()
}

/// A list as Go's `%q` prints it.
fn quoted<'a>(items: impl IntoIterator<Item = &'a str>) -> String {
    let items: Vec<String> = items.into_iter().map(|item| format!("{item:?}")).collect();
    format!("[{}]", items.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(granted: Value, held: Value, expected: &[&str]) {
        let parse = |rules: Value| serde_json::from_value::<Vec<PolicyRule>>(rules).unwrap();
        let missing: Vec<String> = missing(&parse(granted), &parse(held)).into_iter().collect();
        assert_eq!(missing, expected);
    }

    #[test]
    fn what_is_not_held_is_missing() {
        let pods = json!([{"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list"]}]);
        let all = json!([{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]);
        check(pods.clone(), pods.clone(), &[]);
        check(pods.clone(), all.clone(), &[]);
        check(all, pods.clone(), &[r#"{APIGroups:["*"], Resources:["*"], Verbs:["*"]}"#]);
        let more =
            json!([{"apiGroups": [""], "resources": ["pods", "pods/log"], "verbs": ["delete", "get"]}]);
        check(
            more,
            pods.clone(),
            &[
                r#"{APIGroups:[""], Resources:["pods"], Verbs:["delete"]}"#,
                r#"{APIGroups:[""], Resources:["pods/log"], Verbs:["delete" "get"]}"#,
            ],
        );
        let one =
            json!([{"apiGroups": [""], "resources": ["pods"], "resourceNames": ["a"], "verbs": ["get"]}]);
        check(one.clone(), pods.clone(), &[]);
        check(pods, one, &[r#"{APIGroups:[""], Resources:["pods"], Verbs:["get" "list"]}"#]);
        let paths = json!([{"nonResourceURLs": ["/healthz", "/x"], "verbs": ["get"]}]);
        let held = json!([{"nonResourceURLs": ["/health*"], "verbs": ["get"]}]);
        check(paths, held, &[r#"{NonResourceURLs:["/x"], Verbs:["get"]}"#]);
    }
}
