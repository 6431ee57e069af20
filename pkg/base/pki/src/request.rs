//! `SigningRequest`: what a key's holder asks to have certified (PKCS #10), and the certificate an [`Authority`] makes
//! of it. Nodes make requests with [`make`]; the controllers of CertificateSigningRequests judge and sign them.

use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use rcgen::{CertificateParams, DnType, KeyPair, PKCS_ECDSA_P256_SHA256, SigningKey as _};
use ring::digest::{SHA256, digest};
use rustls_pki_types::{CertificateDer, CertificateSigningRequestDer, pem::PemObject as _};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::cri_attributes::ParsedCriAttribute;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::{FromDer as _, X509Certificate, X509Extension};

use crate::authority::{Authority, san_type, serial_number};
use crate::der::{self, bit_string, context, integer, octets, oid, sequence};
use crate::{Error, Peer, clock};

const KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x0f];
const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 0x11];
const BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 0x13];
const EXTENDED_KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x25];
const SERVER_AUTH: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 1];
const CLIENT_AUTH: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 2];
const ECDSA_WITH_SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2];

/// What a certificate is good for, in the words of CertificateSigningRequests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the names of the usages")]
pub enum Usage {
    DigitalSignature,
    KeyEncipherment,
    ServerAuth,
    ClientAuth,
}

impl FromStr for Usage {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "digital signature" => Ok(Self::DigitalSignature),
            "key encipherment" => Ok(Self::KeyEncipherment),
            "server auth" => Ok(Self::ServerAuth),
            "client auth" => Ok(Self::ClientAuth),
            _ => Err(()),
        }
    }
}

/// A request that was read, and whose maker holds the key that is to be certified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SigningRequest {
    /// The common name.
    pub user: String,
    /// The organizations.
    pub groups: Vec<String>,
    /// The DNS names of the alternative names.
    pub dns_names: Vec<String>,
    /// The addresses of the alternative names.
    pub addresses: Vec<IpAddr>,
    /// Whether there are alternative names of other kinds.
    pub has_other_names: bool,
    /// The subject as it was sent, DER.
    subject: Vec<u8>,
    /// The public key (SubjectPublicKeyInfo), DER.
    key: Vec<u8>,
    /// The alternative names as they were sent, DER.
    names: Option<Vec<u8>>,
}

impl SigningRequest {
    /// Reads a request in PEM and verifies that the holder of its key made it.
    ///
    /// # Errors
    /// When it is no such request, or its signature is not of its key.
    pub fn parse(pem: &[u8]) -> Result<Self, Error> {
        let invalid = |text: &str| Error::Request(text.to_owned());
        let der =
            CertificateSigningRequestDer::from_pem_slice(pem).map_err(|_| invalid("not a PEM request"))?;
        let (_, request) =
            X509CertificationRequest::from_der(&der).map_err(|_| invalid("not a PKCS #10 request"))?;
        request.verify_signature().map_err(|_| invalid("its signature is not of its key"))?;
        let info = &request.certification_request_info;
        let mut found = Self {
            user: info.subject.iter_common_name().next().and_then(text).unwrap_or_default(),
            groups: info.subject.iter_organization().filter_map(text).collect(),
            dns_names: Vec::new(),
            addresses: Vec::new(),
            has_other_names: false,
            subject: info.subject.as_raw().to_vec(),
            key: info.subject_pki.raw.to_vec(),
            names: None,
        };
        for attribute in info.iter_attributes() {
            if let ParsedCriAttribute::ExtensionRequest(asked) = attribute.parsed_attribute() {
                asked.extensions.iter().for_each(|extension| found.note(extension));
            }
        }
        Ok(found)
    }

    fn note(&mut self, extension: &X509Extension<'_>) {
        let ParsedExtension::SubjectAlternativeName(names) = extension.parsed_extension() else { return };
        self.names = Some(extension.value.to_vec());
        for name in &names.general_names {
            match name {
                GeneralName::DNSName(name) => self.dns_names.push((*name).to_owned()),
                GeneralName::IPAddress(bytes) => match address(bytes) {
                    Some(address) => self.addresses.push(address),
                    None => self.has_other_names = true,
                },
                _ => self.has_other_names = true,
            }
        }
    }

