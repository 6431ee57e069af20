//! `Peer`: whom a client certificate names. The kubelet API asks, once TLS has verified the certificate.

use rustls_pki_types::CertificateDer;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// Whom a client certificate names: the common name is the user, the organizations are its groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// The user.
    pub user: String,
    /// Its groups.
    pub groups: Vec<String>,
}

impl Peer {
    /// The peer of a certificate that was verified before; `None` when it names nobody.
    pub fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
        let subject = certificate.subject();
        let user = subject.iter_common_name().next()?.as_str().ok()?.to_owned();
        let groups = subject.iter_organization().filter_map(|name| name.as_str().ok());
        let groups = groups.map(str::to_owned).collect();
        (!user.is_empty()).then_some(Self { user, groups })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Authority, Subject, authority::LEAF_LIFETIME};
    use rustls_pki_types::pem::PemObject as _;

    #[test]
    fn a_certificate_names_its_user_and_group() {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::open(folder.path(), "client-ca").unwrap();
        let subject = Subject::Client { user: "system:admin", group: Some("system:masters") };
        let issued = authority.issue(&subject, LEAF_LIFETIME).unwrap();
        let der = CertificateDer::from_pem_slice(issued.certificate.as_bytes()).unwrap();
        let expected = Peer { user: "system:admin".into(), groups: vec!["system:masters".into()] };
        assert_eq!(Peer::of(&der), Some(expected));
    }
}
