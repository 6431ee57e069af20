//! Requests that a node answers: logs, exec, attach, port-forward, and the proxies to nodes, pods and services. This
//! file says where each goes; `forward` takes it there.

use std::sync::Arc;

use edgek_api::resource::Resource;
use edgek_api::status::{About, Status};
use edgek_apiserver_admission::fields::Fields;
use edgek_apiserver_admission::{DryRun, Lookup};
use edgek_apiserver_authz::{Authorized, authorize};
use edgek_apiserver_registry::Key;
use http::{Response, StatusCode};
use serde_json::Value;

use crate::body::Body;
use crate::dial::Target;
use crate::error::{Rejection, forbidden};
use crate::forward::{Destination, forward, log_error};
use crate::info::ResourcePath;
use crate::query::Query;
use crate::route::Call;
use crate::server::Inner;
use crate::{answer, rest, subresource};

/// Answers a request for a subresource that a node serves.
pub(crate) async fn call(
    call: Call<'_>,
    path: &ResourcePath,
    resource: &Arc<Resource>,
) -> Result<Response<Body>, Rejection> {
    if call.query().get("dryRun").is_some() {
        return Err(Status::bad_request("dryRun is not supported").into());
    }
    if path.subresource == "log" {
        return log(call, path, resource).await;
    }
    may_run(&call, path)?;
    admit(call.server, call.authorized, &rest::key(path, resource), &path.subresource).await?;
    let server = call.server.clone();
    let destination = match path.subresource.as_str() {
        "proxy" if path.rest.is_empty() && call.info.verb == "get" => return Ok(with_slash(&call)),
        "proxy" => proxied(&call, path, resource)?,
        "portforward" => {
            let pod = subresource::decoded(&call, path, resource)?;
            let ports = call.query().all("ports").join(",");
            let query = if ports.is_empty() { String::new() } else { format!("?port={}", encode(&ports)) };
            kubelet(&pod, format!("/portForward/{}/{}{query}", path.namespace, path.name))?
        }
        action => {
            let pod = subresource::decoded(&call, path, resource)?;
            let container = container(&pod, &call.query().get("container").unwrap_or_default())?;
            let query = stream_query(call.query(), action);
            kubelet(&pod, format!("/{action}/{}/{}/{container}{query}", path.namespace, path.name))?
        }
    };
    forward(&server, destination, call.parts, call.body).await
}

/// WebSockets begin with a GET, but whoever runs commands in a pod needs more than the right to read.
fn may_run(call: &Call<'_>, path: &ResourcePath) -> Result<(), Rejection> {
    if call.info.verb != "get" || path.subresource == "proxy" {
        return Ok(());
    }
    let (user, target) = (call.authorized.user(), call.info.target_of("create"));
    match authorize(&*call.server.authorizer, user, &target) {
        Ok(_) => Ok(()),
        Err(denied) => Err(forbidden(user, &target, &denied.reason).into()),
    }
}

/// Admission also judges who connects to what.
async fn admit(
    server: &Inner,
    authorized: &Authorized,
    key: &Key<'_>,
    subresource: &str,
) -> Result<(), Rejection> {
    let admission = server.admission.admit(authorized, DryRun::No);
    server.registry.connect(&admission, key, subresource).await?;
    Ok(())
}

/// The kubelet of a pod's node.
fn kubelet(pod: &Value, path_and_query: String) -> Result<Destination, Rejection> {
    let node = pod.text("spec.nodeName");
    if node.is_empty() {
        return Err(Status::bad_request(format!(
            "pod {} does not have a host assigned",
            pod.text("metadata.name")
        ))
        .into());
    }
    Ok(Destination {
        target: Target::Kubelet { node: node.to_owned() },
        host: node.to_owned(),
        path_and_query,
    })
}

/// The container that is meant: the one named, or the only one.
fn container(pod: &Value, named: &str) -> Result<String, Rejection> {
    let pod_name = pod.text("metadata.name");
    let all = || {
        ["initContainers", "containers", "ephemeralContainers"]
            .into_iter()
            .flat_map(|list| pod.at("spec").items(list))
            .map(|container| container.text("name"))
    };
    if !named.is_empty() {
        return if all().any(|name| name == named) {
            Ok(named.to_owned())
        } else {
            Err(Status::bad_request(format!("container {named} is not valid for pod {pod_name}")).into())
        };
    }
    match pod.items("spec.containers") {
        [only] => Ok(only.text("name").to_owned()),
        [] => {
            Err(Status::bad_request(format!("a container name must be specified for pod {pod_name}")).into())
        }
        _ => {
            let names = all().collect::<Vec<_>>().join(" ");
            Err(Status::bad_request(format!(
                "a container name must be specified for pod {pod_name}, choose one of: [{names}]"
            ))
            .into())
        }
    }
}

