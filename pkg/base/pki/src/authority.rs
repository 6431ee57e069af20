//! A certificate authority: makes, keeps and uses one CA key.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use edgek_base_sys::files::write_atomic;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType, SerialNumber,
};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::{Error, clock};

/// How long a CA lives; as K3s and kubeadm.
const CA_LIFETIME: Duration = Duration::from_secs(3650 * 24 * 3600);
/// How long a leaf certificate lives; as K3s.
pub const LEAF_LIFETIME: Duration = Duration::from_secs(365 * 24 * 3600);

/// A CA with its key.
pub struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").finish_non_exhaustive()
    }
}

/// Whom a certificate names.
#[derive(Debug, Clone)]
pub enum Subject<'a> {
    /// A server, by its names and addresses.
    Server {
        /// The common name.
        name: &'a str,
        /// DNS names and IP addresses, in text.
        sans: &'a [String],
    },
    /// A user of the API: the common name is the user, the organization is its group.
    Client {
        /// The user name.
        user: &'a str,
        /// The group, if any (rcgen writes one organization).
        group: Option<&'a str>,
    },
}

/// A certificate and its private key, both in PEM.
#[derive(Clone)]
pub struct Issued {
    /// The certificate, followed by nothing: the CA is distributed by itself.
    pub certificate: String,
    /// The private key, PKCS #8.
    pub key: String,
    /// When the certificate ends.
    pub not_after: SystemTime,
}

impl std::fmt::Debug for Issued {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Issued").field("not_after", &self.not_after).finish_non_exhaustive()
    }
}

impl Authority {
    /// Reads `<folder>/<name>.crt` and `.key`, or makes them when neither exists.
    ///
    /// # Errors
    /// When one file of the pair is missing or damaged: a CA is never replaced silently, because everything it
    /// signed would stop working.
    pub fn open(folder: &Path, name: &str) -> Result<Self, Error> {
        let paths = (folder.join(format!("{name}.crt")), folder.join(format!("{name}.key")));
        match (read(&paths.0)?, read(&paths.1)?) {
            (Some(pem), Some(key)) => Self::load(&paths, pem, &key),
            (None, None) => Self::create(&paths, name),
            (Some(_), None) => Err(Error::HalfPair { missing: paths.1, present: paths.0 }),
            (None, Some(_)) => Err(Error::HalfPair { missing: paths.0, present: paths.1 }),
        }
    }

    fn load(paths: &(PathBuf, PathBuf), pem: String, key: &str) -> Result<Self, Error> {
        let key = KeyPair::from_pem(key)
            .map_err(|_| Error::Invalid { path: paths.1.clone(), what: "private key" })?;
        let issuer = Issuer::from_ca_cert_pem(&pem, key)
            .map_err(|_| Error::Invalid { path: paths.0.clone(), what: "certificate" })?;
        Ok(Self { pem, issuer })
    }

    fn create(paths: &(PathBuf, PathBuf), name: &str) -> Result<Self, Error> {
        let failed = |source| Error::Generate { what: name.to_owned(), source };
        let key = KeyPair::generate().map_err(failed)?;
        let seconds = clock::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::DigitalSignature,
            KeyUsagePurpose::KeyEncipherment,
        ];
        params.distinguished_name.push(DnType::CommonName, format!("edgek-{name}@{seconds}"));
        set_validity(&mut params, clock::now() + CA_LIFETIME);
        let pem = params.self_signed(&key).map_err(failed)?.pem();
        // The key first: a certificate without its key could not be completed later.
        write(&paths.1, key.serialize_pem().as_bytes(), 0o600)?;
        write(&paths.0, pem.as_bytes(), 0o644)?;
        Ok(Self { pem, issuer: Issuer::new(params, key) })
    }

    /// The CA certificate in PEM.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// The CA's key.
    pub(crate) fn key(&self) -> &KeyPair {
        self.issuer.key()
    }

    /// Makes a key and a certificate for `subject`.
    ///
    /// # Errors
    /// When a name is not a valid DNS name or address.
    pub fn issue(&self, subject: &Subject<'_>, lifetime: Duration) -> Result<Issued, Error> {
        let what = match subject {
            Subject::Server { name, .. } => format!("certificate of {name}"),
            Subject::Client { user, .. } => format!("certificate of {user}"),
        };
        let failed = |source| Error::Generate { what: what.clone(), source };
        let mut params = leaf_params(subject).map_err(failed)?;
        let not_after = clock::now() + lifetime;
        set_validity(&mut params, not_after);
        let key = KeyPair::generate().map_err(failed)?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(failed)?.pem();
        Ok(Issued { certificate, key: key.serialize_pem(), not_after })
    }
}

