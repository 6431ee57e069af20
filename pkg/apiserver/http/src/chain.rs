//! The request chain: every request passes these layers in this order, whether it came over TLS or from inside the
//! process.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use edgek_api::status::Status;
use edgek_apiserver_authn::User;
use edgek_apiserver_authz::authorize;
use http::request::Parts;
use http::{Request, Response};
use tokio::time::Instant;

use crate::body::Body;
use crate::error::{Rejection, forbidden};
use crate::impersonate::impersonate;
use crate::info::RequestInfo;
use crate::listen::PeerCertificates;
use crate::negotiate::Accept;
use crate::route::{Call, route};
use crate::server::Inner;
use crate::{answer, metrics};

/// Upstream's `--request-timeout`: no answer that is not a stream takes longer.
const DEADLINE: Duration = Duration::from_secs(60);

/// Answers one request. The future is boxed: it is large, and its callers need to know that it is `Send`.
pub(crate) fn handle(
    server: Arc<Inner>,
    request: Request<Body>,
) -> Pin<Box<dyn Future<Output = Response<Body>> + Send>> {
    Box::pin(async move { answer(&server, request).await })
}

async fn answer(server: &Arc<Inner>, request: Request<Body>) -> Response<Body> {
    let started = Instant::now();
    // What is asked for, and in which form, is read once, before anything that depends on it.
    let info = RequestInfo::parse(request.method(), request.uri());
    let accept = Accept::of(request.headers(), request.uri());
    let head = request.method() == http::Method::HEAD;
    let answered = pass(server, request, &info, &accept).await;
    // Errors become bodies here, in the format the client accepts, so that no layer needs to know of formats.
    let response = answered.unwrap_or_else(|rejection| answer::rejection(&rejection, &accept));
    metrics::count(&info, response.status(), started.elapsed());
    if head { answer::without_body(response) } else { response }
}

async fn pass(
    server: &Arc<Inner>,
    request: Request<Body>,
    info: &RequestInfo,
    accept: &Accept,
) -> Result<Response<Body>, Rejection> {
    let (mut parts, body) = request.into_parts();
    // The limit comes before authentication: a flood of strangers must not cost a signature check each.
    let _place = server.limits.enter(info)?;
    let user = authenticate(server, &parts).await?;
    // Credentials end here: nothing behind this line may forward them to a node or a pod.
    parts.headers.remove(http::header::AUTHORIZATION);
    // Acting as somebody else is a right of the one who authenticated.
    let user = impersonate(&*server.authorizer, user, &parts.headers)?;
    let target = info.target();
    let authorized = authorize(&*server.authorizer, &user, &target)
        .map_err(|denied| Rejection::from(forbidden(&user, &target, &denied.reason)))?;
    let deadline = if info.is_long_running() { None } else { Some(DEADLINE) };
    let call = Call { server, info, parts, body, accept, authorized: &authorized };
    match deadline {
        None => route(call).await,
        Some(deadline) => tokio::time::timeout(deadline, route(call)).await.unwrap_or_else(|_| {
            Err(Status::timeout("request did not complete within the allotted timeout", 0).into())
        }),
    }
}

/// Who asks: a caller inside the process is known, any other is who its credentials say.
async fn authenticate(server: &Inner, parts: &Parts) -> Result<Arc<User>, Rejection> {
    if let Some(user) = parts.extensions.get::<Arc<User>>() {
        return Ok(user.clone());
    }
    let certificates = parts.extensions.get::<PeerCertificates>();
    let certificates = certificates.map_or(&[][..], |certificates| &certificates.0);
    match server.authenticator.authenticate(parts, certificates).await {
        Ok(Some(user)) => Ok(user),
        Ok(None) if server.anonymous_allowed(parts.uri.path()) => Ok(Arc::new(User::anonymous())),
        Ok(None) => Err(Status::unauthorized("Unauthorized").into()),
        Err(error) => {
            tracing::warn!(error = %edgek_base_telemetry::Chain(&error), "unable to authenticate the request");
            Err(Status::unauthorized("Unauthorized").into())
        }
    }
}
