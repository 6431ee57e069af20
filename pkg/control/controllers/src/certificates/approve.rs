//! Approval: the requests that need no person, and those of which nobody should be asked.

use edgek_base_pki::SigningRequest;
use edgek_client::Error;
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use k8s_openapi::api::core::v1::Node;
use serde_json::Value;

use super::node_key::Claim;
use super::sign::{self, NODE_CLIENT, NODE_SERVING};
use super::{Controller, Request, condition};

/// Names that no node may have: nodes recognise API servers by them.
const SERVERS: [&str; 5] =
    ["localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "edgek"];

/// What becomes of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    Approved(&'static str),
    Denied(&'static str, String),
}

impl Verdict {
    pub(super) fn condition(&self) -> Value {
        match self {
            Self::Approved(message) => condition("Approved", "AutoApproved", message),
            Self::Denied(reason, message) => condition("Denied", reason, message),
        }
    }
}

/// Judges a request; `None` leaves it to people.
pub(super) async fn judge(
    controller: &Controller,
    request: &Request,
    read: &SigningRequest,
) -> Result<Option<Verdict>, Error> {
    let signer = request.spec.signer_name.as_str();
    if ![NODE_CLIENT, NODE_SERVING].contains(&signer) || sign::check(request, read).is_err() {
        return Ok(None);
    }
    let node = read.user.strip_prefix("system:node:").unwrap_or_default();
    if SERVERS.contains(&node) || node.starts_with("kubernetes.default.svc.") {
        let text = format!("no node can have the name {node:?}, which is one of API servers");
        return Ok(Some(Verdict::Denied("NodeNameReserved", text)));
    }
    let own = request.spec.username == read.user;
    if signer == NODE_SERVING {
        let fits = own && serves_itself(&controller.nodes.list(""), node, read);
        return Ok(fits.then_some(Verdict::Approved("The node certifies its own API.")));
    }
    let permission = if own { "selfnodeclient" } else { "nodeclient" };
    if !allowed(controller, request, permission).await? {
        return Ok(None);
    }
    let verdict = match controller.keys.claim(node, &read.key_hash(), own).await? {
        Claim::Granted => {
            Verdict::Approved("Auto approving kubelet client certificate after SubjectAccessReview.")
        }
        Claim::Taken => {
            Verdict::Denied("NodeNameTaken", format!("another machine has joined as node {node:?}"))
        }
    };
    Ok(Some(verdict))
}

/// Whether every name is the node's own: its name, or an address that it has and no other node.
fn serves_itself(nodes: &[Node], node: &str, read: &SigningRequest) -> bool {
    let has = |candidate: &Node, address: &str| {
        let status = candidate.status.as_ref();
        let addresses = status.and_then(|status| status.addresses.as_deref()).unwrap_or_default();
        addresses.iter().any(|known| known.address == address)
    };
    let is_own = |candidate: &Node| candidate.metadata.name.as_deref() == Some(node);
    let only_its_own = |address: &str| {
        nodes.iter().any(is_own) && nodes.iter().all(|candidate| has(candidate, address) == is_own(candidate))
    };
    read.dns_names.iter().all(|name| name == node)
        && read.addresses.iter().all(|address| only_its_own(&address.to_string()))
}

/// Whether RBAC lets the requester have such a certificate.
async fn allowed(controller: &Controller, request: &Request, permission: &str) -> Result<bool, Error> {
    let spec = &request.spec;
    let review = SubjectAccessReview {
        spec: SubjectAccessReviewSpec {
            user: Some(spec.username.clone()),
            uid: Some(spec.uid.clone()),
            groups: Some(spec.groups.clone()),
            extra: Some(spec.extra.clone()),
            resource_attributes: Some(ResourceAttributes {
                group: Some("certificates.k8s.io".to_owned()),
                resource: Some("certificatesigningrequests".to_owned()),
                verb: Some("create".to_owned()),
                subresource: Some(permission.to_owned()),
                version: Some("*".to_owned()),
                ..ResourceAttributes::default()
            }),
            ..SubjectAccessReviewSpec::default()
        },
        ..SubjectAccessReview::default()
    };
    let answer = controller.client.cluster::<SubjectAccessReview>().create(&review).await?;
    Ok(answer.status.is_some_and(|status| status.allowed))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_node_serves_under_its_own_name_and_addresses_only() {
        let node = |name: &str, addresses: &[&str]| -> Node {
            let addresses: Vec<_> =
                addresses.iter().map(|it| json!({"type": "InternalIP", "address": it})).collect();
            serde_json::from_value(json!({"metadata": {"name": name}, "status": {"addresses": addresses}}))
                .unwrap()
        };
        let nodes = [node("server", &["192.0.2.10"]), node("a", &["192.0.2.11", "192.0.2.10"])];
        let folder = tempfile::tempdir().unwrap();
        let key = edgek_base_pki::open_key(&folder.path().join("key")).unwrap();
        let check = |names: &[&str], expected: bool| {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            let pem = edgek_base_pki::request::make(&key, "system:node:a", "system:nodes", &names).unwrap();
            let read = SigningRequest::parse(pem.as_bytes()).unwrap();
            assert_eq!(serves_itself(&nodes, "a", &read), expected, "{names:?}");
        };
        check(&["a", "192.0.2.11"], true);
        check(&["a"], true);
        check(&["server"], false);
        check(&["a", "kubernetes"], false);
        // It says that this address is its own, but so does another node.
        check(&["a", "192.0.2.10"], false);
        check(&["a", "192.0.2.99"], false);
    }
}
