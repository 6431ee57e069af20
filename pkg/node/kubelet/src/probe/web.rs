//! Probes and hooks over HTTP.

use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request, header};
use http_body_util::Empty;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::HTTPGetAction;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::check::{Target, address, dial_error, port};

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Asks once; an answer from 200 to 399 is good. Redirects count as good without being followed.
pub(super) async fn get(action: &HTTPGetAction, target: &Target<'_>) -> Result<(), String> {
    let port = port(&action.port, target.container)
        .ok_or_else(|| format!("couldn't find port: {:?}", action.port))?;
    let host = action.host.clone().filter(|h| !h.is_empty()).unwrap_or_else(|| target.ip.to_string());
    let tls = action.scheme.as_deref() == Some("HTTPS");
    let scheme = if tls { "https" } else { "http" };
    let authority = address(&host, port.into());
    let path = format!("/{}", action.path.as_deref().unwrap_or_default().trim_start_matches('/'));
    let failed = |why: String| format!("Get \"{scheme}://{authority}{path}\": {why}");
    let tcp = TcpStream::connect((host.trim_matches(['[', ']']), port)).await;
    let tcp = tcp.map_err(|error| failed(dial_error(&authority, &error)))?;
    let stream: Box<dyn Stream> =
        if tls { Box::new(encrypt(tcp, target).await.map_err(failed)?) } else { Box::new(tcp) };
    let request = request(action, &authority, &path).map_err(|error| failed(error.to_string()))?;
    let text = |error: hyper::Error| {
        let closed = error.is_incomplete_message() || error.is_canceled();
        failed(if closed { "EOF".to_owned() } else { error.to_string() })
    };
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(text)?;
    let asking = sender.send_request(request);
    tokio::pin!(asking);
    // The connection carries the request; only the head of the answer counts. A connection that ends may have brought
    // the answer with its end.
    let response = tokio::select! {
        response = &mut asking => response,
        _ = connection => asking.await,
    };
    let response = response.map_err(text)?;
    match response.status().as_u16() {
        200..400 => Ok(()),
        code => Err(format!("HTTP probe failed with statuscode: {code}")),
    }
}

fn request(
    action: &HTTPGetAction,
    authority: &str,
    path: &str,
) -> Result<Request<Empty<Bytes>>, http::Error> {
    let (mut host, mut agent, mut accept) = (authority, "kube-probe/1.37", "*/*");
    let mut builder = Request::builder().method(Method::GET).uri(path);
    for pair in action.http_headers.iter().flatten() {
        match pair.name.to_ascii_lowercase().as_str() {
            "host" => host = &pair.value,
            "user-agent" => agent = &pair.value,
            "accept" => accept = &pair.value,
            _ => builder = builder.header(&pair.name, &pair.value),
        }
    }
    builder = builder.header(header::HOST, host).header(header::CONNECTION, "close");
    for (name, value) in [(header::USER_AGENT, agent), (header::ACCEPT, accept)] {
        if !value.is_empty() {
            builder = builder.header(name, value);
        }
    }
    builder.body(Empty::new())
}

async fn encrypt(tcp: TcpStream, target: &Target<'_>) -> Result<TlsStream<TcpStream>, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let schemes = provider.signature_verification_algorithms.supported_schemes();
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate(schemes)))
        .with_no_client_auth();
    let name = ServerName::IpAddress(target.ip.into());
    TlsConnector::from(Arc::new(config)).connect(name, tcp).await.map_err(|error| error.to_string())
}

/// Probes ask whether something answers, not who: upstream verifies no certificate here either.
#[derive(Debug)]
struct AnyCertificate(Vec<SignatureScheme>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.clone()
    }
}
