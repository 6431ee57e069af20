//! `NodeRestriction`: a kubelet changes its own node, its own lease and its own pods, and nothing in them that would
//! draw work or rights to it. The messages are upstream's.
//!
//! Other than upstream, the kubelet beside an API server may set the label that marks its node as part of the control
//! plane: it registers with it. Claims and tokens are left to the node authorizer.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use edgek_apiserver_authn::SERVERS;
use edgek_apiserver_authz::{NODES, node_name};
use serde_json::Value;

use crate::fields::{Fields, same};
use crate::{Error, Lookup, Operation, Phases, Plugin, Request};

/// The annotation that marks the API's image of a static pod.
const MIRROR: &str = "kubernetes.io/config.mirror";
/// The namespace of the leases by which nodes show that they live.
const LEASES: &str = "kube-node-lease";
/// The label that edgek's kubelet registers with.
const CONTROL_PLANE: &str = "node-role.kubernetes.io/control-plane";

/// The labels of Kubernetes' own that kubelets set.
const KUBELET_LABELS: [&str; 11] = [
    "kubernetes.io/hostname",
    "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region",
    "beta.kubernetes.io/instance-type",
    "node.kubernetes.io/instance-type",
    "kubernetes.io/os",
    "kubernetes.io/arch",
    "beta.kubernetes.io/os",
    "beta.kubernetes.io/arch",
];

/// The plugin.
pub struct NodeRestriction {
    objects: Arc<dyn Lookup>,
}

impl NodeRestriction {
    /// The plugin, looking nodes up in `objects`.
    pub fn new(objects: Arc<dyn Lookup>) -> Self {
        Self { objects }
    }

    fn judge(&self, request: &Request<'_>, object: &Value) -> Result<(), Error> {
        let Some(node) = node_name(request.user) else {
            let user = &request.user.name;
            return Err(Error::forbidden(format!("could not determine node from user {user:?}")));
        };
        match request.resource {
            "pods" => self.pod(node, request, object),
            "nodes" => own_node(node, request, object),
            "leases" => lease(node, request),
            _ => allow(request.name == node, || {
                "can only access CSINode with the same name as the requesting node".to_owned()
            }),
        }
    }

    fn pod(&self, node: &str, request: &Request<'_>, pod: &Value) -> Result<(), Error> {
        match (request.subresource, request.operation) {
            ("", Operation::Create) => self.mirror_pod(node, pod),
            ("", Operation::Delete) => {
                allow(request.old.is_some_and(|old| old.text("spec.nodeName") == node), || {
                    format!("node {node:?} can only delete pods with spec.nodeName set to itself")
                })
            }
            ("", operation) => Err(Error::forbidden(format!(
                "unexpected operation {:?}, node {node:?} can only create and delete mirror pods",
                format!("{operation:?}").to_uppercase()
            ))),
            ("status", Operation::Update) => pod_status(node, request, pod),
            ("status", operation) => Err(Error::forbidden(format!(
                "unexpected operation {:?}",
                format!("{operation:?}").to_uppercase()
            ))),
            ("eviction", _) => Ok(()),
            (other, _) => Err(Error::forbidden(format!(
                "unexpected pod subresource {other:?}, only 'status' and 'eviction' are allowed"
            ))),
        }
    }

    fn mirror_pod(&self, node: &str, pod: &Value) -> Result<(), Error> {
        allow(pod.at("metadata.annotations").get(MIRROR).is_some(), || {
            format!("pod does not have {MIRROR:?} annotation, node {node:?} can only create mirror pods")
        })?;
        allow(pod.text("spec.nodeName") == node, || {
            format!("node {node:?} can only create pods with spec.nodeName set to itself")
        })?;
        let [owner] = pod.items("metadata.ownerReferences") else {
            let several = !pod.items("metadata.ownerReferences").is_empty();
            let what = if several { "a single owner reference" } else { "an owner reference" };
            return Err(Error::forbidden(format!(
                "node {node:?} can only create pods with {what} set to itself"
            )));
        };
        let kind = (owner.text("apiVersion"), owner.text("kind"), owner.text("name"));
        allow(kind == ("v1", "Node", node), || {
            format!("node {node:?} can only create pods with an owner reference set to itself")
        })?;
        allow(owner.flag("controller"), || {
            format!("node {node:?} can only create pods with a controller owner reference set to itself")
        })?;
        allow(!owner.flag("blockOwnerDeletion"), || {
            format!("node {node:?} must not set blockOwnerDeletion on an owner reference")
        })?;
        let own = self.objects.get("", "nodes", "", node);
        let own = own.ok_or_else(|| Error::NotFound { resource: "nodes", name: node.into() })?;
        let (said, uid) = (owner.text("uid"), own.text("metadata.uid"));
        allow(said == uid, || format!("node {node} UID mismatch: expected {said} got {uid}"))
    }
}

