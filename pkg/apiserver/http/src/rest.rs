//! The verbs of resources: reads from the cache, writes through the registry.

use std::sync::Arc;

use edgek_api::json::Unknown;
use edgek_api::name;
use edgek_api::patch;
use edgek_api::resource::Resource;
use edgek_api::status::{About, Reason, Status};
use edgek_apiserver_admission::DryRun;
use edgek_apiserver_registry::{DeleteOptions, Deletion, Key, Part, Patch, Replace, Stored, Updated};
use edgek_store_watch::Revision;
use http::{Response, StatusCode};

use crate::body::{self, Body};
use crate::error::Rejection;
use crate::info::ResourcePath;
use crate::negotiate::{Output, body_format, media_type};
use crate::options::{ListOptions, Use, WriteOptions, delete_options};
use crate::route::{Call, method_not_allowed};
use crate::{answer, decode, list, show, subresource, watch};

/// Answers a request of the resource API; who uses a deprecated resource is told, whatever comes of it.
pub(crate) async fn call(
    call: Call<'_>,
    path: &ResourcePath,
    resource: &Arc<Resource>,
) -> Result<Response<Body>, Rejection> {
    let deprecation = deprecation(resource);
    let answered = dispatch(call, path, resource).await;
    let Some(deprecation) = deprecation else { return answered };
    let deprecation = vec![deprecation.to_owned()];
    match answered {
        Ok(response) => Ok(answer::warn_first(response, deprecation)),
        Err(Rejection::Warned(rejection, warnings)) => {
            Err(Rejection::Warned(rejection, [deprecation, warnings].concat()))
        }
        Err(rejection) => Err(Rejection::Warned(Box::new(rejection), deprecation)),
    }
}

fn deprecation(resource: &Resource) -> Option<&'static str> {
    match (&*resource.group, &*resource.version, &*resource.plural) {
        ("", "v1", "componentstatuses") => Some("v1 ComponentStatus is deprecated in v1.19+"),
        ("", "v1", "endpoints") => {
            Some("v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice")
        }
        _ => None,
    }
}

async fn dispatch(
    call: Call<'_>,
    path: &ResourcePath,
    resource: &Arc<Resource>,
) -> Result<Response<Body>, Rejection> {
    let named = !path.name.is_empty();
    let is_namespace = resource.group.is_empty() && resource.plural == "namespaces";
    let in_namespace = !is_namespace && !path.namespace.is_empty();
    // A path that puts a cluster-scoped object into a namespace, or a namespaced one into none, is none of ours.
    let misplaced = in_namespace != resource.namespaced;
    if misplaced && (in_namespace || named) {
        return Err(Status::no_such_resource().into());
    }
    if named {
        check_path_name(&path.name)?;
    }
    if !path.subresource.is_empty() {
        return subresource::call(call, path, resource).await;
    }
    let verb = call.info.verb;
    let on_object = matches!(verb, "get" | "update" | "patch" | "delete");
    let writes_everywhere = misplaced && matches!(verb, "create" | "deletecollection");
    if !resource.serves(verb) || on_object != (named && verb != "watch") || writes_everywhere {
        return Err(method_not_allowed());
    }
    if !resource.is_stored() {
        return subresource::virtual_resource(call, path, resource).await;
    }
    match verb {
        "get" => get(&call, path, resource),
        "list" => list::list(&call, path, resource),
        "watch" => watch::watch(&call, path, resource),
        "create" => create(call, path, resource).await,
        "update" => update(call, path, resource, Part::Object).await,
        "patch" => patch(call, path, resource, Part::Object).await,
        "delete" => delete(call, path, resource).await,
        "deletecollection" => delete_collection(call, path, resource).await,
        _ => Err(method_not_allowed()),
    }
}

