//! `Pki`: every key and CA of a server, as files under `<data-dir>/server/tls`.

use std::path::Path;

use rcgen::KeyPair;

use crate::authority::{Authority, read, write};
use crate::{Error, Issued, Subject};

/// The authorities and keys of a server. Separate CAs, so that no certificate is good for what it was not made
/// for: serving certificates, API users, and the front proxy (requests that the API server passes on).
#[derive(Debug)]
pub struct Pki {
    /// Signs serving certificates; clients pin it.
    pub server_ca: Authority,
    /// Signs client certificates of API users.
    pub client_ca: Authority,
    /// Signs the front proxy's client certificate.
    pub front_proxy_ca: Authority,
    /// Signs service-account tokens (ES256): PKCS #8 in PEM.
    pub service_account_key: String,
}

impl Pki {
    /// Opens the PKI in `folder`, making at the first start what is missing.
    ///
    /// # Errors
    /// When a file is damaged, half a pair is missing, or the folder cannot be written.
    pub fn open(folder: &Path) -> Result<Self, Error> {
        Ok(Self {
            server_ca: Authority::open(folder, "server-ca")?,
            client_ca: Authority::open(folder, "client-ca")?,
            front_proxy_ca: Authority::open(folder, "request-header-ca")?,
            service_account_key: open_key(&folder.join("service.key"))?,
        })
    }

    /// A client certificate for the cluster's administrator.
    ///
    /// # Errors
    /// See [`Authority::issue`].
    pub fn admin(&self) -> Result<Issued, Error> {
        let subject = Subject::Client { user: "system:admin", group: Some("system:masters") };
        self.client_ca.issue(&subject, crate::authority::LEAF_LIFETIME)
    }

    /// A client certificate that API servers behind the aggregation layer accept.
    ///
    /// # Errors
    /// See [`Authority::issue`].
    pub fn front_proxy(&self) -> Result<Issued, Error> {
        let subject = Subject::Client { user: "system:auth-proxy", group: None };
        self.front_proxy_ca.issue(&subject, crate::authority::LEAF_LIFETIME)
    }
}

/// The private key (PKCS #8 PEM) in a file, made when there is none.
///
/// # Errors
/// When the file is damaged or cannot be written.
pub fn open_key(path: &Path) -> Result<String, Error> {
    if let Some(pem) = read(path)? {
        let valid = KeyPair::from_pem(&pem).is_ok();
        return if valid {
            Ok(pem)
        } else {
            Err(Error::Invalid { path: path.to_owned(), what: "private key" })
        };
    }
    let key =
        KeyPair::generate().map_err(|source| Error::Generate { what: path.display().to_string(), source })?;
    let pem = key.serialize_pem();
    write(path, pem.as_bytes(), 0o600)?;
    Ok(pem)
}
