//! `Credentials`: the authenticator of a server, which knows client certificates and service-account tokens.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use http::header::AUTHORIZATION;
use rustls_pki_types::{CertificateDer, UnixTime};

use crate::{Authenticator, ClientCertificates, Error, Tokens, User};

/// Client certificates first, then bearer tokens, as upstream.
#[derive(Debug)]
pub struct Credentials {
    certificates: Arc<ClientCertificates>,
    tokens: Arc<Tokens>,
}

impl Credentials {
    /// An authenticator over both.
    pub fn new(certificates: Arc<ClientCertificates>, tokens: Arc<Tokens>) -> Self {
        Self { certificates, tokens }
    }
}

#[async_trait]
impl Authenticator for Credentials {
    async fn authenticate(
        &self,
        request: &http::request::Parts,
        certificates: &[CertificateDer<'static>],
    ) -> Result<Option<Arc<User>>, Error> {
        let bearer = bearer(request);
        if !certificates.is_empty() {
            match self.certificates.user(certificates, now()) {
                Ok(user) => return Ok(Some(user)),
                // A token may still be good: somebody's proxy may show a certificate of its own.
                Err(error) if bearer.is_none() => return Err(error),
                Err(_) => {}
            }
        }
        match bearer {
            Some(token) => self.tokens.user(token, &[]).map(|(user, _)| Some(user)),
            None => Ok(None),
        }
    }

    async fn authenticate_token(
        &self,
        token: &str,
        audiences: &[String],
    ) -> Result<(Arc<User>, Vec<String>), Error> {
        self.tokens.user(token, audiences)
    }
}

fn bearer(request: &http::request::Parts) -> Option<&str> {
    let value = request.headers.get(AUTHORIZATION)?.to_str().ok()?.trim();
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim()).filter(|token| !token.is_empty())
}

fn now() -> UnixTime {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    UnixTime::since_unix_epoch(since.unwrap_or(Duration::ZERO))
}
