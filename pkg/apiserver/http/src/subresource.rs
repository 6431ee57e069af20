//! Subresources, and the resources that are only answered, never stored.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use edgek_api::resource::Resource;
use edgek_api::schema::GroupVersionKind;
use edgek_api::status::{About, Status};
use edgek_api::time;
use edgek_apiserver_admission::DryRun;
use edgek_apiserver_admission::fields::Fields;
use edgek_apiserver_authn::{BoundObject, ObjectRef};
use edgek_apiserver_registry::{ChangeScale, DeleteOptions, Key, Part, Patch, Replace, scale};
use edgek_store_watch::{List, Revision};
use http::{Response, StatusCode};
use serde_json::{Value, json};

use crate::body::{self, Body};
use crate::error::Rejection;
use crate::info::ResourcePath;
use crate::negotiate::{Output, body_format};
use crate::options::WriteOptions;
use crate::rest::{self, existing, key};
use crate::route::{Call, method_not_allowed};
use crate::{answer, decode, node, proxy, review};

/// Answers a request for a subresource.
pub(crate) async fn call(
    call: Call<'_>,
    path: &ResourcePath,
    resource: &Arc<Resource>,
) -> Result<Response<Body>, Rejection> {
    let subresource = resource.subresource(&path.subresource).ok_or_else(Status::no_such_resource)?;
    if path.subresource == "proxy" {
        return proxy::call(call, path, resource).await;
    }
    let verb = call.info.verb;
    if !subresource.serves(verb) {
        return Err(method_not_allowed());
    }
    if !path.rest.is_empty() {
        return Err(Status::no_such_resource().into());
    }
    match (path.subresource.as_str(), verb) {
        ("log" | "exec" | "attach" | "portforward", _) => node::call(call, path, resource).await,
        ("scale", "get") => {
            let output = call.accept.plain()?;
            let workload = decoded(&call, path, resource)?;
            Ok(show(&call, StatusCode::OK, &scale::of(&workload), output))
        }
        ("scale", _) => write_scale(call, path, resource).await,
        ("binding", _) => bind(call, key(path, resource)).await,
        ("eviction", _) => evict(call, path, resource).await,
        ("token", _) => token(call, path, resource).await,
        (_, "get") => {
            let output = call.accept.object(resource)?;
            let stored = existing(&call, path, resource)?;
            Ok(crate::show::object(call.server, StatusCode::OK, resource, &stored, output))
        }
        (name, verb) => match (Part::of(name), verb) {
            (Some(part), "update") => rest::update(call, path, resource, part).await,
            (Some(part), "patch") => rest::patch(call, path, resource, part).await,
            _ => Err(method_not_allowed()),
        },
    }
}

/// Answers a request for a resource that is never stored.
pub(crate) async fn virtual_resource(
    call: Call<'_>,
    path: &ResourcePath,
    resource: &Arc<Resource>,
) -> Result<Response<Body>, Rejection> {
    match (&*resource.group, &*resource.plural, call.info.verb) {
        ("", "bindings", "create") => {
            let (binding, dry_run) = read(
                &call.server.expected(resource.gvk())?,
                call.parts.headers.clone(),
                call.query_text(),
                call.body,
            )
            .await?;
            let pods = call.server.catalog.find("", "v1", "pods").ok_or(Rejection::NoSuchPath)?;
            let admission = call.server.admission.admit(call.authorized, dry_run);
            let pod = Key { resource: pods, namespace: &path.namespace, name: binding.text("metadata.name") };
            call.server.registry.bind(&admission, pod, &binding).await?;
            Ok(created(call.accept))
        }
        // The parts whose health this resource told are parts of this process: there is nothing to tell.
        ("", "componentstatuses", "list") => {
            let output = call.accept.list(resource)?;
            let list = List { revision: Revision(0), items: Vec::new(), token: None, remaining: None };
            Ok(crate::show::list(call.server, resource, list, output))
        }
        ("authentication.k8s.io" | "authorization.k8s.io", _, "create") => {
            review::call(call, path, resource).await
        }
        _ => Err(Rejection::NoSuchPath),
    }
}

impl Call<'_> {
    /// The request's query, owned, for when the body is about to be taken.
    pub(crate) fn query_text(&self) -> String {
        self.parts.uri.query().unwrap_or_default().to_owned()
    }
}

/// Reads the body and options of a create.
pub(crate) async fn read(
    expected: &decode::Expected,
    headers: http::HeaderMap,
    query: String,
    body: Body,
) -> Result<(Value, DryRun), Rejection> {
    let format = body_format(&headers)?;
    let options = WriteOptions::parse(crate::query::Query::new(&query), "CreateOptions")?;
    let bytes = body::read(body).await?;
    let decoded = decode::body(&bytes, format, expected, options.unknown)?;
    Ok((decoded.value, options.dry_run))
}