    /// SHA-256 of the public key, in hexadecimal.
    pub fn key_hash(&self) -> String {
        hex(digest(&SHA256, &self.key).as_ref())
    }
}

fn text(value: &x509_parser::x509::AttributeTypeAndValue<'_>) -> Option<String> {
    value.as_str().ok().map(str::to_owned)
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => Some(<[u8; 4]>::try_from(bytes).ok()?.into()),
        16 => Some(<[u8; 16]>::try_from(bytes).ok()?.into()),
        _ => None,
    }
}

/// Bytes in hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A request for a certificate of `key` (PKCS #8 PEM) that names a user in one group, and `names`; in PEM.
///
/// # Errors
/// When the key is unusable or a name is neither a DNS name nor an address.
pub fn make(key: &str, user: &str, group: &str, names: &[String]) -> Result<String, Error> {
    let failed = |source| Error::Generate { what: format!("certificate request of {user}"), source };
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::OrganizationName, group);
    params.distinguished_name.push(DnType::CommonName, user);
    params.subject_alt_names =
        names.iter().map(|name| san_type(name)).collect::<Result<_, _>>().map_err(failed)?;
    let key = KeyPair::from_pem(key).map_err(failed)?;
    params.serialize_request(&key).and_then(|request| request.pem()).map_err(failed)
}

/// Whether a certificate (PEM) names this user and certifies this key (PKCS #8 PEM).
pub fn is_of(certificate: &str, user: &str, key: &str) -> bool {
    let (Ok(der), Ok(key)) = (CertificateDer::from_pem_slice(certificate.as_bytes()), KeyPair::from_pem(key))
    else {
        return false;
    };
    let of_user = Peer::of(&der).is_some_and(|peer| peer.user == user);
    let certified = X509Certificate::from_der(&der);
    of_user
        && certified.is_ok_and(|(_, read)| read.public_key().subject_public_key.data == key.public_key_raw())
}

impl Authority {
    /// Certifies the key and the names of a request as they were asked for, in PEM. rcgen would lose all organizations
    /// but one.
    ///
    /// # Errors
    /// When this authority's key is not one that edgek makes.
    pub fn certify(
        &self,
        request: &SigningRequest,
        usages: &[Usage],
        lifetime: Duration,
    ) -> Result<String, Error> {
        let key = self.key();
        if !key.is_compatible(&PKCS_ECDSA_P256_SHA256) {
            return Err(Error::Request("the key of this CA is not an ECDSA P-256 key".to_owned()));
        }
        let not_after = clock::now() + lifetime;
        let algorithm = sequence(&[oid(ECDSA_WITH_SHA256)]);
        let body = sequence(&[
            context(0, &integer(&[2])),
            integer(serial_number().as_ref()),
            algorithm.clone(),
            self.name()?,
            sequence(&[der::time(std::time::UNIX_EPOCH), der::time(not_after)]),
            request.subject.clone(),
            request.key.clone(),
            context(3, &sequence(&extensions(request, usages))),
        ]);
        let failed = |source| Error::Generate { what: format!("certificate of {}", request.user), source };
        let signature = key.sign(&body).map_err(failed)?;
        let certificate = sequence(&[body, algorithm, bit_string(&signature, 0)]);
        Ok(der::pem("CERTIFICATE", &certificate))
    }

    /// The subject of the CA certificate, DER.
    fn name(&self) -> Result<Vec<u8>, Error> {
        let unreadable = || Error::Request("the CA certificate is unreadable".to_owned());
        let der = CertificateDer::from_pem_slice(self.pem().as_bytes()).map_err(|_| unreadable())?;
        let (_, certificate) = X509Certificate::from_der(&der).map_err(|_| unreadable())?;
        Ok(certificate.subject().as_raw().to_vec())
    }
}

