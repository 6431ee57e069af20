//! `Rbac`: roles and bindings in memory, indexed by subject, and the decision over them.
//!
//! The owner feeds it all objects of the four kinds ([`Rbac::replace`]) and every change ([`Rbac::apply`]); a decision
//! reads under one short lock.

use std::collections::{BTreeMap, HashMap};

use edgek_apiserver_authn::{PRIVILEGED_GROUP, User};
use parking_lot::RwLock;
use serde::Deserialize;

use crate::rule::{PolicyRule, RoleRef, Subject, rules_allow};
use crate::{Attributes, Authorizer, Decision, Target};

/// The kinds RBAC is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// `clusterroles`.
    ClusterRole,
    /// `clusterrolebindings`.
    ClusterRoleBinding,
    /// `roles`.
    Role,
    /// `rolebindings`.
    RoleBinding,
}

/// The RBAC authorizer.
#[derive(Debug, Default)]
pub struct Rbac {
    policy: RwLock<Policy>,
}

/// The namespace (empty for cluster kinds) and name of an object.
type Key = (String, String);

#[derive(Debug, Default)]
struct Policy {
    roles: HashMap<Key, Vec<PolicyRule>>,
    bindings: BTreeMap<Key, Binding>,
    /// The keys of the bindings that name a subject, by [`subject_key`].
    by_subject: HashMap<String, Vec<Key>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Binding {
    role_ref: RoleRef,
    subjects: Vec<Subject>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Role {
    rules: Vec<PolicyRule>,
}

impl Rbac {
    /// Puts an object (its JSON) into the policy, or takes it out.
    ///
    /// # Errors
    /// When the JSON is not of this kind; the policy then grants nothing by this object.
    pub fn apply(
        &self,
        kind: Kind,
        namespace: &str,
        name: &str,
        object: Option<&[u8]>,
    ) -> Result<(), serde_json::Error> {
        self.policy.write().apply(kind, (namespace.to_owned(), name.to_owned()), object)
    }

    /// Makes these objects (namespace, name, JSON) the only ones of their kind. Gives back those it could not read;
    /// they grant nothing.
    pub fn replace<'a>(
        &self,
        kind: Kind,
        objects: impl Iterator<Item = (&'a str, &'a str, &'a [u8])>,
    ) -> Vec<(String, serde_json::Error)> {
        let mut policy = self.policy.write();
        for key in policy.keys(kind) {
            policy.remove(kind, &key);
        }
        let mut unreadable = Vec::new();
        for (namespace, name, object) in objects {
            let key = (namespace.to_owned(), name.to_owned());
            unreadable
                .extend(policy.apply(kind, key, Some(object)).err().map(|error| (name.to_owned(), error)));
        }
        unreadable
    }

    /// Calls `visit` with the rules of every role the user has in `namespace` and in the cluster, and a text that
    /// tells where they come from, until it returns `true`.
    fn find(
        &self,
        user: &User,
        namespace: &str,
        mut visit: impl FnMut(&[PolicyRule]) -> bool,
    ) -> Option<String> {
        let policy = self.policy.read();
        for subject in subjects(user) {
            for key in policy.by_subject.get(&subject).into_iter().flatten() {
                let in_scope = key.0.is_empty() || (!namespace.is_empty() && key.0 == namespace);
                let Some(binding) = policy.bindings.get(key).filter(|_| in_scope) else { continue };
                let role_namespace = if binding.role_ref.kind == "ClusterRole" { "" } else { &key.0 };
                let role = (role_namespace.to_owned(), binding.role_ref.name.clone());
                if policy.roles.get(&role).is_some_and(|rules| visit(rules)) {
                    return Some(reason(key, binding, &subject));
                }
            }
        }
        None
    }

    /// All rules the user has in `namespace` (as SelfSubjectRulesReview shows them, and escalation checks need).
    pub fn rules(&self, user: &User, namespace: &str) -> Vec<PolicyRule> {
        let mut rules = Vec::new();
        self.find(user, namespace, |of_role| {
            rules.extend_from_slice(of_role);
            false
        });
        rules
    }
}

impl Policy {
    fn apply(&mut self, kind: Kind, key: Key, object: Option<&[u8]>) -> Result<(), serde_json::Error> {
        self.remove(kind, &key);
        let Some(object) = object else { return Ok(()) };
        match kind {
            Kind::ClusterRole | Kind::Role => {
                let role: Role = serde_json::from_slice(object)?;
                self.roles.insert(key, role.rules);
            }
            Kind::ClusterRoleBinding | Kind::RoleBinding => self.bind(key, serde_json::from_slice(object)?),
        }
        Ok(())
    }

    fn remove(&mut self, kind: Kind, key: &Key) {
        match kind {
            Kind::ClusterRole | Kind::Role => drop(self.roles.remove(key)),
            Kind::ClusterRoleBinding | Kind::RoleBinding => self.unbind(key),
        }
    }

    /// The keys of all objects of a kind: cluster kinds have no namespace.
    fn keys(&self, kind: Kind) -> Vec<Key> {
        let of_cluster = matches!(kind, Kind::ClusterRole | Kind::ClusterRoleBinding);
        let same = |key: &&Key| key.0.is_empty() == of_cluster;
        match kind {
            Kind::ClusterRole | Kind::Role => self.roles.keys().filter(same).cloned().collect(),
            Kind::ClusterRoleBinding | Kind::RoleBinding => {
                self.bindings.keys().filter(same).cloned().collect()
            }
        }
    }

    fn bind(&mut self, key: Key, binding: Binding) {
        for subject in &binding.subjects {
            self.by_subject.entry(subject_key(subject, &key.0)).or_default().push(key.clone());
        }
        self.bindings.insert(key, binding);
    }

    fn unbind(&mut self, key: &Key) {
        let Some(binding) = self.bindings.remove(key) else { return };
        for subject in &binding.subjects {
            let subject = subject_key(subject, &key.0);
            if let Some(keys) = self.by_subject.get_mut(&subject) {
                keys.retain(|k| k != key);
                if keys.is_empty() {
                    self.by_subject.remove(&subject);
                }
            }
        }
    }
}

/// A service account is the user of its full name; a binding may leave out the namespace it stands in.
fn subject_key(subject: &Subject, binding_namespace: &str) -> String {
    let namespace = if subject.namespace.is_empty() { binding_namespace } else { &subject.namespace };
    match subject.kind.as_str() {
        "ServiceAccount" => format!("u system:serviceaccount:{namespace}:{}", subject.name),
        "Group" => format!("g {}", subject.name),
        _ => format!("u {}", subject.name),
    }
}

fn subjects(user: &User) -> impl Iterator<Item = String> {
    std::iter::once(format!("u {}", user.name)).chain(user.groups.iter().map(|group| format!("g {group}")))
}

fn reason((namespace, name): &Key, binding: &Binding, subject: &str) -> String {
    let (kind, scoped) = if namespace.is_empty() {
        ("ClusterRoleBinding", name.clone())
    } else {
        ("RoleBinding", format!("{name}/{namespace}"))
    };
    let (subject_kind, subject) = match subject.split_at(2) {
        ("g ", group) => ("Group", group),
        (_, user) => ("User", user),
    };
    let RoleRef { kind: role_kind, name: role } = &binding.role_ref;
    format!("RBAC: allowed by {kind} \"{scoped}\" of {role_kind} \"{role}\" to {subject_kind} \"{subject}\"")
}

impl Authorizer for Rbac {
    fn authorize(&self, attributes: &Attributes<'_>) -> Decision {
        if attributes.user.is_in(PRIVILEGED_GROUP) {
            return Decision::Allow { reason: String::new() };
        }
        let namespace = match attributes.target {
            Target::Resource { namespace, .. } => namespace,
            Target::NonResource { .. } => "",
        };
        match self.find(attributes.user, namespace, |rules| rules_allow(attributes.target, rules)) {
            Some(reason) => Decision::Allow { reason },
            None => Decision::NoOpinion { reason: String::new() },
        }
    }

    fn rules(&self, user: &User, namespace: &str) -> Vec<PolicyRule> {
        Self::rules(self, user, namespace)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target<'a>(verb: &'a str, resource: &'a str, namespace: &'a str) -> Target<'a> {
        Target::Resource {
            verb,
            group: "",
            version: "v1",
            resource,
            subresource: "",
            namespace,
            name: "",
            field_selector: "",
            label_selector: "",
        }
    }

    fn rbac() -> Rbac {
        let rbac = Rbac::default();
        let apply = |kind, namespace, name, object: &str| {
            rbac.apply(kind, namespace, name, Some(object.as_bytes())).unwrap()
        };
        apply(
            Kind::ClusterRole,
            "",
            "reader",
            r#"{"rules":[{"verbs":["get","list"],"apiGroups":[""],"resources":["pods"]}]}"#,
        );
        apply(
            Kind::Role,
            "a",
            "writer",
            r#"{"rules":[{"verbs":["create"],"apiGroups":[""],"resources":["pods"]}]}"#,
        );
        apply(
            Kind::ClusterRoleBinding,
            "",
            "ops",
            r#"{"roleRef":{"kind":"ClusterRole","name":"reader"},"subjects":[{"kind":"Group","name":"ops"}]}"#,
        );
        apply(
            Kind::RoleBinding,
            "a",
            "bot",
            r#"{"roleRef":{"kind":"Role","name":"writer"},"subjects":[{"kind":"ServiceAccount","name":"bot"}]}"#,
        );
        apply(
            Kind::RoleBinding,
            "b",
            "bot",
            r#"{"roleRef":{"kind":"ClusterRole","name":"reader"},"subjects":[{"kind":"ServiceAccount","name":"bot","namespace":"a"}]}"#,
        );
        rbac
    }

    fn allows(rbac: &Rbac, user: &User, target: &Target<'_>) -> bool {
        matches!(rbac.authorize(&Attributes { user, target }), Decision::Allow { .. })
    }

    #[test]
    fn what_is_not_among_all_objects_of_its_kind_grants_nothing_any_more() {
        let rbac = rbac();
        let bot = User::new("system:serviceaccount:a:bot", Vec::<String>::new());
        assert!(allows(&rbac, &bot, &target("create", "pods", "a")));
        let unreadable = rbac.replace(Kind::RoleBinding, [("a", "odd", &b"3"[..])].into_iter());
        assert_eq!(unreadable.len(), 1);
        assert!(!allows(&rbac, &bot, &target("create", "pods", "a")));
        // Bindings of the cluster are another kind.
        assert!(allows(&rbac, &User::new("o", ["ops"]), &target("get", "pods", "a")));
    }

    #[test]
    fn a_cluster_binding_counts_everywhere_and_a_binding_in_its_namespace() {
        let rbac = rbac();
        let ops = User::new("o", ["ops"]);
        let bot = User::new("system:serviceaccount:a:bot", Vec::<String>::new());
        for (user, target, expected) in [
            (&ops, target("list", "pods", ""), true),
            (&ops, target("get", "pods", "a"), true),
            (&ops, target("create", "pods", "a"), false),
            (&bot, target("create", "pods", "a"), true),
            (&bot, target("create", "pods", "b"), false),
            (&bot, target("get", "pods", "b"), true),
            (&bot, target("get", "pods", ""), false),
        ] {
            assert_eq!(allows(&rbac, user, &target), expected, "{} {target:?}", user.name);
        }
        assert!(allows(&rbac, &User::new("root", [PRIVILEGED_GROUP]), &target("delete", "nodes", "")));
    }

    #[test]
    fn a_removed_binding_or_role_grants_nothing() {
        let rbac = rbac();
        let ops = User::new("o", ["ops"]);
        rbac.apply(Kind::ClusterRoleBinding, "", "ops", None).unwrap();
        assert!(!allows(&rbac, &ops, &target("get", "pods", "a")));
        let bot = User::new("system:serviceaccount:a:bot", Vec::<String>::new());
        rbac.apply(Kind::Role, "a", "writer", None).unwrap();
        assert!(!allows(&rbac, &bot, &target("create", "pods", "a")));
    }

    #[test]
    fn the_reason_names_the_binding() {
        let user = User::new("o", ["ops"]);
        let decision = rbac().authorize(&Attributes { user: &user, target: &target("get", "pods", "a") });
        let reason = r#"RBAC: allowed by ClusterRoleBinding "ops" of ClusterRole "reader" to Group "ops""#;
        assert_eq!(decision, Decision::Allow { reason: reason.into() });
    }
}
