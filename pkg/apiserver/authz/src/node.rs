//! The Node authorizer: a kubelet sees its own node and what the pods bound to it refer to (upstream's
//! `plugin/pkg/auth/authorizer/node`).

use std::sync::Arc;

use edgek_apiserver_authn::User;

use crate::{Attributes, Authorizer, Decision, PolicyRule, Target, bootstrap, rules_allow};

/// The group of kubelets.
pub const NODES: &str = "system:nodes";
/// What the user name of a kubelet begins with.
const NODE_USER: &str = "system:node:";
/// The namespace of node leases.
const LEASES: &str = "kube-node-lease";

/// A kind of object that pods refer to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names of the kinds")]
pub enum Referenced {
    ConfigMap,
    PersistentVolume,
    PersistentVolumeClaim,
    ResourceClaim,
    Secret,
    ServiceAccount,
    VolumeAttachment,
}

/// What the authorizer needs to know of the cluster.
pub trait NodeObjects: Send + Sync + 'static {
    /// Whether a pod bound to `node` refers to the object (directly or, as for volumes of a claim, through another).
    fn is_referenced(&self, node: &str, kind: Referenced, namespace: &str, name: &str) -> bool;
    /// Whether the pod is bound to `node`.
    fn is_bound(&self, node: &str, namespace: &str, pod: &str) -> bool;
}

/// Authorizes kubelets.
pub struct NodeAuthorizer {
    objects: Arc<dyn NodeObjects>,
    rules: Vec<PolicyRule>,
}

/// The node a user is the kubelet of: `system:node:<name>` in the group `system:nodes`.
pub fn node_name(user: &User) -> Option<&str> {
    user.name.strip_prefix(NODE_USER).filter(|_| user.is_in(NODES))
}

/// A reason why a node may not.
type Refusal = String;

impl NodeAuthorizer {
    /// An authorizer over the cluster's objects.
    pub fn new(objects: Arc<dyn NodeObjects>) -> Self {
        Self { objects, rules: bootstrap::node_rules() }
    }

    fn decide(&self, node: &str, target: &Target<'_>) -> Result<(), Refusal> {
        let Target::Resource { group, resource, verb, subresource, .. } = *target else {
            // A node opens the stream over which it is reached.
            return match target {
                Target::NonResource { verb: "connect", .. } => Ok(()),
                _ => self.by_rules(target),
            };
        };
        match (group, resource) {
            ("", "secrets") => self.read(node, Referenced::Secret, target),
            ("", "configmaps") => self.read(node, Referenced::ConfigMap, target),
            ("", "persistentvolumeclaims") if subresource == "status" => {
                one_of(verb, &["update", "patch"], "can only get/update/patch this type")?;
                self.related(node, Referenced::PersistentVolumeClaim, target)
            }
            ("", "persistentvolumeclaims") => self.get(node, Referenced::PersistentVolumeClaim, target),
            ("", "persistentvolumes") => self.get(node, Referenced::PersistentVolume, target),
            ("resource.k8s.io", "resourceclaims") => self.get(node, Referenced::ResourceClaim, target),
            ("storage.k8s.io", "volumeattachments") => self.get(node, Referenced::VolumeAttachment, target),
            ("", "serviceaccounts") => self.service_account(node, target),
            ("coordination.k8s.io", "leases") => own_lease(node, target),
            ("storage.k8s.io", "csinodes") => own_csi_node(node, target),
            ("resource.k8s.io", "resourceslices") => own_resource_slice(node, target),
            ("", "nodes") => self.node(node, target),
            ("", "pods") => self.pod(node, target),
            ("certificates.k8s.io", "podcertificaterequests") => {
                own_certificate_request(node, target).or_else(|_| self.by_rules(target))
            }
            _ => self.by_rules(target),
        }
    }

    /// What is not subdivided is decided by the static rules of nodes.
    fn by_rules(&self, target: &Target<'_>) -> Result<(), Refusal> {
        if rules_allow(target, &self.rules) { Ok(()) } else { Err(String::new()) }
    }

    fn read(&self, node: &str, kind: Referenced, target: &Target<'_>) -> Result<(), Refusal> {
        let Target::Resource { verb, subresource, namespace, .. } = *target else {
            return Err(String::new());
        };
        one_of(verb, &["get", "list", "watch"], "can only read resources of this type")?;
        require(subresource.is_empty(), "cannot read subresource")?;
        require(!namespace.is_empty(), "can only read namespaced object of this type")?;
        self.related(node, kind, target)
    }

    fn get(&self, node: &str, kind: Referenced, target: &Target<'_>) -> Result<(), Refusal> {
        let Target::Resource { verb, subresource, .. } = *target else { return Err(String::new()) };
        one_of(verb, &["get"], "can only get individual resources of this type")?;
        require(subresource.is_empty(), "cannot get subresource")?;
        self.related(node, kind, target)
    }

