//! `RequestInfo`: what a request asks for, read once from its method, path and query. Every layer of the chain uses it.
//!
//! The rules are those of upstream's `apiserver/pkg/endpoints/request/requestinfo.go`.

use std::borrow::Cow;

use edgek_apiserver_authz::Target;
use http::{Method, Uri};

use crate::query::Query;

/// The subresources of a namespace, which tell `/namespaces/x/status` from a resource inside the namespace.
const NAMESPACE_SUBRESOURCES: [&str; 2] = ["status", "finalize"];

/// What a request asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RequestInfo {
    /// The authorization verb: `get`, `list`, ...; for other paths the lower-case method.
    pub(crate) verb: &'static str,
    /// The path as sent, without the query.
    pub(crate) path: String,
    /// The object or collection, when the path is one of the resource API.
    pub(crate) resource: Option<ResourcePath>,
}

/// The parts of a path of the resource API. Absent parts are empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ResourcePath {
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) namespace: String,
    pub(crate) resource: String,
    pub(crate) name: String,
    pub(crate) subresource: String,
    /// What follows the subresource, with its leading slash: the path to proxy to.
    pub(crate) rest: String,
    /// The name that authorization sees: that of the path, or the one a list is narrowed to by its field selector.
    pub(crate) authorized_name: String,
    pub(crate) field_selector: String,
    pub(crate) label_selector: String,
}

impl RequestInfo {
    /// Reads a request's method, path and query.
    pub(crate) fn parse(method: &Method, uri: &Uri) -> Self {
        let path = uri.path().to_owned();
        let query = Query::new(uri.query().unwrap_or_default());
        match resource_path(&path, &query) {
            Some((mut resource, Prefix::None)) => {
                let verb = verb(method, &resource, &query);
                if matches!(verb, "list" | "watch" | "deletecollection") {
                    resource.narrow(&query);
                }
                Self { verb, path, resource: Some(resource) }
            }
            Some((resource, Prefix::Watch)) => Self { verb: "watch", path, resource: Some(resource) },
            None => Self { verb: lower_case(method), path, resource: None },
        }
    }

    /// Whether the answer may take as long as it likes: such requests have no deadline and no place in the in-flight
    /// limit.
    pub(crate) fn is_long_running(&self) -> bool {
        self.verb == "watch"
            || self.resource.as_ref().is_some_and(|path| {
                matches!(path.subresource.as_str(), "log" | "exec" | "attach" | "portforward" | "proxy")
            })
    }

    /// Whether the request only reads.
    pub(crate) fn is_read_only(&self) -> bool {
        matches!(self.verb, "get" | "list" | "watch" | "head" | "options")
    }

    /// The question for the authorizer.
    pub(crate) fn target(&self) -> Target<'_> {
        self.target_of(self.verb)
    }

    /// The question whether something else may be done with the same.
    pub(crate) fn target_of<'a>(&'a self, verb: &'a str) -> Target<'a> {
        match &self.resource {
            Some(path) => Target::Resource {
                verb,
                group: &path.group,
                version: &path.version,
                resource: &path.resource,
                subresource: &path.subresource,
                namespace: &path.namespace,
                name: &path.authorized_name,
                field_selector: &path.field_selector,
                label_selector: &path.label_selector,
            },
            None => Target::NonResource { verb, path: &self.path },
        }
    }
}

impl ResourcePath {
    /// Notes the selectors of a request on a collection, and the one name a field selector narrows it to.
    fn narrow(&mut self, query: &Query<'_>) {
        self.label_selector = query.get("labelSelector").unwrap_or_default().into_owned();
        self.field_selector = query.get("fieldSelector").unwrap_or_default().into_owned();
        let exact = self.field_selector.split(',').find_map(|term| {
            let value = term.strip_prefix("metadata.name=")?;
            Some(value.strip_prefix('=').unwrap_or(value))
        });
        if let Some(name) = exact.filter(|name| !name.is_empty() && !name.contains(['/', '%', '\\'])) {
            self.authorized_name = name.to_owned();
        }
    }
}

/// Whether the verb was given in the path, as in the old `/api/v1/watch/pods`.
enum Prefix {
    None,
    Watch,
}

