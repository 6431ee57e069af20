//! Signing: which approved requests a signer takes, and with what they are answered.

use std::time::Duration;

use edgek_base_pki::authority::LEAF_LIFETIME;
use edgek_base_pki::{Authority, Pki, SigningRequest, Usage};

use super::Request;

pub(super) const CLIENT: &str = "kubernetes.io/kube-apiserver-client";
pub(super) const NODE_CLIENT: &str = "kubernetes.io/kube-apiserver-client-kubelet";
pub(super) const NODE_SERVING: &str = "kubernetes.io/kubelet-serving";

/// How an approved request is answered.
pub(super) enum Answer {
    /// With a certificate, PEM.
    Certificate(String),
    /// Not at all, and why.
    Failed(String),
    /// By somebody else's signer.
    NotOurs,
}

/// Answers an approved request.
pub(super) fn sign(pki: &Pki, request: &Request, read: &SigningRequest) -> Answer {
    let Some(authority) = authority(pki, &request.spec.signer_name) else { return Answer::NotOurs };
    let usages = match check(request, read) {
        Ok(usages) => usages,
        Err(text) => return Answer::Failed(text),
    };
    let asked = request.spec.expiration_seconds.map_or(LEAF_LIFETIME, Duration::from_secs);
    match authority.certify(read, &usages, asked.min(LEAF_LIFETIME)) {
        Ok(certificate) => Answer::Certificate(certificate),
        Err(error) => Answer::Failed(error.to_string()),
    }
}

fn authority<'a>(pki: &'a Pki, signer: &str) -> Option<&'a Authority> {
    match signer {
        CLIENT | NODE_CLIENT => Some(&pki.client_ca),
        NODE_SERVING => Some(&pki.server_ca),
        _ => None,
    }
}

/// Whether a request is one that its signer takes, in upstream's words.
pub(super) fn check(request: &Request, read: &SigningRequest) -> Result<Vec<Usage>, String> {
    let usages = request.usages().ok_or("invalid usages")?;
    let has = |usage| usages.contains(&usage);
    let required = |usage| if has(usage) { Ok(()) } else { Err("usages did not match".to_owned()) };
    match request.spec.signer_name.as_str() {
        CLIENT => {
            required(Usage::ClientAuth)?;
            let only_client = !has(Usage::ServerAuth);
            if only_client { Ok(usages) } else { Err("invalid usages".to_owned()) }
        }
        NODE_CLIENT => {
            of_a_node(read)?;
            if !read.dns_names.is_empty() || !read.addresses.is_empty() || read.has_other_names {
                return Err("subjectAltNames are not allowed".to_owned());
            }
            required(Usage::DigitalSignature)?;
            required(Usage::ClientAuth)?;
            if has(Usage::ServerAuth) { Err("usages did not match".to_owned()) } else { Ok(usages) }
        }
        _ => {
            of_a_node(read)?;
            if read.has_other_names || (read.dns_names.is_empty() && read.addresses.is_empty()) {
                return Err("DNS or IP subjectAltName is required, and no other".to_owned());
            }
            required(Usage::DigitalSignature)?;
            required(Usage::ServerAuth)?;
            if has(Usage::ClientAuth) { Err("usages did not match".to_owned()) } else { Ok(usages) }
        }
    }
}

