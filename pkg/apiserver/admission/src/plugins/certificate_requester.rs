//! `CertificateRequester`: a certificate signing request says who made it; nobody can claim to be someone else.

use async_trait::async_trait;
use serde_json::{Value, json};

use crate::fields::Fields;
use crate::{Error, Operation, Phases, Plugin, Request};

/// The plugin.
pub struct CertificateRequester;

#[async_trait]
impl Plugin for CertificateRequester {
    fn phases(&self, request: &Request<'_>) -> Phases {
        let create = request.operation == Operation::Create;
        if create && request.is("certificates.k8s.io", "certificatesigningrequests") {
            Phases::Mutate
        } else {
            Phases::None
        }
    }

    async fn mutate(&self, request: &Request<'_>, object: &mut Value) -> Result<(), Error> {
        let spec = object.object_mut("spec");
        for field in ["username", "uid", "groups", "extra"] {
            spec.remove(field);
        }
        spec.set("username", request.user.name.as_str());
        if !request.user.uid.is_empty() {
            spec.set("uid", request.user.uid.as_str());
        }
        if !request.user.groups.is_empty() {
            spec.set("groups", json!(request.user.groups));
        }
        if !request.user.extra.is_empty() {
            spec.set("extra", json!(request.user.extra));
        }
        Ok(())
    }
}