fn pod_status(node: &str, request: &Request<'_>, pod: &Value) -> Result<(), Error> {
    let Some(old) = request.old else { return Ok(()) };
    allow(old.text("spec.nodeName") == node, || {
        format!("node {node:?} can only update pod status for pods with spec.nodeName set to itself")
    })?;
    allow(same(old.at("metadata.labels"), pod.at("metadata.labels")), || {
        format!("node {node:?} cannot update labels through pod status")
    })?;
    let claims = "status.resourceClaimStatuses";
    allow(same(old.at(claims), pod.at(claims)), || {
        format!("node {node:?} cannot update resource claim statues")
    })
}

fn own_node(node: &str, request: &Request<'_>, object: &Value) -> Result<(), Error> {
    allow(request.name == node, || {
        format!("node {node:?} is not allowed to modify node {:?}", request.name)
    })?;
    match (request.operation, request.old) {
        (Operation::Create, _) => {
            let forbidden = forbidden_labels(request, object, &Value::Null);
            allow(forbidden.is_empty(), || {
                format!("node {node:?} is not allowed to set the following labels: {forbidden}")
            })
        }
        (Operation::Update, Some(old)) => {
            allow(same(old.at("spec.taints"), object.at("spec.taints")), || {
                format!("node {node:?} is not allowed to modify taints")
            })?;
            let owners = "metadata.ownerReferences";
            allow(same(old.at(owners), object.at(owners)), || {
                format!("node {node:?} is not allowed to modify ownerReferences")
            })?;
            let forbidden = forbidden_labels(request, object, old);
            allow(forbidden.is_empty(), || format!("is not allowed to modify labels: {forbidden}"))
        }
        _ => Ok(()),
    }
}

fn lease(node: &str, request: &Request<'_>) -> Result<(), Error> {
    allow(request.namespace == LEASES, || {
        format!("can only access leases in the {LEASES:?} system namespace")
    })?;
    allow(request.name == node, || {
        "can only access node lease with the same name as the requesting node".to_owned()
    })
}

fn allow(allowed: bool, otherwise: impl FnOnce() -> String) -> Result<(), Error> {
    if allowed { Ok(()) } else { Err(Error::forbidden(otherwise())) }
}

/// The labels by which an object differs from the old one and that kubelets must leave alone, separated by commas.
fn forbidden_labels(request: &Request<'_>, new: &Value, old: &Value) -> String {
    let labels = |object: &'_ Value| object.at("metadata.labels").clone();
    let (new, old) = (labels(new), labels(old));
    let keys =
        |labels: &Value| labels.as_object().into_iter().flatten().map(|(key, _)| key.clone()).collect();
    let (mut changed, before): (BTreeSet<String>, BTreeSet<String>) = (keys(&new), keys(&old));
    changed.extend(before);
    let beside_server = request.user.is_in(SERVERS);
    changed.retain(|key| {
        new.get(key) != old.get(key) && is_forbidden(key) && !(beside_server && key == CONTROL_PLANE)
    });
    changed.into_iter().collect::<Vec<_>>().join(", ")
}

fn is_forbidden(label: &str) -> bool {
    let domain = label.split_once('/').map_or("", |(domain, _)| domain);
    let within =
        |parent: &str| domain.strip_suffix(parent).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
    let of_kubelet =
        KUBELET_LABELS.contains(&label) || within("kubelet.kubernetes.io") || within("node.kubernetes.io");
    within("node-restriction.kubernetes.io") || (within("kubernetes.io") || within("k8s.io")) && !of_kubelet
}

#[async_trait]
impl Plugin for NodeRestriction {
    fn phases(&self, request: &Request<'_>) -> Phases {
        let restricted = matches!(
            (request.group, request.resource),
            ("", "pods" | "nodes") | ("coordination.k8s.io", "leases") | ("storage.k8s.io", "csinodes")
        );
        if restricted && request.user.is_in(NODES) { Phases::Validate } else { Phases::None }
    }

    async fn validate(&self, request: &Request<'_>, object: &Value) -> Result<(), Error> {
        self.judge(request, object)
    }
}

#[cfg(test)]
mod tests {
    use edgek_apiserver_authn::User;
    use serde_json::json;

    use super::*;
    use crate::DryRun;

    struct Objects;

    impl Lookup for Objects {
        fn get(&self, _: &str, resource: &str, _: &str, name: &str) -> Option<Value> {
            match (resource, name) {
                ("nodes", "n1") => Some(json!({"metadata": {"name": "n1", "uid": "u1"}})),
                _ => None,
            }
        }

