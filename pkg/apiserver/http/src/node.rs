//! Requests that a node answers: logs, exec, attach and port-forward. This file says where each goes; `forward` takes it
//! there.

use std::sync::Arc;

use edgek_api::resource::Resource;
use edgek_api::status::{About, Status};
use edgek_apiserver_admission::DryRun;
use edgek_apiserver_admission::fields::Fields;
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
    may_run(&call)?;
    admit(call.server, call.authorized, &rest::key(path, resource), &path.subresource).await?;
    let server = call.server.clone();
    let destination = match path.subresource.as_str() {
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
fn may_run(call: &Call<'_>) -> Result<(), Rejection> {
    if call.info.verb != "get" {
        return Ok(());
    }
    let (user, target) = (call.authorized.user(), call.info.target_of("create"));
    match authorize(&*call.server.authorizer, user, &target) {
        Ok(_) => Ok(()),
        Err(denied) => Err(forbidden(user, &target, &denied.reason).into()),
    }
}

/// Admission also judges who connects to what.
pub(crate) async fn admit(
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
        tls: false,
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
