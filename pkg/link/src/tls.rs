//! How a worker recognises servers, and shows who it is.

use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};

/// The name every API server has in its certificate. Workers ask for it whatever address they dial: servers move, and a
/// certificate that names an address is not yet one of an API server.
pub const SERVER_NAME: &str = "kubernetes.default.svc";

/// A certificate and its private key, both in PEM.
#[derive(Clone, Copy)]
pub struct Identity<'a> {
    /// The certificate.
    pub certificate: &'a str,
    /// The key.
    pub key: &'a str,
}

/// Trusts servers of the CA in `ca` (PEM), and shows them `identity`, if there is one.
///
/// # Errors
/// When a PEM text is not what it should be.
pub fn trusting(ca: &str, identity: Option<Identity<'_>>) -> Result<ClientConfig, rustls::Error> {
    let invalid = |_| rustls::Error::General("not PEM".to_owned());
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(ca.as_bytes()) {
        roots.add(certificate.map_err(invalid)?)?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots);
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some(Identity { certificate, key }) => builder.with_client_auth_cert(
            vec![CertificateDer::from_pem_slice(certificate.as_bytes()).map_err(invalid)?],
            PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(invalid)?,
        )?,
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

/// Believes anybody: only to fetch what is compared with a known hash afterwards.
///
/// # Errors
/// See [`edgek_base_pki::believing_anybody`].
pub fn believing() -> Result<ClientConfig, edgek_base_pki::Error> {
    let mut config = edgek_base_pki::believing_anybody()?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}
