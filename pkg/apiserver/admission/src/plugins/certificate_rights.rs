//! `CertificateRights`: who approves and who signs certificate requests, and what no request may ask for (upstream:
//! `CertificateApproval`, `CertificateSigning`, `CertificateSubjectRestriction`).

use std::sync::Arc;

use async_trait::async_trait;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use edgek_apiserver_authn::{PRIVILEGED_GROUP, SERVERS};
use edgek_apiserver_authz::{Attributes, Authorizer, Decision, Target};
use edgek_base_pki::SigningRequest;
use serde_json::Value;

use crate::fields::{Fields, same};
use crate::{Error, Operation, Phases, Plugin, Request};

const GROUP: &str = "certificates.k8s.io";
const CLIENT_SIGNER: &str = "kubernetes.io/kube-apiserver-client";

/// The plugin.
pub struct CertificateRights {
    authorizer: Arc<dyn Authorizer>,
}

impl CertificateRights {
    /// The plugin, asking `authorizer` for the rights of users.
    pub fn new(authorizer: Arc<dyn Authorizer>) -> Self {
        Self { authorizer }
    }

    /// Whether the user may do this for a signer, by its name or for all of its domain.
    fn may(&self, request: &Request<'_>, verb: &str, signer: &str) -> bool {
        let domain = signer.split_once('/').map_or(String::new(), |(domain, _)| format!("{domain}/*"));
        [signer, &domain].into_iter().any(|name| {
            let target = Target::Resource {
                verb,
                group: GROUP,
                version: "*",
                resource: "signers",
                subresource: "",
                namespace: "",
                name,
                field_selector: "",
                label_selector: "",
            };
            let attributes = Attributes { user: request.user, target: &target };
            matches!(self.authorizer.authorize(&attributes), Decision::Allow { .. })
        })
    }
}

#[async_trait]
impl Plugin for CertificateRights {
    fn phases(&self, request: &Request<'_>) -> Phases {
        let judged = matches!(
            (request.operation, request.subresource),
            (Operation::Create, "") | (Operation::Update, "approval" | "status")
        );
        let of_requests = request.group == GROUP && request.resource == "certificatesigningrequests";
        if judged && of_requests { Phases::Validate } else { Phases::None }
    }

    async fn validate(&self, request: &Request<'_>, object: &Value) -> Result<(), Error> {
        // Whoever writes cannot choose another signer by the way.
        let signer = request.old.unwrap_or(object).text("spec.signerName");
        let verb = match request.subresource {
            "" => return restrict(object),
            "approval" => "approve",
            _ => "sign",
        };
        let unchanged = |field: &str| request.old.is_some_and(|old| same(old.at(field), object.at(field)));
        if verb == "sign" && unchanged("status.certificate") && unchanged("status.conditions") {
            return Ok(());
        }
        if self.may(request, verb, signer) {
            return Ok(());
        }
        Err(Error::forbidden(format!("user not permitted to {verb} requests with signerName {signer:?}")))
    }
}

/// Nobody becomes everybody by a certificate.
fn restrict(object: &Value) -> Result<(), Error> {
    if object.text("spec.signerName") != CLIENT_SIGNER {
        return Ok(());
    }
    let pem = STANDARD.decode(object.text("spec.request")).unwrap_or_default();
    let read = SigningRequest::parse(&pem)
        .map_err(|error| Error::forbidden(format!("failed to parse CSR: {error}")))?;
    for group in [PRIVILEGED_GROUP, SERVERS] {
        if read.groups.iter().any(|asked| asked == group) {
            let text = format!("use of {CLIENT_SIGNER} signer with {group} group is not allowed");
            return Err(Error::forbidden(text));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DryRun;
    use edgek_apiserver_authn::User;
    use serde_json::json;

    /// Lets `approver` approve for one signer and `all` sign for its domain.
    struct Rights;

    impl Authorizer for Rights {
        fn authorize(&self, attributes: &Attributes<'_>) -> Decision {
            let Target::Resource { verb, resource: "signers", name, .. } = *attributes.target else {
                return Decision::NoOpinion { reason: String::new() };
            };
            match (attributes.user.name.as_str(), verb, name) {
                ("approver", "approve", "example.com/a") | ("all", "sign", "example.com/*") => {
                    Decision::Allow { reason: String::new() }
                }
                _ => Decision::NoOpinion { reason: String::new() },
            }
        }
    }

    async fn write(user: &str, subresource: &str, object: &Value, old: Option<&Value>) -> Result<(), String> {
        let user = User::new(user, Vec::<String>::new());
        let request = Request {
            operation: if old.is_some() { Operation::Update } else { Operation::Create },
            group: GROUP,
            version: "v1",
            kind: "CertificateSigningRequest",
            resource: "certificatesigningrequests",
            subresource,
            namespace: "",
            name: "x",
            user: &user,
            dry_run: DryRun::No,
            old,
        };
        let plugin = CertificateRights::new(Arc::new(Rights));
        assert_eq!(plugin.phases(&request), Phases::Validate);
        plugin.validate(&request, object).await.map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn approving_and_signing_are_rights_for_each_signer() {
        let of = |signer: &str, status: Value| json!({"spec": {"signerName": signer}, "status": status});
        let old = of("example.com/a", json!({}));
        let approved = of("example.com/a", json!({"conditions": [{"type": "Approved"}]}));
        let no = |verb: &str| {
            Err(format!("user not permitted to {verb} requests with signerName \"example.com/a\""))
        };
        assert_eq!(write("approver", "approval", &approved, Some(&old)).await, Ok(()));
        assert_eq!(write("all", "approval", &approved, Some(&old)).await, no("approve"));
        // Naming another signer does not help.
        let elsewhere = of("other.com/a", json!({}));
        assert!(
            write("approver", "approval", &of("example.com/a", json!({})), Some(&elsewhere)).await.is_err()
        );
        let signed = of("example.com/a", json!({"certificate": "x"}));
        assert_eq!(write("all", "status", &signed, Some(&old)).await, Ok(()));
        assert_eq!(write("approver", "status", &signed, Some(&old)).await, no("sign"));
        assert_eq!(write("approver", "status", &old, Some(&old)).await, Ok(()));
    }

    #[tokio::test]
    async fn no_certificate_makes_an_administrator() {
        let key = tempfile::tempdir().unwrap();
        let key = edgek_base_pki::open_key(&key.path().join("key")).unwrap();
        let ask = |group: &str| {
            let pem = edgek_base_pki::request::make(&key, "jane", group, &[]).unwrap();
            json!({"spec": {"signerName": CLIENT_SIGNER, "request": STANDARD.encode(pem)}})
        };
        assert_eq!(write("jane", "", &ask("team"), None).await, Ok(()));
        let text =
            "use of kubernetes.io/kube-apiserver-client signer with system:masters group is not allowed";
        assert_eq!(write("jane", "", &ask("system:masters"), None).await, Err(text.to_owned()));
        let nonsense = json!({"spec": {"signerName": CLIENT_SIGNER, "request": "eA=="}});
        assert!(write("jane", "", &nonsense, None).await.unwrap_err().starts_with("failed to parse CSR"));
    }
}