fn extensions(request: &SigningRequest, usages: &[Usage]) -> Vec<Vec<u8>> {
    let (mut bits, mut purposes) = (0, Vec::new());
    for usage in usages {
        match usage {
            Usage::DigitalSignature => bits |= 0x80,
            Usage::KeyEncipherment => bits |= 0x20,
            Usage::ServerAuth => purposes.push(oid(SERVER_AUTH)),
            Usage::ClientAuth => purposes.push(oid(CLIENT_AUTH)),
        }
    }
    let critical = || vec![0x01, 0x01, 0xff];
    let mut extensions = vec![sequence(&[oid(BASIC_CONSTRAINTS), critical(), octets(&sequence(&[]))])];
    if bits != 0 {
        let unused = u8::try_from(u8::trailing_zeros(bits)).unwrap_or_default();
        extensions.push(sequence(&[oid(KEY_USAGE), critical(), octets(&bit_string(&[bits], unused))]));
    }
    if !purposes.is_empty() {
        extensions.push(sequence(&[oid(EXTENDED_KEY_USAGE), octets(&sequence(&purposes))]));
    }
    if let Some(names) = &request.names {
        extensions.push(sequence(&[oid(SUBJECT_ALT_NAME), octets(names)]));
    }
    extensions
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authority::{LEAF_LIFETIME, not_after};
    use rustls::pki_types::UnixTime;
    use std::sync::Arc;

    fn key() -> String {
        KeyPair::generate().unwrap().serialize_pem()
    }

    fn request(names: &[&str]) -> SigningRequest {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let pem = make(&key(), "system:node:a", "system:nodes", &names).unwrap();
        SigningRequest::parse(pem.as_bytes()).unwrap()
    }

    #[test]
    fn a_request_says_whom_it_is_for() {
        let read = request(&["a", "192.0.2.1"]);
        assert_eq!((read.user.as_str(), &*read.groups), ("system:node:a", &["system:nodes".to_owned()][..]));
        assert_eq!(read.dns_names, ["a"]);
        assert_eq!(read.addresses, ["192.0.2.1".parse::<IpAddr>().unwrap()]);
        assert!(!read.has_other_names);
        assert_eq!(request(&[]).key_hash().len(), 64);
    }

    #[test]
    fn a_request_that_was_changed_is_refused() {
        let pem = make(&key(), "system:node:a", "system:nodes", &[]).unwrap();
        let mut der = CertificateSigningRequestDer::from_pem_slice(pem.as_bytes()).unwrap().to_vec();
        let at = der.windows(13).position(|bytes| bytes == b"system:node:a").unwrap();
        der[at + 12] = b'b';
        let changed = der::pem("CERTIFICATE REQUEST", &der);
        let error = SigningRequest::parse(changed.as_bytes()).unwrap_err().to_string();
        assert!(error.contains("its signature is not of its key"), "{error}");
        assert!(SigningRequest::parse(b"nonsense").is_err());
    }

    #[test]
    fn a_certificate_is_what_was_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::open(folder.path(), "client-ca").unwrap();
        let usages = [Usage::DigitalSignature, Usage::ClientAuth];
        let own_key = key();
        let asked = make(&own_key, "system:node:a", "system:nodes", &[]).unwrap();
        let asked = SigningRequest::parse(asked.as_bytes()).unwrap();
        let pem = authority.certify(&asked, &usages, LEAF_LIFETIME).unwrap();
        assert!(is_of(&pem, "system:node:a", &own_key));
        assert!(!is_of(&pem, "system:node:b", &own_key) && !is_of(&pem, "system:node:a", &key()));
        assert!(not_after(&pem).unwrap() > clock::now());
        let certificate = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
        let peer = Peer::of(&certificate).unwrap();
        assert_eq!((peer.user.as_str(), peer.groups), ("system:node:a", vec!["system:nodes".to_owned()]));
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(authority.pem().as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
        builder.build().unwrap().verify_client_cert(&certificate, &[], UnixTime::now()).unwrap();
    }

    #[test]
    fn every_organization_of_a_request_is_certified() {
        // Made by openssl: /O=one/O=two/CN=jane.
        let pem = include_bytes!("../testdata/two-groups.csr");
        let request = SigningRequest::parse(pem).unwrap();
        assert_eq!(request.groups, ["one", "two"]);
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::open(folder.path(), "client-ca").unwrap();
        let pem = authority.certify(&request, &[Usage::ClientAuth], LEAF_LIFETIME).unwrap();
        let certificate = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
        assert_eq!(Peer::of(&certificate).unwrap().groups, ["one", "two"]);
    }
}