/// A status of success for what was created, as bindings and evictions answer.
fn created(accept: &crate::negotiate::Accept) -> Response<Body> {
    let mut status = Status::success(About::default(), "");
    status.details = None;
    status.code = 201;
    answer::status(&status, accept)
}

/// A value of any built-in kind.
pub(crate) fn show(call: &Call<'_>, code: StatusCode, value: &Value, output: Output) -> Response<Body> {
    let type_id = call.server.schema.by_api_version(value.text("apiVersion"), value.text("kind"));
    answer::value(code, value, call.server.schema, type_id, output)
}

/// The object of a path, with its resource version.
pub(crate) fn decoded(
    call: &Call<'_>,
    path: &ResourcePath,
    resource: &Arc<Resource>,
) -> Result<Value, Rejection> {
    let stored = existing(call, path, resource)?;
    serde_json::from_slice(&stored.0).map_err(|error| Status::internal(error).into())
}

async fn write_scale(
    call: Call<'_>,
    path: &ResourcePath,
    resource: &Arc<Resource>,
) -> Result<Response<Body>, Rejection> {
    let patch = match call.info.verb {
        "patch" => Some(rest::patch_kind(&call.parts.headers)?),
        _ => None,
    };
    let output = call.accept.plain()?;
    let kind = if patch.is_some() { "PatchOptions" } else { "UpdateOptions" };
    let options = WriteOptions::parse(call.query(), kind)?;
    let gvk = GroupVersionKind { group: "autoscaling".into(), version: "v1".into(), kind: "Scale".into() };
    let expected = call.server.expected(gvk)?;
    let headers = call.parts.headers.clone();
    let bytes = body::read(call.body).await?;
    let admission = call.server.admission.admit(call.authorized, options.dry_run);
    let key = key(path, resource);
    let updated = if let Some(kind) = patch {
        let change = Patch {
            kind,
            body: &bytes,
            schema: expected.schema,
            type_id: expected.type_id,
            unknown: options.unknown,
            admission: &admission,
        };
        call.server.registry.update(&admission, key, Part::Scale, &ChangeScale(&change)).await?
    } else {
        let decoded = decode::body(&bytes, body_format(&headers)?, &expected, options.unknown)?;
        decoded.warnings.into_iter().for_each(|warning| admission.warn(warning));
        call.server
            .registry
            .update(&admission, key, Part::Scale, &ChangeScale(&Replace(decoded.value)))
            .await?
    };
    let workload: Value = serde_json::from_slice(&updated.into_stored().0).map_err(Status::internal)?;
    let value = scale::of(&workload);
    let response = answer::value(StatusCode::OK, &value, expected.schema, Some(expected.type_id), output);
    Ok(answer::warn(response, admission.take_warnings()))
}

async fn bind(call: Call<'_>, pod: Key<'_>) -> Result<Response<Body>, Rejection> {
    let gvk = GroupVersionKind { group: "".into(), version: "v1".into(), kind: "Binding".into() };
    let expected = call.server.expected(gvk)?;
    let (binding, dry_run) =
        read(&expected, call.parts.headers.clone(), call.query_text(), call.body).await?;
    if binding.text("metadata.name") != pod.name {
        return Err(Status::bad_request("name in URL does not match name in Binding object").into());
    }
    let admission = call.server.admission.admit(call.authorized, dry_run);
    call.server.registry.bind(&admission, pod, &binding).await?;
    Ok(created(call.accept))
}

/// An eviction deletes the pod, gracefully, and says so in its status.
async fn evict(
    call: Call<'_>,
    path: &ResourcePath,
    resource: &Arc<Resource>,
) -> Result<Response<Body>, Rejection> {
    let gvk = GroupVersionKind { group: "policy".into(), version: "v1".into(), kind: "Eviction".into() };
    let expected = call.server.expected(gvk)?;
    let (eviction, dry_run) =
        read(&expected, call.parts.headers.clone(), call.query_text(), call.body).await?;
    let name = eviction.text("metadata.name");
    if !name.is_empty() && name != path.name {
        return Err(Status::bad_request("name in URL does not match name in Eviction object").into());
    }
    let options = DeleteOptions::from_value(eviction.at("deleteOptions"))?;
    let dry_run = if options.dry_run { DryRun::All } else { dry_run };
    let admission = call.server.admission.admit(call.authorized, dry_run);
    call.server.registry.evict(&admission, key(path, resource), &options).await?;
    Ok(created(call.accept))
}

/// The shortest and longest life of a token.
const TOKEN_SECONDS: std::ops::RangeInclusive<i64> = 600..=1 << 32;

