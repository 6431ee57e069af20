//! The proxies to nodes, pods and services: any method, any path below them, upgrades too (upstream:
//! `apimachinery/pkg/util/proxy`).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use edgek_api::resource::Resource;
use edgek_api::status::{About, Status};
use edgek_apiserver_admission::Lookup;
use edgek_apiserver_admission::fields::Fields;
use edgek_apiserver_registry::Key;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HOST, LOCATION};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use serde_json::Value;

use crate::body::{self, Body, full};
use crate::dial::Target;
use crate::error::Rejection;
use crate::forward::{Destination, forward};
use crate::info::ResourcePath;
use crate::links::Page;
use crate::route::Call;
use crate::server::Inner;
use crate::{answer, node, rest};

/// The port of the kubelet API.
const KUBELET: &str = "10250";

/// Passes a request on to a node, a pod or a service, and its answer back.
pub(crate) async fn call(
    mut call: Call<'_>,
    path: &ResourcePath,
    resource: &Arc<Resource>,
) -> Result<Response<Body>, Rejection> {
    if call.query().get("dryRun").is_some() {
        return Err(Status::bad_request("dryRun is not supported").into());
    }
    node::admit(call.server, call.authorized, &rest::key(path, resource), &path.subresource).await?;
    let mut destination = destination(&call, path, resource)?;
    if path.rest.is_empty() && call.info.verb == "get" {
        return Ok(with_slash(&call));
    }
    let server = call.server.clone();
    let prefix = call.info.path.strip_suffix(&path.rest).unwrap_or(&call.info.path).to_owned();
    // Backends act on the name that the client used.
    let behind = destination.host.clone();
    if matches!(destination.target, Target::Tcp { .. }) {
        destination.host = asked_host(&call).unwrap_or(destination.host);
    }
    let page = Page { prefix: &prefix, hosts: [&behind, &destination.host.clone()] };
    prepare(&mut call.parts.headers, &format!("{prefix}{}", path.rest));
    let response = forward(&server, destination, call.parts, call.body).await.map_err(unreachable)?;
    rewrite(response, &page).await
}

fn unreachable(rejection: Rejection) -> Rejection {
    match rejection {
        Rejection::Status(status) if status.code == 500 => {
            let reason = status.message.trim_start_matches("Internal error occurred: ");
            let reason = reason.trim_start_matches("error dialing backend: ");
            Status::service_unavailable(format!("error trying to reach service: {reason}")).into()
        }
        other => other,
    }
}

fn asked_host(call: &Call<'_>) -> Option<String> {
    let header = call.parts.headers.get(HOST).and_then(|host| host.to_str().ok()).map(str::to_owned);
    header.or_else(|| call.parts.uri.authority().map(ToString::to_string))
}

/// What backends are told, and what they must not do: a page that is compressed has no links to rewrite.
fn prepare(headers: &mut HeaderMap, path: &str) {
    headers.remove(ACCEPT_ENCODING);
    if let Ok(path) = HeaderValue::from_str(path) {
        headers.insert(HeaderName::from_static("x-forwarded-uri"), path);
    }
}

async fn rewrite(response: Response<Body>, page: &Page<'_>) -> Result<Response<Body>, Rejection> {
    let (mut parts, body) = response.into_parts();
    let text = |headers: &HeaderMap, name| {
        headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok()).map(str::to_owned)
    };
    if let Some(location) = text(&parts.headers, LOCATION) {
        if let Some(Ok(location)) = page.rewritten(&location).map(|location| location.parse()) {
            parts.headers.insert(LOCATION, location);
        }
        return Ok(Response::from_parts(parts, body));
    }
    let media_type = text(&parts.headers, CONTENT_TYPE).unwrap_or_default();
    let is_html = media_type.split(';').next().is_some_and(|kind| kind.trim() == "text/html");
    if !is_html || parts.headers.contains_key(CONTENT_ENCODING) {
        return Ok(Response::from_parts(parts, body));
    }
    let html = body::read(body).await;
    let html = html.map_err(|error| Status::service_unavailable(format!("reading the page: {error}")))?;
    let html = page.rewrite(&html);
    // The answer to HEAD has a length and no body.
    if !html.is_empty() {
        parts.headers.insert(CONTENT_LENGTH, HeaderValue::from(html.len()));
    }
    Ok(Response::from_parts(parts, full(html)))
}

/// The root of what is proxied ends in a slash, so that relative links below it work.
fn with_slash(call: &Call<'_>) -> Response<Body> {
    let query = call.parts.uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    let mut response = answer::text(StatusCode::MOVED_PERMANENTLY, "");
    if let Ok(location) = format!("{}/{query}", call.info.path).parse() {
        response.headers_mut().insert(http::header::LOCATION, location);
    }
    response
}

/// What the name of a proxied object says: `name`, `name:port` or `scheme:name:port`.
struct Named<'a> {
    tls: bool,
    name: &'a str,
    port: &'a str,
}

impl<'a> Named<'a> {
    fn parse(text: &'a str, kind: &str) -> Result<Self, Rejection> {
        let parts: Vec<&str> = text.split(':').collect();
        let (scheme, name, port) = match parts.as_slice() {
            [name] => ("", *name, ""),
            [name, port] => ("", *name, *port),
            [scheme, name, port] => (*scheme, *name, *port),
            _ => ("?", "", ""),
        };
        if name.is_empty() || !["", "http", "https"].contains(&scheme) {
            return Err(Status::bad_request(format!("invalid {kind} request {text:?}")).into());
        }
        Ok(Self { tls: scheme == "https", name, port })
    }
}

