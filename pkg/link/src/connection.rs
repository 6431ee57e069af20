//! `Connection`: one HTTP/2 connection over TLS to one server.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use edgek_base_lifecycle::Scope;
use http::{HeaderValue, Method, Request, Response, Uri, header};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::CertificateError;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_rustls::TlsConnector;
use tracing::debug;

use crate::executor::ScopeExecutor;
use crate::resolve::resolve;
use crate::{Body, BoxError, BoxedIo, tls};

/// How long a server may take to accept a connection.
const PATIENCE: Duration = Duration::from_secs(10);
/// A server that has said nothing for so long is asked whether it is there. The node's lease is renewed more often, and
/// each renewal is answered.
const PING_INTERVAL: Duration = Duration::from_secs(20);
/// How long it may take to answer that.
const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes under way in one answer, and in all.
const ANSWER_WINDOW: u32 = 1 << 20;
const ANSWERS_WINDOW: u32 = 8 << 20;
/// The longest document that [`Connection::get`] reads.
const MAX_DOCUMENT: usize = 1 << 20;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody answers there.
    #[error("{server} does not answer: {source}")]
    Connect {
        /// `host:port`.
        server: String,
        /// Why.
        source: io::Error,
    },
    /// The server is not one of the CA that the worker trusts.
    #[error("{server} is not a server of this cluster: its certificate is of another CA")]
    ForeignCa {
        /// `host:port`.
        server: String,
    },
    /// By this machine's clock the server's certificate has ended or not begun.
    #[error("by this machine's clock the certificate of {server} is not valid now")]
    Clock {
        /// `host:port`.
        server: String,
    },
    /// It does not speak HTTP/2 over TLS.
    #[error("{server} does not speak as an edgek server does: {reason}")]
    Foreign {
        /// `host:port`.
        server: String,
        /// What it does instead.
        reason: String,
    },
    /// It answered, but not with success.
    #[error("{server} answered {status}")]
    Refused {
        /// `host:port`.
        server: String,
        /// Its answer.
        status: http::StatusCode,
    },
}

/// One HTTP/2 connection. Clones share it; it closes when the last clone and the last stream are gone.
#[derive(Clone)]
pub struct Connection {
    server: Arc<str>,
    sender: SendRequest<Body>,
    ended: watch::Receiver<bool>,
}