fn resource_path(path: &str, _query: &Query<'_>) -> Option<(ResourcePath, Prefix)> {
    let (root, after) = split(path.trim_start_matches('/'));
    let (group, after) = match root {
        "api" => ("", after),
        "apis" => split(after),
        _ => return None,
    };
    let (version, after) = split(after);
    let (first, rest_of_path) = split(after);
    if version.is_empty() || first.is_empty() {
        return None;
    }
    let (prefix, after) = match first {
        "watch" if !rest_of_path.is_empty() => (Prefix::Watch, rest_of_path),
        _ => (Prefix::None, after),
    };

    let mut found =
        ResourcePath { group: decode(group), version: decode(version), ..ResourcePath::default() };
    let mut after = after;
    if let ("namespaces", below) = split(after) {
        let (namespace, below) = split(below);
        found.namespace = decode(namespace);
        if !below.is_empty() && !NAMESPACE_SUBRESOURCES.contains(&split(below).0) {
            after = below;
        }
    }
    let (resource, after) = split(after);
    let (name, after) = split(after);
    let (subresource, _) = split(after);
    found.resource = decode(resource);
    found.name = decode(name);
    found.authorized_name = found.name.clone();
    found.subresource = decode(subresource);
    found.rest = after[subresource.len()..].to_owned();
    Some((found, prefix))
}

/// The first segment and what follows its slash.
fn split(path: &str) -> (&str, &str) {
    path.split_once('/').unwrap_or((path, ""))
}

fn decode(segment: &str) -> String {
    crate::query::decode(segment, crate::query::Plus::Literal)
        .map_or_else(|| segment.to_owned(), Cow::into_owned)
}

fn verb(method: &Method, path: &ResourcePath, query: &Query<'_>) -> &'static str {
    match (method.as_str(), path.name.is_empty()) {
        ("GET" | "HEAD", true) if query.is_set("watch") => "watch",
        ("GET" | "HEAD", true) => "list",
        ("GET" | "HEAD", false) => "get",
        ("POST", _) => "create",
        ("PUT", _) => "update",
        ("PATCH", _) => "patch",
        ("DELETE", true) => "deletecollection",
        ("DELETE", false) => "delete",
        _ => "",
    }
}

fn lower_case(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "get",
        "HEAD" => "head",
        "POST" => "post",
        "PUT" => "put",
        "PATCH" => "patch",
        "DELETE" => "delete",
        "OPTIONS" => "options",
        "CONNECT" => "connect",
        "TRACE" => "trace",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(method: &str, uri: &str, expected: &str) {
        let info = RequestInfo::parse(&method.parse().unwrap(), &uri.parse().unwrap());
        let shown = match &info.resource {
            None => format!("{} {}", info.verb, info.path),
            Some(path) => format!(
                "{} {}/{} ns={} {} name={} sub={} rest={} authorized={}",
                info.verb,
                path.group,
                path.version,
                path.namespace,
                path.resource,
                path.name,
                path.subresource,
                path.rest,
                path.authorized_name
            ),
        };
        assert_eq!(shown, expected, "{method} {uri}");
    }

    #[test]
    fn a_path_and_a_method_say_what_is_asked_for() {
        check("GET", "/healthz", "get /healthz");
        check("GET", "/api/v1", "get /api/v1");
        check("GET", "/apis/apps/v1", "get /apis/apps/v1");
        check("GET", "/api/v1/pods", "list /v1 ns= pods name= sub= rest= authorized=");
        check("GET", "/api/v1/pods?watch=1", "watch /v1 ns= pods name= sub= rest= authorized=");
        check("GET", "/api/v1/pods?watch=false", "list /v1 ns= pods name= sub= rest= authorized=");
        check("GET", "/api/v1/watch/pods", "watch /v1 ns= pods name= sub= rest= authorized=");
        check("GET", "/api/v1/namespaces/a", "get /v1 ns=a namespaces name=a sub= rest= authorized=a");
        check(
            "PUT",
            "/api/v1/namespaces/a/status",
            "update /v1 ns=a namespaces name=a sub=status rest= authorized=a",
        );
        check("GET", "/api/v1/namespaces/a/pods/b", "get /v1 ns=a pods name=b sub= rest= authorized=b");
        check(
            "GET",
            "/api/v1/namespaces/a/pods/b/proxy/x/y?z=1",
            "get /v1 ns=a pods name=b sub=proxy rest=/x/y authorized=b",
        );
        check(
            "DELETE",
            "/apis/apps/v1/namespaces/a/deployments",
            "deletecollection apps/v1 ns=a deployments name= sub= rest= authorized=",
        );
        check(
            "PATCH",
            "/apis/apps/v1/namespaces/a/deployments/d/scale",
            "patch apps/v1 ns=a deployments name=d sub=scale rest= authorized=d",
        );
        check("GET", "/api/v1/nodes/n%3A1", "get /v1 ns= nodes name=n:1 sub= rest= authorized=n:1");
    }

    #[test]
    fn a_field_selector_on_the_name_narrows_what_is_authorised() {
        check(
            "GET",
            "/api/v1/namespaces/a/pods?fieldSelector=metadata.name%3Db",
            "list /v1 ns=a pods name= sub= rest= authorized=b",
        );
    }
}