/// Where a request goes.
fn destination(
    call: &Call<'_>,
    path: &ResourcePath,
    resource: &Arc<Resource>,
) -> Result<Destination, Rejection> {
    let query = call.parts.uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    let rest = if path.rest.is_empty() { "/" } else { &path.rest };
    let path_and_query = format!("{rest}{query}");
    let kind = resource.plural.trim_end_matches('s');
    let Named { tls, name, port } = Named::parse(&path.name, kind)?;
    let object = object(call.server, &Key { name, ..rest::key(path, resource) })?;
    if resource.plural == "nodes" && ["", KUBELET].contains(&port) {
        let target = Target::Kubelet { node: name.to_owned() };
        return Ok(Destination { target, host: name.to_owned(), path_and_query, tls: false });
    }
    let (node, host, port) = match &*resource.plural {
        "nodes" => node_address(&object, name, port)?,
        "pods" => {
            let (host, port) = pod_address(&object, port, tls)?;
            (object.text("spec.nodeName").to_owned(), host, port)
        }
        _ => service_address(call.server, &object, port)?,
    };
    let target = Target::Tcp { node, host: host.clone(), port };
    Ok(Destination { target, host: format!("{host}:{port}"), path_and_query, tls })
}

fn object(server: &Inner, key: &Key<'_>) -> Result<Value, Rejection> {
    let entry =
        server.registry.get(key).ok_or_else(|| Status::not_found(About::object(key.resource, key.name)))?;
    serde_json::from_slice(entry.bytes()).map_err(|error| Status::internal(error).into())
}

/// A port of a node that is not the kubelet's.
fn node_address(node: &Value, name: &str, port: &str) -> Result<(String, String, u16), Rejection> {
    let addresses = node.items("status.addresses");
    let internal = addresses.iter().find(|address| address.text("type") == "InternalIP");
    let address = internal.map(|address| address.text("address")).filter(|address| !address.is_empty());
    let address = address.ok_or_else(|| Status::bad_request("address not allowed"))?;
    let port = port.parse().map_err(|_| Status::bad_request(format!("invalid node request {name:?}")))?;
    Ok((name.to_owned(), address.to_owned(), port))
}

fn pod_address(pod: &Value, port: &str, tls: bool) -> Result<(String, u16), Rejection> {
    let ip = pod.text("status.podIP");
    if ip.is_empty() {
        return Err(Status::bad_request("address not allowed").into());
    }
    let first = || {
        pod.items("spec.containers")
            .iter()
            .flat_map(|container| container.items("ports"))
            .find_map(|port| port.number("containerPort"))
    };
    let named = || {
        let ports = pod.items("spec.containers").iter().flat_map(|container| container.items("ports"));
        ports
            .into_iter()
            .find(|candidate| candidate.text("name") == port)
            .and_then(|port| port.number("containerPort"))
    };
    let number = if port.is_empty() {
        first().unwrap_or(if tls { 443 } else { 80 })
    } else {
        port.parse().ok().or_else(named).unwrap_or_default()
    };
    match u16::try_from(number) {
        Ok(number) if number > 0 => Ok((ip.to_owned(), number)),
        _ => Err(Status::bad_request(format!("invalid port {port:?}")).into()),
    }
}

/// One of the ready endpoints of a service, by the name or number of one of its ports; the next time another one.
fn service_address(server: &Inner, service: &Value, port: &str) -> Result<(String, String, u16), Rejection> {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let name = service.text("metadata.name");
    let ports = service.items("spec.ports");
    let wanted = ports.iter().find(|candidate| {
        (port.is_empty() && ports.len() == 1)
            || candidate.text("name") == port
            || candidate.number("port").is_some_and(|number| number.to_string() == port)
    });
    let wanted = wanted.ok_or_else(|| {
        Status::service_unavailable(format!("no service port {port:?} found for service {name:?}"))
    })?;
    let namespace = service.text("metadata.namespace");
    let slices = server.registry.lookup().list("discovery.k8s.io", "endpointslices", namespace);
    let of_service = slices.iter().filter(|slice| {
        slice.at("metadata.labels").get("kubernetes.io/service-name").is_some_and(|owner| owner == name)
    });
    let mut endpoints: Vec<_> = of_service.flat_map(|slice| ready(slice, wanted.text("name"))).collect();
    if endpoints.is_empty() {
        let text = format!("no endpoints available for service {name:?}");
        return Err(Status::service_unavailable(text).into());
    }
    let next = NEXT.fetch_add(1, Ordering::Relaxed) % endpoints.len();
    Ok(endpoints.swap_remove(next))
}

/// The node, the address and the port of each ready endpoint of a slice that has a port of this name.
fn ready(slice: &Value, port: &str) -> Vec<(String, String, u16)> {
    let number = slice.items("ports").iter().find(|candidate| candidate.text("name") == port);
    let number = number.and_then(|port| port.number("port")).and_then(|number| u16::try_from(number).ok());
    let Some(number) = number else { return Vec::new() };
    let endpoints = slice.items("endpoints").iter();
    let ready = endpoints.filter(|endpoint| endpoint.at("conditions.ready") != &Value::Bool(false));
    let address = |endpoint: &Value| {
        let address = endpoint.items("addresses").first()?.as_str()?.to_owned();
        Some((endpoint.text("nodeName").to_owned(), address, number))
    };
    ready.filter_map(address).collect()
}