/// Refuses a name that no object can have because paths cannot say it.
fn check_path_name(name: &str) -> Result<(), Rejection> {
    if name.contains('/') {
        return Err(Status::no_such_resource().into());
    }
    match name::path_segment(name).first() {
        Some(problem) => {
            Err(Status::bad_request(format!("Name parameter invalid: {name:?}: {problem}")).into())
        }
        None => Ok(()),
    }
}

/// The key of the object in a path.
pub(crate) fn key<'a>(path: &'a ResourcePath, resource: &'a Arc<Resource>) -> Key<'a> {
    let namespace = if resource.namespaced { path.namespace.as_str() } else { "" };
    Key { resource, namespace, name: &path.name }
}

fn get(call: &Call<'_>, path: &ResourcePath, resource: &Arc<Resource>) -> Result<Response<Body>, Rejection> {
    let output = call.accept.object(resource)?;
    let key = key(path, resource);
    let collection = call.server.registry.collection(resource).ok_or(Rejection::NoSuchPath)?;
    if let Some(revision) = call.query().get("resourceVersion").and_then(|text| text.parse().ok()) {
        collection.check_revision(Revision(revision)).map_err(|error| list::read_error(&error))?;
    }
    let Some(entry) = call.server.registry.get(&key) else {
        return Err(Status::not_found(About::object(resource, &path.name)).into());
    };
    Ok(show::object(call.server, StatusCode::OK, resource, &entry.into(), output))
}

async fn create(
    call: Call<'_>,
    path: &ResourcePath,
    resource: &Arc<Resource>,
) -> Result<Response<Body>, Rejection> {
    let output = call.accept.object(resource)?;
    let format = body_format(&call.parts.headers)?;
    let options = WriteOptions::parse(call.query(), "CreateOptions")?;
    let bytes = body::read(call.body).await?;
    let decoded = decode::body(&bytes, format, &call.server.expected(resource.gvk())?, options.unknown)?;
    let admission = call.server.admission.admit(call.authorized, options.dry_run);
    decoded.warnings.into_iter().for_each(|warning| admission.warn(warning));
    let stored = call.server.registry.create(&admission, key(path, resource), decoded.value).await;
    let stored = stored.map_err(|error| Rejection::from(error).warned(&admission))?;
    Ok(answer::warn(
        show::object(call.server, StatusCode::CREATED, resource, &stored, output),
        admission.take_warnings(),
    ))
}

/// A PUT of an object or of one of its parts.
pub(crate) async fn update(
    call: Call<'_>,
    path: &ResourcePath,
    resource: &Arc<Resource>,
    part: Part,
) -> Result<Response<Body>, Rejection> {
    let output = call.accept.object(resource)?;
    let format = body_format(&call.parts.headers)?;
    let options = WriteOptions::parse(call.query(), "UpdateOptions")?;
    let bytes = body::read(call.body).await?;
    let decoded = decode::body(&bytes, format, &call.server.expected(resource.gvk())?, options.unknown)?;
    let admission = call.server.admission.admit(call.authorized, options.dry_run);
    decoded.warnings.into_iter().for_each(|warning| admission.warn(warning));
    let updated =
        call.server.registry.update(&admission, key(path, resource), part, &Replace(decoded.value)).await;
    let updated = updated.map_err(|error| Rejection::from(error).warned(&admission))?;
    Ok(answer::warn(changed(call.server, resource, updated, output), admission.take_warnings()))
}

/// A PATCH of an object or of one of its parts.
pub(crate) async fn patch(
    call: Call<'_>,
    path: &ResourcePath,
    resource: &Arc<Resource>,
    part: Part,
) -> Result<Response<Body>, Rejection> {
    let kind = patch_kind(&call.parts.headers)?;
    let output = call.accept.object(resource)?;
    let options = WriteOptions::parse(call.query(), "PatchOptions")?;
    let body = body::read(call.body).await?;
    let admission = call.server.admission.admit(call.authorized, options.dry_run);
    let change = Patch {
        kind,
        body: &body,
        schema: call.server.schema,
        type_id: resource.type_id,
        unknown: options.unknown,
        admission: &admission,
    };
    let updated = call.server.registry.update(&admission, key(path, resource), part, &change).await;
    let updated = updated.map_err(|error| Rejection::from(error).warned(&admission))?;
    Ok(answer::warn(changed(call.server, resource, updated, output), admission.take_warnings()))
}

