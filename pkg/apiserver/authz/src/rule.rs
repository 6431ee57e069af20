//! RBAC rules and when one covers a request (upstream: `VisitRulesFor` and `RuleAllows` of the RBAC authorizer).

use serde::Deserialize;

use crate::Target;

/// A rule of a Role or ClusterRole.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "the fields of rbac.authorization.k8s.io/v1 PolicyRule")]
pub struct PolicyRule {
    pub verbs: Vec<String>,
    pub api_groups: Vec<String>,
    pub resources: Vec<String>,
    pub resource_names: Vec<String>,
    #[serde(rename = "nonResourceURLs")]
    pub non_resource_urls: Vec<String>,
}

/// Whom a binding names.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "the fields of rbac.authorization.k8s.io/v1 Subject")]
pub struct Subject {
    pub kind: String,
    pub name: String,
    pub namespace: String,
}

/// The role a binding grants.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "the fields of rbac.authorization.k8s.io/v1 RoleRef")]
pub struct RoleRef {
    pub kind: String,
    pub name: String,
}

/// Whether any rule covers the target.
pub fn rules_allow<'a>(target: &Target<'_>, rules: impl IntoIterator<Item = &'a PolicyRule>) -> bool {
    rules.into_iter().any(|rule| rule.allows(target))
}

impl PolicyRule {
    /// Whether this rule covers the target.
    pub fn allows(&self, target: &Target<'_>) -> bool {
        match *target {
            Target::Resource { verb, group, resource, subresource, name, .. } => {
                any(&self.verbs, verb)
                    && any(&self.api_groups, group)
                    && self.names_resource(resource, subresource)
                    && (self.resource_names.is_empty() || self.resource_names.iter().any(|n| n == name))
            }
            Target::NonResource { verb, path } => {
                any(&self.verbs, verb)
                    && self.non_resource_urls.iter().any(|pattern| matches_path(pattern, path))
            }
        }
    }

    fn names_resource(&self, resource: &str, subresource: &str) -> bool {
        self.resources.iter().any(|rule| match rule.split_once('/') {
            None => rule == "*" || (subresource.is_empty() && rule == resource),
            Some(("*", sub)) => !sub.is_empty() && sub == subresource,
            Some((res, sub)) => !subresource.is_empty() && res == resource && sub == subresource,
        })
    }
}

fn any(allowed: &[String], wanted: &str) -> bool {
    allowed.iter().any(|item| item == "*" || item == wanted)
}

fn matches_path(pattern: &str, path: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => path.starts_with(prefix),
        None => pattern == path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) fn target<'a>(
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

    #[test]
    fn a_rule_covers_what_it_names() {
        let check = |rule: &str, target: Target<'_>, expected: bool| {
            let parsed: PolicyRule = serde_json::from_str(rule).unwrap();
            assert_eq!(parsed.allows(&target), expected, "{rule} and {target:?}");
        };
        let pods = r#"{"verbs":["get"],"apiGroups":[""],"resources":["pods"]}"#;
        check(pods, target("get", "", "pods", "ns", "x"), true);
        check(pods, target("list", "", "pods", "ns", ""), false);
        check(pods, target("get", "apps", "pods", "ns", "x"), false);
        check(pods, target("get", "", "pods/log", "ns", "x"), false);
        let all = r#"{"verbs":["*"],"apiGroups":["*"],"resources":["*"]}"#;
        check(all, target("delete", "apps", "deployments/scale", "ns", "x"), true);
        check(all, Target::NonResource { verb: "get", path: "/metrics" }, false);
        let scale = r#"{"verbs":["get"],"apiGroups":["apps"],"resources":["*/scale"]}"#;
        check(scale, target("get", "apps", "deployments/scale", "ns", "x"), true);
        check(scale, target("get", "apps", "deployments", "ns", "x"), false);
        let named = r#"{"verbs":["get"],"apiGroups":[""],"resources":["configmaps"],"resourceNames":["a"]}"#;
        check(named, target("get", "", "configmaps", "ns", "a"), true);
        check(named, target("get", "", "configmaps", "ns", "b"), false);
        let urls = r#"{"verbs":["get"],"nonResourceURLs":["/healthz","/api/*"]}"#;
        check(urls, Target::NonResource { verb: "get", path: "/healthz" }, true);
        check(urls, Target::NonResource { verb: "get", path: "/healthz/x" }, false);
        check(urls, Target::NonResource { verb: "get", path: "/api/v1" }, true);
    }
}
