//! Who asks: client certificates, service-account tokens and bootstrap tokens.
//!
//! `http` calls an [`Authenticator`] once per request; everything behind it sees only the [`User`].

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "tests"))]

mod bootstrap;
mod certificate;
mod credentials;
mod token;
mod user;

pub use bootstrap::BOOTSTRAPPERS;
pub use certificate::{AnyClientCertificate, ClientCertificates};
pub use credentials::Credentials;
pub use token::{BoundObject, Claims, Object, ObjectRef, Objects, Tokens};
pub use user::{ALL_AUTHENTICATED, ALL_UNAUTHENTICATED, ANONYMOUS, PRIVILEGED_GROUP, SERVERS, User};

use std::sync::Arc;

use async_trait::async_trait;
use rustls_pki_types::CertificateDer;

/// Why credentials that were presented are not accepted. The client only ever reads `Unauthorized`; this is for the log.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The client certificate is not one of ours, or has expired.
    #[error("invalid client certificate: {0}")]
    Certificate(String),
    /// The bearer token is not one of ours, has expired, or is bound to an object that is gone.
    #[error("invalid bearer token: {0}")]
    Token(String),
}

/// Finds out who asks.
#[async_trait]
pub trait Authenticator: Send + Sync + 'static {
    /// The user a request comes from, by its headers and the certificates its connection presented (leaf first);
    /// `None` when it carries no credentials.
    ///
    /// # Errors
    /// Credentials were presented and are not valid.
    async fn authenticate(
        &self,
        request: &http::request::Parts,
        certificates: &[CertificateDer<'static>],
    ) -> Result<Option<Arc<User>>, Error>;

    /// The user a bearer token stands for and the audiences it is valid for, as TokenReview asks; `audiences` empty
    /// means those of the API server.
    ///
    /// # Errors
    /// The token is not valid.
    async fn authenticate_token(
        &self,
        token: &str,
        audiences: &[String],
    ) -> Result<(Arc<User>, Vec<String>), Error>;
}