    fn related(&self, node: &str, kind: Referenced, target: &Target<'_>) -> Result<(), Refusal> {
        let Target::Resource { namespace, .. } = *target else { return Err(String::new()) };
        let name = single_name(target);
        require(!name.is_empty(), "No Object name found")?;
        if self.objects.is_referenced(node, kind, namespace, name) {
            return Ok(());
        }
        Err(format!("no relationship found between node '{node}' and this object"))
    }

    fn service_account(&self, node: &str, target: &Target<'_>) -> Result<(), Refusal> {
        let Target::Resource { verb, subresource, name, .. } = *target else { return Err(String::new()) };
        if verb == "get" && subresource.is_empty() {
            return self.read(node, Referenced::ServiceAccount, target);
        }
        require(
            verb == "create" && !name.is_empty(),
            "can only create tokens for individual service accounts",
        )?;
        require(subresource == "token", "can only create token subresource of serviceaccount")?;
        self.related(node, Referenced::ServiceAccount, target)
    }

    fn node(&self, node: &str, target: &Target<'_>) -> Result<(), Refusal> {
        let Target::Resource { verb, .. } = *target else { return Err(String::new()) };
        let name = single_name(target);
        match verb {
            // Which node is created, and which of its fields, is for admission to judge.
            "create" => self.by_rules(target),
            _ if name == node => self.by_rules(target),
            "get" | "list" | "watch" => {
                Err(format!("node '{node}' cannot read '{name}', only its own Node object"))
            }
            _ => Err(format!("node '{node}' cannot {verb} '{name}', only its own Node object")),
        }
    }

    fn pod(&self, node: &str, target: &Target<'_>) -> Result<(), Refusal> {
        let Target::Resource { verb, namespace, subresource, name, field_selector, .. } = *target else {
            return Err(String::new());
        };
        match (verb, subresource) {
            ("list" | "watch", "") if name.is_empty() => {
                let own = field_selector.split(',').any(|term| {
                    let value = term.strip_prefix("spec.nodeName=").map(|v| v.trim_start_matches('='));
                    value == Some(node)
                });
                require(own, "can only list/watch pods with spec.nodeName field selector")
            }
            ("get" | "list" | "watch" | "delete" | "patch" | "update", _) => {
                let bound = self.objects.is_bound(node, namespace, single_name(target));
                require(bound, &format!("no relationship found between node '{node}' and this object"))?;
                self.by_rules(target)
            }
            // Creation (mirror pods, evictions) is for admission to judge.
            _ => self.by_rules(target),
        }
    }
}

fn own_lease(node: &str, target: &Target<'_>) -> Result<(), Refusal> {
    let Target::Resource { verb, namespace, name, .. } = *target else { return Err(String::new()) };
    let verbs = ["get", "create", "update", "patch", "delete"];
    one_of(verb, &verbs, "can only get, create, update, patch, or delete a node lease")?;
    require(namespace == LEASES, &format!("can only access leases in the {LEASES:?} system namespace"))?;
    let text = "can only access node lease with the same name as the requesting node";
    require(verb == "create" || name == node, text)
}

fn own_csi_node(node: &str, target: &Target<'_>) -> Result<(), Refusal> {
    let Target::Resource { verb, subresource, name, .. } = *target else { return Err(String::new()) };
    let verbs = ["get", "create", "update", "patch", "delete"];
    require(subresource.is_empty(), "cannot authorize CSINode subresources")?;
    one_of(verb, &verbs, "can only get, create, update, patch, or delete a CSINode")?;
    require(
        verb == "create" || name == node,
        "can only access CSINode with the same name as the requesting node",
    )
}

fn own_resource_slice(node: &str, target: &Target<'_>) -> Result<(), Refusal> {
    let Target::Resource { verb, subresource, field_selector, .. } = *target else {
        return Err(String::new());
    };
    require(subresource.is_empty(), "cannot authorize ResourceSlice subresources")?;
    match verb {
        "get" | "create" | "update" | "patch" | "delete" => Ok(()),
        "list" | "watch" | "deletecollection" => {
            let own = field_selector.split(',').any(|term| term == format!("spec.nodeName={node}"));
            require(own, "can only list/watch/deletecollection resourceslices with nodeName field selector")
        }
        _ => Err("only the following verbs are allowed for a ResourceSlice: get, watch, list, create, update, patch, delete, deletecollection".to_owned()),
    }
}

fn own_certificate_request(node: &str, target: &Target<'_>) -> Result<(), Refusal> {
    let Target::Resource { verb, subresource, field_selector, .. } = *target else {
        return Err(String::new());
    };
    require(subresource.is_empty(), "nodes may not access the status subresource of PodCertificateRequests")?;
    match verb {
        "create" | "get" => Ok(()),
        "list" | "watch" => {
            let own = field_selector.split(',').any(|term| term == format!("spec.nodeName={node}"));
            require(own, "can only list/watch podcertificaterequests with nodeName field selector")
        }
        _ => Err(format!("nodes may not {verb} PodCertificateRequests")),
    }
}