/// The query of an exec or attach as the kubelet reads it.
fn stream_query(query: Query<'_>, action: &str) -> String {
    let mut parts = Vec::new();
    for (ours, theirs) in [("stdin", "input"), ("stdout", "output"), ("stderr", "error"), ("tty", "tty")] {
        if query.is_set(ours) {
            parts.push(format!("{theirs}=1"));
        }
    }
    if action == "exec" {
        parts.extend(query.all("command").iter().map(|word| format!("command={}", encode(word))));
    }
    if parts.is_empty() { String::new() } else { format!("?{}", parts.join("&")) }
}

/// Percent-encodes a query value.
fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

async fn log(
    call: Call<'_>,
    path: &ResourcePath,
    resource: &Arc<Resource>,
) -> Result<Response<Body>, Rejection> {
    let pod = subresource::decoded(&call, path, resource)?;
    let query = call.query();
    check_log_options(query)?;
    let container = container(&pod, &query.get("container").unwrap_or_default())?;
    if pod.text("spec.nodeName").is_empty() {
        // There is nothing to read yet, and no node to ask.
        return Ok(answer::text(StatusCode::OK, ""));
    }
    let mut parts = Vec::new();
    for flag in ["follow", "previous", "timestamps"] {
        if query.is_set(flag) {
            parts.push(format!("{flag}=true"));
        }
    }
    for value in ["sinceSeconds", "sinceTime", "tailLines", "limitBytes", "stream"] {
        if let Some(given) = query.get(value).filter(|given| !given.is_empty()) {
            parts.push(format!("{value}={}", encode(&given)));
        }
    }
    let query = if parts.is_empty() { String::new() } else { format!("?{}", parts.join("&")) };
    let destination =
        kubelet(&pod, format!("/containerLogs/{}/{}/{container}{query}", path.namespace, path.name))?;
    let server = call.server.clone();
    log_error(forward(&server, destination, call.parts, call.body).await?).await
}

