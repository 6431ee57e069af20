//! `Serving`: the certificate a server shows, replaced while it runs.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use edgek_base_lifecycle::{Backoff, Scope, sleep};
use rustls::crypto::ring::sign::any_ecdsa_type;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use tracing::{error, info};

use crate::authority::{LEAF_LIFETIME, renew_at};
use crate::{Authority, Error, Subject, clock};

/// A serving certificate that renews itself: new connections see the new one, old connections go on.
#[derive(Debug)]
pub struct Serving {
    current: ArcSwap<Current>,
    name: String,
    sans: Vec<String>,
}

#[derive(Debug)]
struct Current {
    key: Arc<CertifiedKey>,
    renew_at: SystemTime,
}

impl Serving {
    /// Issues a certificate for `name` and `sans` (DNS names and addresses).
    ///
    /// # Errors
    /// When a name cannot be put into a certificate.
    pub fn new(authority: &Authority, name: &str, sans: Vec<String>) -> Result<Arc<Self>, Error> {
        let current = issue(authority, name, &sans)?;
        Ok(Arc::new(Self { current: ArcSwap::from_pointee(current), name: name.to_owned(), sans }))
    }

    /// Renews the certificate when two thirds of its life are over, until the scope ends. A clock that jumps is
    /// noticed within a day.
    pub async fn renew(self: Arc<Self>, authority: Arc<crate::Pki>) {
        let mut backoff = Backoff::new(Duration::from_secs(60), Duration::from_secs(3600));
        loop {
            let due = self.current.load().renew_at;
            match due.duration_since(clock::now()) {
                Ok(left) if !left.is_zero() => sleep(left.min(Duration::from_secs(24 * 3600))).await,
                _ => match issue(&authority.server_ca, &self.name, &self.sans) {
                    Ok(next) => {
                        self.current.store(Arc::new(next));
                        backoff.reset();
                        info!(name = %self.name, "serving certificate renewed");
                    }
                    Err(error) => {
                        error!(%error, name = %self.name, "renewing the serving certificate failed");
                        backoff.wait().await;
                    }
                },
            }
        }
    }

    /// Starts [`Self::renew`] as a task of `scope`.
    pub fn spawn_renewal(self: &Arc<Self>, authority: Arc<crate::Pki>, scope: &Scope) {
        scope.spawn("serving certificate", self.clone().renew(authority));
    }
}

impl ResolvesServerCert for Serving {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.load().key.clone())
    }
}

/// A serving certificate that somebody else issues, and that is replaced while the server runs.
#[derive(Debug)]
pub struct Shown(ArcSwap<CertifiedKey>);

impl Shown {
    /// Shows a certificate and proves it with its key, both in PEM.
    ///
    /// # Errors
    /// When they do not belong together.
    pub fn new(certificate: &str, key: &str) -> Result<Arc<Self>, Error> {
        Ok(Arc::new(Self(ArcSwap::from_pointee(certified(certificate, key)?))))
    }

    /// Shows another one to new connections.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn replace(&self, certificate: &str, key: &str) -> Result<(), Error> {
        self.0.store(Arc::new(certified(certificate, key)?));
        Ok(())
    }
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

fn issue(authority: &Authority, name: &str, sans: &[String]) -> Result<Current, Error> {
    let issued = authority.issue(&Subject::Server { name, sans }, LEAF_LIFETIME)?;
    Ok(Current {
        key: Arc::new(certified(&issued.certificate, &issued.key)?),
        renew_at: renew_at(issued.not_after),
    })
}

fn certified(certificate: &str, key: &str) -> Result<CertifiedKey, Error> {
    let invalid = |_| rustls::Error::General("certificate or key is not PEM".into());
    let certificate = CertificateDer::from_pem_slice(certificate.as_bytes()).map_err(invalid)?;
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(invalid)?;
    Ok(CertifiedKey::new(vec![certificate], any_ecdsa_type(&key)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_serving_certificate_is_due_for_renewal_after_two_thirds_of_its_life() {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::open(folder.path(), "server-ca").unwrap();
        let current = issue(&authority, "edgek", &["localhost".into(), "127.0.0.1".into()]).unwrap();
        let left = current.renew_at.duration_since(clock::now()).unwrap();
        let expected = LEAF_LIFETIME * 2 / 3;
        assert!(left <= expected && left > expected - Duration::from_secs(60), "{left:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_certificate_that_is_due_is_replaced_while_the_server_runs() {
        let folder = tempfile::tempdir().unwrap();
        let pki = Arc::new(crate::Pki::open(folder.path()).unwrap());
        let serving = Serving::new(&pki.server_ca, "edgek", vec!["localhost".into()]).unwrap();
        let old = serving.current.load().key.clone();
        serving.current.store(Arc::new(Current { key: old.clone(), renew_at: clock::floor() }));
        tokio::time::timeout(Duration::from_secs(1), serving.clone().renew(pki)).await.unwrap_err();
        let new = serving.current.load();
        assert_ne!(new.key.cert, old.cert);
        assert!(new.renew_at > clock::now());
    }
}
