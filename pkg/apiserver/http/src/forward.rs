//! Forwarding a request over a dialled stream as HTTP/1.1, upgrades included.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use edgek_api::status::Status;
use http::header::{CONNECTION, HOST, HeaderName, TRANSFER_ENCODING, UPGRADE};
use http::request::Parts;
use http::{Request, Response, StatusCode, Version};
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use tokio_rustls::TlsConnector;

use crate::body::{Body, BoxError, empty};
use crate::dial::{BoxedIo, Target};
use crate::error::Rejection;
use crate::server::Inner;

/// Where a request goes.
#[derive(Debug)]
pub(crate) struct Destination {
    pub(crate) target: Target,
    /// The `Host` header.
    pub(crate) host: String,
    pub(crate) path_and_query: String,
    /// Whether TLS is spoken there, whoever it is.
    pub(crate) tls: bool,
}

/// The body of a request that is sent on.
type Outgoing = UnsyncBoxBody<Bytes, io::Error>;

/// The most that is read of an error's text.
const MAX_ERROR: usize = 50_000;

/// Sends a request on and passes the answer back. When both sides agree to upgrade, their streams are joined until
/// either ends.
pub(crate) async fn forward(
    server: &Inner,
    to: Destination,
    mut parts: Parts,
    body: Body,
) -> Result<Response<Body>, Rejection> {
    let failed = |error: &dyn std::fmt::Display| {
        Rejection::from(Status::internal(format!("error dialing backend: {error}")))
    };
    let mut stream = server.dial.dial(to.target).await.map_err(|error| failed(&error))?;
    if to.tls {
        stream = encrypt(stream, &to.host).await.map_err(|error| failed(&error))?;
    }
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| failed(&error))?;
    server.scope.spawn("forwarded connection", async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "forwarded connection ended early");
        }
    });
    let ours = parts.extensions.remove::<OnUpgrade>();
    let request = outgoing(parts, &to.host, &to.path_and_query, body)?;
    let mut response = sender.send_request(request).await.map_err(|error| failed(&error))?;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        strip(response.headers_mut());
        return Ok(response.map(|body| body.map_err(|error| -> BoxError { Box::new(error) }).boxed_unsync()));
    }
    let theirs = hyper::upgrade::on(&mut response);
    server.scope.spawn("forwarded stream", async move {
        let Some(ours) = ours else { return };
        if let (Ok(ours), Ok(theirs)) = tokio::join!(ours, theirs) {
            let (mut ours, mut theirs) = (TokioIo::new(ours), TokioIo::new(theirs));
            // Either side may simply go away; that is how a stream ends.
            let _ = tokio::io::copy_bidirectional(&mut ours, &mut theirs).await;
        }
    });
    let (parts, _) = response.into_parts();
    Ok(Response::from_parts(parts, empty()))
}

/// TLS that believes whoever answers, as upstream's proxies.
async fn encrypt(stream: BoxedIo, host: &str) -> io::Result<BoxedIo> {
    let config = edgek_base_pki::believing_anybody().map_err(io::Error::other)?;
    let host = host.rsplit_once(':').map_or(host, |(host, _)| host);
    let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned()).map_err(io::Error::other)?;
    Ok(Box::new(TlsConnector::from(Arc::new(config)).connect(name, stream).await?))
}

fn outgoing(
    parts: Parts,
    host: &str,
    path_and_query: &str,
    body: Body,
) -> Result<Request<Outgoing>, Rejection> {
    let body = body.map_err(io::Error::other).boxed_unsync();
    let bad = |error: http::Error| Rejection::from(Status::bad_request(error.to_string()));
    let mut request = Request::builder()
        .method(parts.method)
        .uri(path_and_query)
        .version(Version::HTTP_11)
        .body(body)
        .map_err(bad)?;
    let upgrades = parts.headers.contains_key(UPGRADE);
    *request.headers_mut() = parts.headers;
    if !upgrades {
        strip(request.headers_mut());
    }
    // Who acts as whom has been settled here; the node knows only its API server.
    let acting: Vec<HeaderName> =
        request.headers().keys().filter(|name| name.as_str().starts_with("impersonate-")).cloned().collect();
    for name in acting {
        request.headers_mut().remove(name);
    }
    let host = host.parse().map_err(|_| Status::bad_request("invalid host"))?;
    request.headers_mut().insert(HOST, host);
    Ok(request)
}

/// Takes away the headers that are about one connection only.
fn strip(headers: &mut http::HeaderMap) {
    for name in [
        CONNECTION,
        UPGRADE,
        TRANSFER_ENCODING,
        HeaderName::from_static("keep-alive"),
        HeaderName::from_static("proxy-connection"),
    ] {
        headers.remove(name);
    }
}

/// Turns a kubelet's error about a log into one of the API's.
pub(crate) async fn log_error(response: Response<Body>) -> Result<Response<Body>, Rejection> {
    let code = response.status();
    if code.is_success() || code == StatusCode::SWITCHING_PROTOCOLS {
        return Ok(response);
    }
    let text = beginning(response.into_body()).await;
    Err(match code {
        StatusCode::BAD_REQUEST => Status::bad_request(text).into(),
        StatusCode::NOT_FOUND => Status::failure(
            404,
            edgek_api::status::Reason::NotFound,
            format!("the server could not find the requested resource ({text})"),
        )
        .into(),
        _ => Status::internal(text).into(),
    })
}

/// The first bytes of a body, as text.
async fn beginning(mut body: Body) -> String {
    let mut text = Vec::new();
    while let Some(Ok(frame)) = body.frame().await {
        let Ok(data) = frame.into_data() else { continue };
        text.extend_from_slice(&data[..data.len().min(MAX_ERROR - text.len())]);
        if text.len() == MAX_ERROR {
            break;
        }
    }
    String::from_utf8_lossy(&text).trim_end().to_owned()
}
