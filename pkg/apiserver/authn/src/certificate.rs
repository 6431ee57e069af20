//! Client certificates: the common name is the user, the organizations are the groups (upstream's x509
//! authenticator).

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use rustls::DigitallySignedStruct;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::UnixTime;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::{Error, User};

/// How many users are remembered by their certificate; a node has a handful.
const REMEMBERED: usize = 64;

/// Turns certificates signed by the client CA into users.
#[derive(Debug)]
pub struct ClientCertificates {
    verifier: Arc<dyn ClientCertVerifier>,
    known: Mutex<HashMap<CertificateDer<'static>, Known>>,
}

#[derive(Debug, Clone)]
struct Known {
    user: Arc<User>,
    /// Seconds since 1970.
    not_after: u64,
}

impl ClientCertificates {
    /// Accepts certificates signed by the CA whose certificate is `ca` (PEM).
    ///
    /// # Errors
    /// When `ca` is not a CA certificate.
    pub fn new(ca: &str) -> Result<Self, Error> {
        let invalid = |error: &dyn std::fmt::Display| Error::Certificate(format!("client CA: {error}"));
        let der = CertificateDer::from_pem_slice(ca.as_bytes()).map_err(|error| invalid(&error))?;
        let mut roots = rustls::RootCertStore::empty();
        roots.add(der).map_err(|error| invalid(&error))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .map_err(|error| invalid(&error))?;
        Ok(Self { verifier, known: Mutex::default() })
    }

    /// The user of a certificate chain, leaf first.
    ///
    /// # Errors
    /// When the leaf is not a client certificate of our CA that is valid now.
    pub fn user(&self, chain: &[CertificateDer<'static>], now: UnixTime) -> Result<Arc<User>, Error> {
        let (leaf, intermediates) =
            chain.split_first().ok_or_else(|| Error::Certificate("no certificate".to_owned()))?;
        if let Some(known) = self.known.lock().get(leaf)
            && now.as_secs() < known.not_after
        {
            return Ok(known.user.clone());
        }
        self.verifier
            .verify_client_cert(leaf, intermediates, now)
            .map_err(|error| Error::Certificate(error.to_string()))?;
        let known = parse(leaf)?;
        let mut remembered = self.known.lock();
        if remembered.len() >= REMEMBERED {
            remembered.clear();
        }
        remembered.insert(leaf.clone(), known.clone());
        Ok(known.user)
    }

    /// The verifier for the TLS listener; see [`AnyClientCertificate`].
    pub fn tls_verifier(&self) -> Arc<dyn ClientCertVerifier> {
        Arc::new(AnyClientCertificate(self.verifier.clone()))
    }
}

fn parse(leaf: &CertificateDer<'_>) -> Result<Known, Error> {
    let invalid = || Error::Certificate("unreadable subject".to_owned());
    let (_, certificate) = X509Certificate::from_der(leaf).map_err(|_| invalid())?;
    let subject = certificate.subject();
    let text = |value: &x509_parser::x509::AttributeTypeAndValue<'_>| value.as_str().map(str::to_owned);
    let name = subject.iter_common_name().next().and_then(|cn| text(cn).ok()).ok_or_else(invalid)?;
    if name.is_empty() {
        return Err(invalid());
    }
    let groups: Vec<String> = subject.iter_organization().filter_map(|o| text(o).ok()).collect();
    let not_after = u64::try_from(certificate.validity().not_after.timestamp()).unwrap_or(0);
    Ok(Known { user: Arc::new(User::new(name, groups).authenticated()), not_after })
}

/// Lets a TLS handshake finish whatever client certificate is shown, or none, after proof that the client holds
/// its key. [`ClientCertificates::user`] judges it for each request, so that a client reads `401 Unauthorized`
/// instead of a broken connection, and an expiry on a long connection is noticed.
#[derive(Debug)]
pub struct AnyClientCertificate(Arc<dyn ClientCertVerifier>);

impl ClientCertVerifier for AnyClientCertificate {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[rustls::DistinguishedName] {
        self.0.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ALL_AUTHENTICATED;
    use rcgen::{
        BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    };
    use std::time::Duration;

    fn ca(name: &str) -> (String, Issuer<'static, KeyPair>) {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        (pem, Issuer::new(params, key))
    }

    fn leaf(issuer: &Issuer<'static, KeyPair>, user: &str, group: &str) -> CertificateDer<'static> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, user);
        params.distinguished_name.push(DnType::OrganizationName, group);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.not_after = rcgen::date_time_ymd(2040, 1, 1);
        params.signed_by(&KeyPair::generate().unwrap(), issuer).unwrap().der().clone()
    }

    fn at(year: u64) -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_secs((year - 1970) * 31_557_600))
    }

    #[test]
    fn a_certificate_names_the_user_and_its_groups_until_it_expires() {
        let (pem, issuer) = ca("ours");
        let authenticator = ClientCertificates::new(&pem).unwrap();
        let chain = [leaf(&issuer, "system:node:edge-1", "system:nodes")];
        for _ in 0..2 {
            let user = authenticator.user(&chain, at(2030)).unwrap();
            assert_eq!(*user, User::new("system:node:edge-1", ["system:nodes", ALL_AUTHENTICATED]));
        }
        assert!(authenticator.user(&chain, at(2041)).is_err());
    }

    #[test]
    fn a_certificate_of_another_ca_is_refused() {
        let (pem, _) = ca("ours");
        let (_, other) = ca("theirs");
        let authenticator = ClientCertificates::new(&pem).unwrap();
        assert!(authenticator.user(&[leaf(&other, "admin", "system:masters")], at(2030)).is_err());
    }
}