/// The one object a request is about: its name, or `metadata.name=` of a list's field selector.
fn single_name<'a>(target: &Target<'a>) -> &'a str {
    let Target::Resource { name, field_selector, .. } = *target else { return "" };
    if !name.is_empty() {
        return name;
    }
    let term = field_selector.split(',').find_map(|term| term.strip_prefix("metadata.name="));
    term.map_or("", |value| value.trim_start_matches('='))
}

fn one_of(verb: &str, verbs: &[&str], otherwise: &str) -> Result<(), Refusal> {
    require(verbs.contains(&verb), otherwise)
}

fn require(condition: bool, otherwise: &str) -> Result<(), Refusal> {
    if condition { Ok(()) } else { Err(otherwise.to_owned()) }
}

impl Authorizer for NodeAuthorizer {
    fn authorize(&self, attributes: &Attributes<'_>) -> Decision {
        let Some(node) = node_name(attributes.user) else {
            return Decision::NoOpinion { reason: String::new() };
        };
        match self.decide(node, attributes.target) {
            Ok(()) => Decision::Allow { reason: String::new() },
            Err(reason) => Decision::NoOpinion { reason },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The pod ns/web is bound to the node n1 and refers to the secret ns/key.
    struct Cluster;

    impl NodeObjects for Cluster {
        fn is_referenced(&self, node: &str, kind: Referenced, namespace: &str, name: &str) -> bool {
            (node, kind, namespace, name) == ("n1", Referenced::Secret, "ns", "key")
        }
        fn is_bound(&self, node: &str, namespace: &str, pod: &str) -> bool {
            (node, namespace, pod) == ("n1", "ns", "web")
        }
    }

    fn check(
        verb: &str,
        group: &str,
        resource: &str,
        namespace: &str,
        name: &str,
        field_selector: &str,
        expected: Result<(), &str>,
    ) {
        let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        let target = Target::Resource {
            verb,
            group,
            version: "v1",
            resource,
            subresource,
            namespace,
            name,
            field_selector,
            label_selector: "",
        };
        let authorizer = NodeAuthorizer::new(Arc::new(Cluster));
        let user = User::new("system:node:n1", [NODES]);
        let decision = authorizer.authorize(&Attributes { user: &user, target: &target });
        let expected = match expected {
            Ok(()) => Decision::Allow { reason: String::new() },
            Err(reason) => Decision::NoOpinion { reason: reason.to_owned() },
        };
        assert_eq!(decision, expected, "{target:?}");
    }

    #[test]
    fn a_node_reads_only_what_its_pods_refer_to() {
        check("get", "", "secrets", "ns", "key", "", Ok(()));
        check("watch", "", "secrets", "ns", "", "metadata.name=key", Ok(()));
        check(
            "get",
            "",
            "secrets",
            "ns",
            "other",
            "",
            Err("no relationship found between node 'n1' and this object"),
        );
        check("list", "", "secrets", "ns", "", "", Err("No Object name found"));
        check("list", "", "secrets", "", "key", "", Err("can only read namespaced object of this type"));
        check("create", "", "secrets", "ns", "key", "", Err("can only read resources of this type"));
    }

    #[test]
    fn a_node_sees_its_own_pods_lease_and_node() {
        check("watch", "", "pods", "", "", "spec.nodeName=n1", Ok(()));
        check(
            "watch",
            "",
            "pods",
            "",
            "",
            "spec.nodeName=n2",
            Err("can only list/watch pods with spec.nodeName field selector"),
        );
        check("patch", "", "pods/status", "ns", "web", "", Ok(()));
        check(
            "patch",
            "",
            "pods/status",
            "ns",
            "db",
            "",
            Err("no relationship found between node 'n1' and this object"),
        );
        check("update", "coordination.k8s.io", "leases", "kube-node-lease", "n1", "", Ok(()));
        check(
            "update",
            "coordination.k8s.io",
            "leases",
            "kube-node-lease",
            "n2",
            "",
            Err("can only access node lease with the same name as the requesting node"),
        );
        check("create", "", "nodes", "", "", "", Ok(()));
        check("patch", "", "nodes/status", "", "n1", "", Ok(()));
        check(
            "patch",
            "",
            "nodes/status",
            "",
            "n2",
            "",
            Err("node 'n1' cannot patch 'n2', only its own Node object"),
        );
    }

    #[test]
    fn somebody_who_is_not_in_the_group_of_nodes_is_not_a_node() {
        assert_eq!(node_name(&User::new("system:node:n1", ["system:authenticated"])), None);
        assert_eq!(node_name(&User::new("n1", [NODES])), None);
        assert_eq!(node_name(&User::new("system:node:n1", [NODES])), Some("n1"));
    }
}