/// The format of a patch.
pub(crate) fn patch_kind(headers: &http::HeaderMap) -> Result<patch::Kind, Rejection> {
    patch::Kind::from_content_type(&media_type(headers)).ok_or_else(|| {
        let message = "415: Unsupported Media Type";
        Status::failure(415, Reason::UnsupportedMediaType, message).with_causes(Vec::new()).into()
    })
}

fn changed(
    server: &crate::server::Inner,
    resource: &Arc<Resource>,
    updated: Updated,
    output: Output,
) -> Response<Body> {
    let code = match &updated {
        Updated::Changed(_) => StatusCode::OK,
        Updated::Created(_) => StatusCode::CREATED,
    };
    show::object(server, code, resource, &updated.into_stored(), output)
}

/// The options of a deletion, from its body or query, and whether it is only tried.
async fn read_delete_options(call: &mut Call<'_>) -> Result<DeleteOptions, Rejection> {
    let bytes = body::read(std::mem::replace(&mut call.body, body::empty())).await?;
    let value = if bytes.is_empty() {
        None
    } else {
        let format = body_format(&call.parts.headers)?;
        Some(decode::options(&bytes, format, &call.server.expected_meta("DeleteOptions")?, Unknown::Ignore)?)
    };
    delete_options(call.query(), value)
}

fn dry_run(options: &DeleteOptions) -> DryRun {
    if options.dry_run { DryRun::All } else { DryRun::No }
}

async fn delete(
    mut call: Call<'_>,
    path: &ResourcePath,
    resource: &Arc<Resource>,
) -> Result<Response<Body>, Rejection> {
    let output = call.accept.object(resource)?;
    let options = read_delete_options(&mut call).await?;
    let admission = call.server.admission.admit(call.authorized, dry_run(&options));
    let deletion = call.server.registry.delete(&admission, key(path, resource), &options).await?;
    let response = match deletion {
        Deletion::Gone(stored) | Deletion::Ending(stored) => {
            show::object(call.server, StatusCode::OK, resource, &stored, output)
        }
        Deletion::Status(subject) => {
            let about = About { group: &subject.group, resource: &subject.kind, name: &subject.name };
            answer::status(&Status::success(about, &subject.uid), call.accept)
        }
    };
    Ok(answer::warn(response, admission.take_warnings()))
}

async fn delete_collection(
    mut call: Call<'_>,
    path: &ResourcePath,
    resource: &Arc<Resource>,
) -> Result<Response<Body>, Rejection> {
    let output = call.accept.object(resource)?;
    let list_options = ListOptions::parse(call.query(), resource, &path.namespace, Use::List)?;
    let options = read_delete_options(&mut call).await?;
    let admission = call.server.admission.admit(call.authorized, dry_run(&options));
    let selected = list::select(call.server, resource, list_options)?;
    for object in &selected.items {
        let key = Key { resource, name: &object.meta().name, namespace: &object.meta().namespace };
        match call.server.registry.delete(&admission, key, &options).await {
            Ok(_) | Err(edgek_apiserver_registry::Error::NotFound(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(answer::warn(show::list(call.server, resource, selected, output), admission.take_warnings()))
}

/// An object of the cache that a request for a part of it needs.
pub(crate) fn existing(
    call: &Call<'_>,
    path: &ResourcePath,
    resource: &Arc<Resource>,
) -> Result<Stored, Rejection> {
    match call.server.registry.get(&key(path, resource)) {
        Some(entry) => Ok(entry.into()),
        None => Err(Status::not_found(About::object(resource, &path.name)).into()),
    }
}