fn leaf_params(subject: &Subject<'_>) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::default();
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
    params.serial_number = Some(serial_number());
    match subject {
        Subject::Server { name, sans } => {
            params.distinguished_name.push(DnType::CommonName, *name);
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
            params.subject_alt_names = sans.iter().map(|san| san_type(san)).collect::<Result<_, _>>()?;
        }
        Subject::Client { user, group } => {
            if let Some(group) = group {
                params.distinguished_name.push(DnType::OrganizationName, *group);
            }
            params.distinguished_name.push(DnType::CommonName, *user);
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        }
    }
    Ok(params)
}

pub(crate) fn san_type(san: &str) -> Result<SanType, rcgen::Error> {
    Ok(match san.parse::<IpAddr>() {
        Ok(address) => SanType::IpAddress(address),
        Err(_) => SanType::DnsName(san.try_into()?),
    })
}

pub(crate) fn serial_number() -> SerialNumber {
    use ring::rand::SecureRandom as _;
    let mut bytes = [0; 16];
    // Serial numbers must differ, not be secret: without randomness the clock does.
    if ring::rand::SystemRandom::new().fill(&mut bytes).is_err() {
        let nanos = SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |d| d.as_nanos());
        bytes = nanos.to_be_bytes();
    }
    bytes[0] &= 0x7f;
    SerialNumber::from_slice(&bytes)
}

fn set_validity(params: &mut CertificateParams, not_after: SystemTime) {
    params.not_before = rcgen::date_time_ymd(1970, 1, 1);
    params.not_after = not_after.into();
}

/// When the first certificate of a PEM text ends; `None` when there is none to read.
pub fn not_after(pem: &str) -> Option<SystemTime> {
    use rustls_pki_types::{CertificateDer, pem::PemObject as _};
    let der = CertificateDer::from_pem_slice(pem.as_bytes()).ok()?;
    let (_, certificate) = X509Certificate::from_der(&der).ok()?;
    let seconds = u64::try_from(certificate.validity().not_after.timestamp()).ok()?;
    Some(UNIX_EPOCH + Duration::from_secs(seconds))
}

/// When a certificate that ends at `not_after` should be replaced: after two thirds of [`LEAF_LIFETIME`].
pub fn renew_at(not_after: SystemTime) -> SystemTime {
    not_after - LEAF_LIFETIME / 3
}

pub(crate) fn read(path: &Path) -> Result<Option<String>, Error> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::Read { path: path.to_owned(), source }),
    }
}

pub(crate) fn write(path: &Path, contents: &[u8], mode: u32) -> Result<(), Error> {
    write_atomic(path, contents, mode).map_err(|source| Error::Write { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ca_is_made_once_and_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let made = Authority::open(folder.path(), "server-ca").unwrap();
        let read = Authority::open(folder.path(), "server-ca").unwrap();
        assert_eq!(made.pem(), read.pem());
        let leaf = read.issue(&Subject::Client { user: "me", group: Some("a") }, LEAF_LIFETIME).unwrap();
        assert!(leaf.certificate.starts_with("-----BEGIN CERTIFICATE-----"));
        let end = not_after(&leaf.certificate).unwrap();
        assert!(leaf.not_after.duration_since(end).unwrap() < Duration::from_secs(1));
    }

    #[test]
    fn a_ca_that_lost_its_key_is_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        Authority::open(folder.path(), "server-ca").unwrap();
        fs::remove_file(folder.path().join("server-ca.key")).unwrap();
        let error = Authority::open(folder.path(), "server-ca").unwrap_err().to_string();
        assert!(error.contains("server-ca.key is missing"), "{error}");
    }

    #[test]
    fn a_damaged_certificate_is_named() {
        let folder = tempfile::tempdir().unwrap();
        Authority::open(folder.path(), "client-ca").unwrap();
        fs::write(folder.path().join("client-ca.crt"), "not a certificate").unwrap();
        let error = Authority::open(folder.path(), "client-ca").unwrap_err().to_string();
        assert!(error.contains("client-ca.crt is not a valid certificate"), "{error}");
    }
}