        fn list(&self, _: &str, _: &str, _: &str) -> Vec<Value> {
            Vec::new()
        }
    }

    fn check(
        operation: Operation,
        (group, resource, subresource): (&str, &str, &str),
        name: &str,
        (object, old): (Value, Option<Value>),
        expected: Result<(), &str>,
    ) {
        let user = User::new("system:node:n1", [NODES]);
        let request = Request {
            operation,
            group,
            version: "v1",
            kind: "",
            resource,
            subresource,
            namespace: "kube-node-lease",
            name,
            user: &user,
            dry_run: DryRun::No,
            old: old.as_ref(),
        };
        let plugin = NodeRestriction::new(Arc::new(Objects));
        assert_eq!(plugin.phases(&request), Phases::Validate);
        let answer = plugin.judge(&request, &object);
        assert_eq!(answer.map_err(|error| error.to_string()), expected.map_err(ToOwned::to_owned));
    }

    const NODE: (&str, &str, &str) = ("", "nodes", "");
    const POD: (&str, &str, &str) = ("", "pods", "");

    #[test]
    fn a_kubelet_changes_its_own_node_but_not_its_taints_and_place() {
        let labelled = |key: &str| json!({"metadata": {"labels": {key: "x"}}});
        let plain = json!({});
        let created = |key: &str| (labelled(key), None);
        check(Operation::Create, NODE, "n1", created("kubernetes.io/hostname"), Ok(()));
        check(Operation::Create, NODE, "n1", created("example.com/rack"), Ok(()));
        let no =
            r#"node "n1" is not allowed to set the following labels: node-role.kubernetes.io/control-plane"#;
        check(Operation::Create, NODE, "n1", created(CONTROL_PLANE), Err(no));
        let no = r#"node "n1" is not allowed to set the following labels: node-restriction.kubernetes.io/a"#;
        check(Operation::Create, NODE, "n1", created("node-restriction.kubernetes.io/a"), Err(no));
        let no = r#"node "n1" is not allowed to modify node "n2""#;
        check(Operation::Update, NODE, "n2", (plain.clone(), Some(plain.clone())), Err(no));
        let no = "is not allowed to modify labels: kubernetes.io/team";
        check(Operation::Update, NODE, "n1", (labelled("kubernetes.io/team"), Some(plain.clone())), Err(no));
        let tainted = json!({"spec": {"taints": [{"key": "a", "effect": "NoSchedule"}]}});
        let no = r#"node "n1" is not allowed to modify taints"#;
        check(Operation::Update, NODE, "n1", (plain, Some(tainted)), Err(no));
    }

    #[test]
    fn a_kubelet_touches_its_own_pods_only() {
        let pod = |owner: Value| json!({"metadata": {"annotations": {MIRROR: "x"}, "ownerReferences": [owner]}, "spec": {"nodeName": "n1"}});
        let owner = |uid: &str| json!({"apiVersion": "v1", "kind": "Node", "name": "n1", "uid": uid, "controller": true});
        check(Operation::Create, POD, "", (pod(owner("u1")), None), Ok(()));
        let no = "node n1 UID mismatch: expected u2 got u1";
        check(Operation::Create, POD, "", (pod(owner("u2")), None), Err(no));
        let no = r#"pod does not have "kubernetes.io/config.mirror" annotation, node "n1" can only create mirror pods"#;
        check(Operation::Create, POD, "", (json!({}), None), Err(no));
        let no = r#"unexpected operation "UPDATE", node "n1" can only create and delete mirror pods"#;
        check(Operation::Update, POD, "own", (json!({}), Some(json!({}))), Err(no));
        let on = |node: &str| Some(json!({"spec": {"nodeName": node}}));
        check(Operation::Delete, POD, "own", (Value::Null, on("n1")), Ok(()));
        let no = r#"node "n1" can only delete pods with spec.nodeName set to itself"#;
        check(Operation::Delete, POD, "other", (Value::Null, on("n2")), Err(no));
        let no = r#"node "n1" can only update pod status for pods with spec.nodeName set to itself"#;
        let other = json!({"spec": {"nodeName": "n2"}});
        check(Operation::Update, ("", "pods", "status"), "p", (other.clone(), Some(other)), Err(no));
    }

    #[test]
    fn a_kubelet_renews_its_own_lease_only() {
        let lease = ("coordination.k8s.io", "leases", "");
        check(Operation::Create, lease, "n1", (json!({}), None), Ok(()));
        let no = "can only access node lease with the same name as the requesting node";
        check(Operation::Update, lease, "n2", (json!({}), Some(json!({}))), Err(no));
    }
}