fn check_log_options(query: Query<'_>) -> Result<(), Rejection> {
    let mut problems = edgek_api::field::ErrorList::default();
    let number = |name: &'static str| query.get(name).and_then(|text| text.parse::<i64>().ok());
    for (name, least, detail) in [
        ("tailLines", 0, "must be greater than or equal to 0"),
        ("limitBytes", 1, "must be greater than 0"),
        ("sinceSeconds", 1, "must be greater than 0"),
    ] {
        if let Some(value) = number(name).filter(|value| *value < least) {
            problems.invalid(&edgek_api::field::Path::Root(name), value, detail);
        }
    }
    if query.get("sinceSeconds").is_some() && query.get("sinceTime").is_some() {
        problems.forbidden(
            &edgek_api::field::Path::Root(""),
            "at most one of `sinceTime` or `sinceSeconds` may be specified",
        );
    }
    if problems.is_empty() {
        return Ok(());
    }
    Err(Status::invalid(About { group: "", resource: "PodLogOptions", name: "" }, &problems).into())
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

/// Where a proxy request goes.
fn proxied(call: &Call<'_>, path: &ResourcePath, resource: &Arc<Resource>) -> Result<Destination, Rejection> {
    let query = call.parts.uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    let rest = if path.rest.is_empty() { "/" } else { &path.rest };
    let path_and_query = format!("{rest}{query}");
    let (name, port) = name_and_port(&path.name)?;
    let key = Key { name, ..rest::key(path, resource) };
    let object = object(call.server, &key)?;
    if resource.plural == "nodes" {
        let node = name.to_owned();
        return Ok(Destination {
            target: Target::Kubelet { node: node.clone() },
            host: node,
            path_and_query,
        });
    }
    let (node, host, port) = if resource.plural == "pods" {
        let (host, port) = pod_address(&object, port)?;
        (object.text("spec.nodeName").to_owned(), host, port)
    } else {
        service_address(call.server, &object, port)?
    };
    let target = Target::Tcp { node, host: host.clone(), port };
    Ok(Destination { host: format!("{host}:{port}"), target, path_and_query })
}

fn object(server: &Inner, key: &Key<'_>) -> Result<Value, Rejection> {
    let entry =
        server.registry.get(key).ok_or_else(|| Status::not_found(About::object(key.resource, key.name)))?;
    serde_json::from_slice(entry.bytes()).map_err(|error| Status::internal(error).into())
}

/// `name`, `name:port` or `scheme:name:port`.
fn name_and_port(text: &str) -> Result<(&str, &str), Rejection> {
    let parts: Vec<&str> = text.split(':').collect();
    match parts.as_slice() {
        [name] => Ok((name, "")),
        [name, port] => Ok((name, port)),
        ["http" | "", name, port] => Ok((name, port)),
        _ => {
            Err(Status::bad_request(format!("invalid proxy request {text:?}: only http is supported")).into())
        }
    }
}

fn pod_address(pod: &Value, port: &str) -> Result<(String, u16), Rejection> {
    let ip = pod.text("status.podIP");
    if ip.is_empty() {
        return Err(Status::service_unavailable("address not allowed").into());
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
        first().unwrap_or(80)
    } else {
        port.parse().ok().or_else(named).unwrap_or_default()
    };
    match u16::try_from(number) {
        Ok(number) if number > 0 => Ok((ip.to_owned(), number)),
        _ => Err(Status::bad_request(format!("invalid port {port:?}")).into()),
    }
}

/// One ready endpoint of a service, by the name or number of one of its ports.
fn service_address(server: &Inner, service: &Value, port: &str) -> Result<(String, String, u16), Rejection> {
    let name = service.text("metadata.name");
    let unavailable = || {
        Rejection::from(Status::service_unavailable(format!("no endpoints available for service {name:?}")))
    };
    let ports = service.items("spec.ports");
    let wanted = ports.iter().find(|candidate| {
        (port.is_empty() && ports.len() == 1)
            || candidate.text("name") == port
            || candidate.number("port").is_some_and(|number| number.to_string() == port)
    });
    let wanted = wanted.ok_or_else(|| {
        Status::service_unavailable(format!("no service port {port:?} found for service {name:?}"))
    })?;
    for slice in server.registry.lookup().list(
        "discovery.k8s.io",
        "endpointslices",
        service.text("metadata.namespace"),
    ) {
        if slice.at("metadata.labels").get("kubernetes.io/service-name").is_none_or(|owner| owner != name) {
            continue;
        }
        let number = slice
            .items("ports")
            .iter()
            .find(|port| port.text("name") == wanted.text("name"))
            .and_then(|port| port.number("port"));
        let ready = slice
            .items("endpoints")
            .iter()
            .find(|endpoint| endpoint.at("conditions.ready") != &Value::Bool(false));
        let address = ready.and_then(|endpoint| endpoint.items("addresses").first()).and_then(Value::as_str);
        let number = number.and_then(|number| u16::try_from(number).ok());
        if let (Some(endpoint), Some(address), Some(number)) = (ready, address, number) {
            return Ok((endpoint.text("nodeName").to_owned(), address.to_owned(), number));
        }
    }
    Err(unavailable())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_container_is_the_named_one_or_the_only_one() {
        let one = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "a"}]}});
        let two = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "a"}, {"name": "b"}], "initContainers": [{"name": "i"}]}});
        assert_eq!(container(&one, "").unwrap(), "a");
        assert_eq!(container(&two, "i").unwrap(), "i");
        let message = |result: Result<String, Rejection>| match result {
            Err(Rejection::Status(status)) => status.message,
            _ => panic!("accepted"),
        };
        assert_eq!(
            message(container(&two, "")),
            "a container name must be specified for pod p, choose one of: [i a b]"
        );
        assert_eq!(message(container(&one, "x")), "container x is not valid for pod p");
    }

    #[test]
    fn the_kubelet_reads_its_own_names_of_streams() {
        let query =
            Query::new("container=a&stdin=true&stdout=true&tty=true&command=sh&command=-c&command=echo+hi");
        assert_eq!(
            stream_query(query, "exec"),
            "?input=1&output=1&tty=1&command=sh&command=-c&command=echo%20hi"
        );
        assert_eq!(stream_query(query, "attach"), "?input=1&output=1&tty=1");
    }
}
