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