fn of_a_node(read: &SigningRequest) -> Result<(), String> {
    if read.groups != ["system:nodes"] {
        return Err("subject organization is not system:nodes".to_owned());
    }
    match read.user.strip_prefix("system:node:") {
        Some(name) if !name.is_empty() => Ok(()),
        _ => Err("subject common name does not begin with system:node:".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    use edgek_base_pki::authority::not_after;
    use edgek_base_pki::clock;
    use serde_json::json;

    /// What becomes of a request of this signer for a user in a group, with usages and names.
    fn judge(
        signer: &str,
        user: &str,
        group: &str,
        usages: &[&str],
        names: &[&str],
    ) -> Result<usize, String> {
        let folder = tempfile::tempdir().unwrap();
        let key = edgek_base_pki::open_key(&folder.path().join("key")).unwrap();
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let pem = edgek_base_pki::request::make(&key, user, group, &names).unwrap();
        let request: Request = serde_json::from_value(json!({
            "metadata": {"uid": "u", "creationTimestamp": "2026-11-21T00:00:00Z"},
            "spec": {"request": STANDARD.encode(&pem), "signerName": signer, "usages": usages},
        }))
        .unwrap();
        check(&request, &SigningRequest::parse(pem.as_bytes()).unwrap()).map(|usages| usages.len())
    }

    #[test]
    fn a_certificate_is_of_its_signers_ca_and_lasts_no_longer_than_our_own() {
        let folder = tempfile::tempdir().unwrap();
        let pki = Pki::open(folder.path()).unwrap();
        for (signer, ca) in
            [(CLIENT, &pki.client_ca), (NODE_CLIENT, &pki.client_ca), (NODE_SERVING, &pki.server_ca)]
        {
            assert_eq!(authority(&pki, signer).unwrap().pem(), ca.pem(), "{signer}");
        }
        let key = edgek_base_pki::open_key(&folder.path().join("key")).unwrap();
        let pem = edgek_base_pki::request::make(&key, "jane", "team", &[]).unwrap();
        let days_of = |seconds: Option<u64>| {
            let request: Request = serde_json::from_value(json!({
                "metadata": {"uid": "u", "creationTimestamp": "2026-11-21T00:00:00Z"},
                "spec": {"request": STANDARD.encode(&pem), "signerName": CLIENT, "usages": ["client auth"],
                         "expirationSeconds": seconds},
            }))
            .unwrap();
            let read = SigningRequest::parse(pem.as_bytes()).unwrap();
            let Answer::Certificate(certificate) = sign(&pki, &request, &read) else {
                panic!("no certificate")
            };
            let lasts = not_after(&certificate).unwrap().duration_since(clock::now()).unwrap();
            // It began a moment ago.
            (lasts.as_secs() + 3600) / 86_400
        };
        assert_eq!([days_of(None), days_of(Some(864_000)), days_of(Some(10 * 31_536_000))], [365, 10, 365]);
    }

    #[test]
    fn each_signer_takes_the_requests_that_upstream_names() {
        const NODE: &str = "system:node:a";
        const NODES: &str = "system:nodes";
        let (client, server) = (["digital signature", "client auth"], ["digital signature", "server auth"]);
        let refused = |judged: Result<usize, String>, text: &str| {
            assert!(judged.as_ref().is_err_and(|error| error.contains(text)), "{judged:?}, not {text}");
        };
        assert_eq!(judge(NODE_CLIENT, NODE, NODES, &client, &[]), Ok(2));
        refused(judge(NODE_CLIENT, "jane", NODES, &client, &[]), "common name");
        refused(judge(NODE_CLIENT, "system:node:", NODES, &client, &[]), "common name");
        refused(judge(NODE_CLIENT, NODE, "system:masters", &client, &[]), "organization");
        refused(judge(NODE_CLIENT, NODE, NODES, &client, &["a"]), "subjectAltNames are not allowed");
        refused(judge(NODE_CLIENT, NODE, NODES, &server, &[]), "usages did not match");
        assert_eq!(judge(NODE_SERVING, NODE, NODES, &server, &["a", "192.0.2.1"]), Ok(2));
        refused(judge(NODE_SERVING, NODE, NODES, &server, &[]), "subjectAltName is required");
        refused(judge(NODE_SERVING, NODE, NODES, &client, &["a"]), "usages did not match");
        assert_eq!(judge(CLIENT, "jane", "team", &["client auth"], &["a"]), Ok(1));
        refused(judge(CLIENT, "jane", "team", &["server auth"], &[]), "usages did not match");
        refused(judge(CLIENT, "jane", "team", &["client auth", "cert sign"], &[]), "invalid usages");
    }
}