impl Connection {
    /// Connects to `server` (`host:port`), which must show the certificate that `tls` asks for.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn open(server: &str, tls: Arc<rustls::ClientConfig>, scope: &Scope) -> Result<Self, Error> {
        let opened = tokio::time::timeout(PATIENCE, Self::handshake(server, tls, scope)).await;
        opened.unwrap_or_else(|_| {
            Err(Error::Connect { server: server.to_owned(), source: io::ErrorKind::TimedOut.into() })
        })
    }

    async fn handshake(server: &str, tls: Arc<rustls::ClientConfig>, scope: &Scope) -> Result<Self, Error> {
        let no_way = |source| Error::Connect { server: server.to_owned(), source };
        let addresses = resolve(server).await.map_err(no_way)?;
        let stream = TcpStream::connect(&*addresses).await.map_err(no_way)?;
        // Small requests must not wait for an acknowledgement.
        let _ = stream.set_nodelay(true);
        let name = ServerName::try_from(tls::SERVER_NAME).map_err(|error| no_way(io::Error::other(error)))?;
        let stream = TlsConnector::from(tls).connect(name, stream).await;
        let stream = stream.map_err(|error| tls_error(server, error))?;
        let foreign = |reason: String| Error::Foreign { server: server.to_owned(), reason };
        if stream.get_ref().1.alpn_protocol() != Some(b"h2") {
            return Err(foreign("it has no HTTP/2".to_owned()));
        }
        let (sender, connection) = http2::Builder::new(ScopeExecutor(scope.clone()))
            .timer(TokioTimer::new())
            .initial_stream_window_size(ANSWER_WINDOW)
            .initial_connection_window_size(ANSWERS_WINDOW)
            .keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIMEOUT)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| foreign(error.to_string()))?;
        let (end, ended) = watch::channel(false);
        let name = server.to_owned();
        scope.spawn("link", async move {
            if let Err(error) = connection.await {
                debug!(server = name, %error, "connection ended");
            }
            end.send_replace(true);
        });
        Ok(Self { server: server.into(), sender, ended })
    }

    /// `host:port`.
    pub fn server(&self) -> &str {
        &self.server
    }

    /// Waits for the end of the connection.
    pub async fn ended(&mut self) {
        // An error means that its task is gone.
        let _ = self.ended.wait_for(|ended| *ended).await;
    }

    /// Sends a request whose URI is a path.
    ///
    /// # Errors
    /// When the connection breaks before the answer.
    pub async fn send(&mut self, request: Request<Body>) -> Result<Response<Body>, BoxError> {
        let (mut parts, body) = request.into_parts();
        let mut uri = parts.uri.into_parts();
        uri.scheme = Some(http::uri::Scheme::HTTPS);
        uri.authority = Some(self.server.parse()?);
        parts.uri = Uri::from_parts(uri)?;
        let response = self.sender.send_request(Request::from_parts(parts, body)).await?;
        Ok(response.map(|body| body.map_err(Into::into).boxed_unsync()))
    }

    /// A short document, with the bearer token given or with none.
    ///
    /// # Errors
    /// When the server does not answer with success.
    pub async fn get(&mut self, path: &str) -> Result<String, Error> {
        let server = self.server.to_string();
        let foreign = |error: BoxError| Error::Foreign { server: server.clone(), reason: error.to_string() };
        let request = Request::get(path).body(nothing()).map_err(|error| foreign(error.into()))?;
        let response = self.send(request).await.map_err(foreign)?;
        if !response.status().is_success() {
            return Err(Error::Refused { server, status: response.status() });
        }
        let body = Limited::new(response.into_body(), MAX_DOCUMENT).collect().await.map_err(foreign)?;
        String::from_utf8(body.to_bytes().into()).map_err(|error| foreign(error.into()))
    }

    /// Opens the stream over which the server sends its own.
    ///
    /// # Errors
    /// When the server does not agree.
    pub(crate) async fn open_tunnel(&mut self) -> Result<BoxedIo, Error> {
        let server = self.server.to_string();
        let foreign = |error: BoxError| Error::Foreign { server: server.clone(), reason: error.to_string() };
        let request = Request::builder().method(Method::CONNECT).uri(&*self.server).body(nothing());
        let request = request.map_err(|error| foreign(error.into()))?;
        let response = self.sender.send_request(request).await.map_err(|error| foreign(error.into()))?;
        if !response.status().is_success() {
            return Err(Error::Refused { server, status: response.status() });
        }
        let upgraded = hyper::upgrade::on(response).await.map_err(|error| foreign(error.into()))?;
        Ok(Box::new(TokioIo::new(upgraded)))
    }
}

/// The header that carries a bearer token; `None` when it holds what no header may.
pub fn bearer(token: &str) -> Option<(header::HeaderName, HeaderValue)> {
    let mut value = HeaderValue::from_str(&format!("Bearer {token}")).ok()?;
    value.set_sensitive(true);
    Some((header::AUTHORIZATION, value))
}

fn nothing() -> Body {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

fn tls_error(server: &str, error: io::Error) -> Error {
    let server = server.to_owned();
    match error.get_ref().and_then(|source| source.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::InvalidCertificate(reason)) => match reason {
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. } => Error::Clock { server },
            _ => Error::ForeignCa { server },
        },
        Some(other) => Error::Foreign { server, reason: other.to_string() },
        None => Error::Connect { server, source: error },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_says_whether_the_clock_or_the_server_is_wrong() {
        let read = |error: rustls::Error| tls_error("edge:6443", io::Error::other(error)).to_string();
        let certificate = |error| read(rustls::Error::InvalidCertificate(error));
        assert!(certificate(CertificateError::Expired).starts_with("by this machine's clock"));
        assert!(certificate(CertificateError::NotValidYet).starts_with("by this machine's clock"));
        assert!(certificate(CertificateError::UnknownIssuer).ends_with("its certificate is of another CA"));
        assert!(read(rustls::Error::DecryptError).contains("does not speak as an edgek server does"));
        let broken = tls_error("edge:6443", io::ErrorKind::ConnectionReset.into());
        assert!(matches!(broken, Error::Connect { .. }), "{broken}");
    }
}
