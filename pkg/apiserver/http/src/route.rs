//! Routing: from a request that passed the chain to what answers it.

use std::pin::Pin;
use std::sync::Arc;

use edgek_api::schema::GroupVersionKind;
use edgek_api::status::Status;
use edgek_apiserver_authz::Authorized;
use http::request::Parts;
use http::{Method, Response, StatusCode};

use crate::body::Body;
use crate::decode::Expected;
use crate::error::Rejection;
use crate::info::RequestInfo;
use crate::negotiate::Accept;
use crate::query::Query;
use crate::server::Inner;
use crate::{answer, documents, health, rest, tunnel};

/// One authorised request.
pub(crate) struct Call<'a> {
    pub(crate) server: &'a Arc<Inner>,
    pub(crate) info: &'a RequestInfo,
    pub(crate) parts: Parts,
    pub(crate) body: Body,
    pub(crate) accept: &'a Accept,
    pub(crate) authorized: &'a Authorized,
}

impl Call<'_> {
    /// The request's query.
    pub(crate) fn query(&self) -> Query<'_> {
        Query::new(self.parts.uri.query().unwrap_or_default())
    }
}

impl Inner {
    /// What a body of a kind looks like.
    pub(crate) fn expected(&self, gvk: GroupVersionKind) -> Result<Expected, Rejection> {
        match self.schema.by_kind(&gvk.group, &gvk.version, &gvk.kind) {
            Some(type_id) => Ok(Expected { schema: self.schema, type_id, gvk }),
            None => Err(Status::internal(format!("no type is known for {gvk}")).into()),
        }
    }

    /// What a body of one of the options of `meta.k8s.io/v1` looks like.
    pub(crate) fn expected_meta(&self, kind: &'static str) -> Result<Expected, Rejection> {
        let gvk = GroupVersionKind { group: "meta.k8s.io".into(), version: "v1".into(), kind: kind.into() };
        let type_id =
            self.schema.by_kind("meta.k8s.io", "v1", kind).or_else(|| self.schema.by_kind("", "v1", kind));
        type_id
            .map(|type_id| Expected { schema: self.schema, type_id, gvk })
            .ok_or_else(|| Status::internal(format!("no type is known for {kind}")).into())
    }
}

/// The answer to a path that does not take this method.
pub(crate) fn method_not_allowed() -> Rejection {
    let reason = edgek_api::status::Reason::MethodNotAllowed;
    Status::failure(405, reason, "the server does not allow this method on the requested resource")
        .with_causes(Vec::new())
        .into()
}

/// Answers an authorised request.
pub(crate) fn route<'a>(
    call: Call<'a>,
) -> Pin<Box<dyn Future<Output = Result<Response<Body>, Rejection>> + Send + 'a>> {
    Box::pin(dispatch(call))
}

async fn dispatch(call: Call<'_>) -> Result<Response<Body>, Rejection> {
    if call.parts.method == Method::CONNECT {
        return tunnel::open(call);
    }
    if let Some(path) = &call.info.resource {
        let resource = call
            .server
            .catalog
            .find(&path.group, &path.version, &path.resource)
            .ok_or_else(|| no_such_path(call.server, &call.info.path))?;
        if call.parts.method == Method::HEAD && path.subresource != "proxy" {
            return Err(method_not_allowed());
        }
        return rest::call(call, path, resource).await;
    }
    let path = call.info.path.as_str();
    let reads = [Method::GET, Method::HEAD].contains(&call.parts.method);
    if let Some(response) = health::answer(call.server, path, call.query()) {
        return Ok(response);
    }
    if path.trim_end_matches('/') == "/metrics" {
        return Ok(answer::bytes(
            StatusCode::OK,
            "text/plain; version=0.0.4; charset=utf-8",
            edgek_base_telemetry::metrics::render(),
        ));
    }
    if path == "/cacerts" && reads {
        return Ok(answer::text(StatusCode::OK, call.server.ca.clone()));
    }
    let ask = documents::Ask { accept: call.accept, headers: &call.parts.headers, query: call.query() };
    match documents::answer(call.server, path, &ask) {
        Some(_) if !reads && documents::minds_method(path) => Err(method_not_allowed()),
        Some(answer) => answer,
        None => Err(no_such_path(call.server, path)),
    }
}

/// The answer to a path that leads nowhere: what is below a known group is answered for the group.
fn no_such_path(server: &Inner, path: &str) -> Rejection {
    let mut steps = path.trim_start_matches('/').split('/');
    let known = match (steps.next(), steps.next(), steps.next()) {
        (Some("api"), Some(_), _) => true,
        (Some("apis"), Some(group), Some(_)) => server.catalog.iter().any(|resource| resource.group == group),
        _ => false,
    };
    if known { Status::no_such_resource().into() } else { Rejection::NoSuchPath }
}