/// A token of a service account, bound to an object if asked for.
async fn token(
    call: Call<'_>,
    path: &ResourcePath,
    resource: &Arc<Resource>,
) -> Result<Response<Body>, Rejection> {
    let output = call.accept.plain()?;
    let account = decoded(&call, path, resource)?;
    let gvk = GroupVersionKind {
        group: "authentication.k8s.io".into(),
        version: "v1".into(),
        kind: "TokenRequest".into(),
    };
    let expected = call.server.expected(gvk)?;
    let (server, accept_user) = (call.server, call.authorized.user().clone());
    let (mut request, _) = read(&expected, call.parts.headers.clone(), call.query_text(), call.body).await?;
    let seconds = request.number("spec.expirationSeconds").unwrap_or(3600);
    check_lifetime(seconds)?;
    let mut bound = BoundObject {
        namespace: path.namespace.clone(),
        serviceaccount: reference(&account),
        ..BoundObject::default()
    };
    bind_token(server, path, &request, &mut bound)?;
    // A pod's token that expires in about an hour is renewed in time; clients that do not look are given a year.
    let audiences: Vec<String> = request
        .items("spec.audiences")
        .iter()
        .filter_map(|audience| audience.as_str().map(ToOwned::to_owned))
        .collect();
    let lifetime = Duration::from_secs(u64::try_from(seconds).unwrap_or_default());
    let (token, _) = server.tokens.sign(audiences, lifetime, bound).map_err(Status::internal)?;
    tracing::debug!(account = %path.name, namespace = %path.namespace, user = %accept_user.name, "issued a token");
    let meta = request.object_mut("metadata");
    meta.set("name", path.name.as_str());
    meta.set("namespace", path.namespace.as_str());
    meta.set("creationTimestamp", time::now_seconds());
    request.object_mut("spec").default("audiences", json!(server.tokens.audiences()));
    request.object_mut("spec").set("expirationSeconds", seconds);
    request.set(
        "status",
        json!({"token": token, "expirationTimestamp": time::seconds(SystemTime::now() + lifetime)}),
    );
    Ok(answer::value(StatusCode::CREATED, &request, server.schema, Some(expected.type_id), output))
}

fn check_lifetime(seconds: i64) -> Result<(), Rejection> {
    let mut problems = edgek_api::field::ErrorList::default();
    let path = edgek_api::field::Path::Root("spec.expirationSeconds");
    if seconds < *TOKEN_SECONDS.start() {
        problems.invalid(&path, seconds, "may not specify a duration less than 10 minutes");
    } else if seconds > *TOKEN_SECONDS.end() {
        problems.invalid(&path, seconds, "may not specify a duration larger than 2^32 seconds");
    } else {
        return Ok(());
    }
    let about = About { group: "authentication.k8s.io", resource: "TokenRequest", name: "" };
    Err(Status::invalid(about, &problems).into())
}

fn reference(object: &Value) -> ObjectRef {
    ObjectRef { name: object.text("metadata.name").to_owned(), uid: object.text("metadata.uid").to_owned() }
}

/// Binds a token to the pod, secret or node that its request names, which must exist.
fn bind_token(
    server: &crate::server::Inner,
    path: &ResourcePath,
    request: &Value,
    bound: &mut BoundObject,
) -> Result<(), Rejection> {
    let wanted = request.at("spec.boundObjectRef");
    if wanted.is_null() {
        return Ok(());
    }
    let (kind, name) = (wanted.text("kind"), wanted.text("name"));
    let (plural, namespace) = match kind {
        "Pod" => ("pods", path.namespace.as_str()),
        "Secret" => ("secrets", path.namespace.as_str()),
        "Node" => ("nodes", ""),
        _ => {
            return Err(Status::bad_request(format!(
                "cannot bind token for serviceaccount {:?} to type {kind:?}",
                path.name
            ))
            .into());
        }
    };
    let resource = server.catalog.find("", "v1", plural).ok_or(Rejection::NoSuchPath)?;
    let entry = server.registry.get(&Key { resource, namespace, name });
    let not_found = || Rejection::from(Status::not_found(About::object(resource, name)));
    let object: Value =
        serde_json::from_slice(entry.ok_or_else(not_found)?.bytes()).map_err(Status::internal)?;
    let found = reference(&object);
    let uid = wanted.text("uid");
    if !uid.is_empty() && uid != found.uid {
        let reason = format!(
            "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have been deleted and then recreated"
        );
        return Err(Status::conflict(About::object(resource, name), reason).into());
    }
    match kind {
        "Pod" => {
            let account = object.text("spec.serviceAccountName");
            if account != path.name {
                let reason = format!(
                    "cannot bind token for serviceaccount {:?} to pod running with different serviceaccount name.",
                    path.name
                );
                return Err(Status::bad_request(reason).into());
            }
            let node = object.text("spec.nodeName");
            let nodes = server.catalog.find("", "v1", "nodes").ok_or(Rejection::NoSuchPath)?;
            if !node.is_empty() {
                let entry = server.registry.get(&Key { resource: nodes, namespace: "", name: node });
                let uid = entry.map(|entry| entry.meta().uid.as_str().to_owned()).unwrap_or_default();
                bound.node = Some(ObjectRef { name: node.to_owned(), uid });
            }
            bound.pod = Some(found);
        }
        "Secret" => bound.secret = Some(found),
        _ => bound.node = Some(found),
    }
    Ok(())
}
