//! Reviews: who a token is, and whether somebody may do something.

use std::collections::BTreeMap;
use std::sync::Arc;

use edgek_api::field::{ErrorList, Path};
use edgek_api::resource::Resource;
use edgek_api::status::{About, Status};
use edgek_apiserver_admission::fields::Fields;
use edgek_apiserver_authn::User;
use edgek_apiserver_authz::{Attributes, Decision, Target};
use http::{Response, StatusCode};
use serde_json::{Value, json};

use crate::body::Body;
use crate::error::Rejection;
use crate::info::ResourcePath;
use crate::route::{Call, method_not_allowed};
use crate::server::Inner;
use crate::{answer, subresource};

/// Answers a review.
pub(crate) async fn call(
    call: Call<'_>,
    path: &ResourcePath,
    resource: &Arc<Resource>,
) -> Result<Response<Body>, Rejection> {
    let output = call.accept.plain()?;
    let expected = call.server.expected(resource.gvk())?;
    let (server, user) = (call.server, call.authorized.user().clone());
    let (mut review, _) =
        subresource::read(&expected, call.parts.headers.clone(), call.query_text(), call.body).await?;
    let status = match &*resource.plural {
        "tokenreviews" => token(server, &review).await?,
        "selfsubjectreviews" => json!({"userInfo": user_info(&user)}),
        "selfsubjectaccessreviews" => access(server, &user, review.at("spec"))?,
        "subjectaccessreviews" => access(server, &subject(&review)?, review.at("spec"))?,
        "localsubjectaccessreviews" => {
            if review.text("spec.resourceAttributes.namespace") != path.namespace {
                return Err(Status::bad_request(format!(
                    "spec.resourceAttributes.namespace must match namespace: {}",
                    path.namespace
                ))
                .into());
            }
            access(server, &subject(&review)?, review.at("spec"))?
        }
        "selfsubjectrulesreviews" => rules(server, &user, review.text("spec.namespace"))?,
        _ => return Err(method_not_allowed()),
    };
    review.set("status", status);
    Ok(answer::value(StatusCode::CREATED, &review, server.schema, Some(expected.type_id), output))
}

/// What a user may do in a namespace.
fn rules(server: &Inner, user: &User, namespace: &str) -> Result<Value, Rejection> {
    if namespace.is_empty() {
        return Err(Status::bad_request("no namespace on request").into());
    }
    let rules = server.authorizer.rules(user, namespace);
    let (paths, resources): (Vec<_>, Vec<_>) =
        rules.iter().partition(|rule| !rule.non_resource_urls.is_empty());
    let resources = resources.into_iter().map(|rule| {
        json!({
            "verbs": rule.verbs, "apiGroups": rule.api_groups, "resources": rule.resources,
            "resourceNames": rule.resource_names,
        })
    });
    let paths =
        paths.into_iter().map(|rule| json!({"verbs": rule.verbs, "nonResourceURLs": rule.non_resource_urls}));
    Ok(json!({
        "resourceRules": resources.collect::<Vec<_>>(), "nonResourceRules": paths.collect::<Vec<_>>(), "incomplete": false,
    }))
}

fn user_info(user: &User) -> Value {
    let mut info = json!({"username": user.name, "groups": user.groups});
    if !user.uid.is_empty() {
        info.set("uid", user.uid.as_str());
    }
    if !user.extra.is_empty() {
        info.set("extra", json!(user.extra));
    }
    info
}

async fn token(server: &Inner, review: &Value) -> Result<Value, Rejection> {
    let token = review.text("spec.token");
    if token.is_empty() {
        return Err(Status::bad_request("token is required for TokenReview in authentication").into());
    }
    let audiences: Vec<String> = review
        .items("spec.audiences")
        .iter()
        .filter_map(|audience| audience.as_str().map(ToOwned::to_owned))
        .collect();
    Ok(match server.authenticator.authenticate_token(token, &audiences).await {
        Ok((user, audiences)) => {
            json!({"authenticated": true, "user": user_info(&user), "audiences": audiences})
        }
        Err(error) => json!({"authenticated": false, "user": {}, "error": error.to_string()}),
    })
}

/// The user a review is about.
fn subject(review: &Value) -> Result<User, Rejection> {
    let spec = review.at("spec");
    let texts = |value: &Value| {
        value
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|item| item.as_str().map(ToOwned::to_owned))
            .collect::<Vec<_>>()
    };
    let user = User {
        name: spec.text("user").to_owned(),
        uid: spec.text("uid").to_owned(),
        groups: texts(spec.at("groups")),
        extra: spec
            .entries("extra")
            .map(|(key, values)| (key.clone(), texts(values)))
            .collect::<BTreeMap<_, _>>(),
    };
    if user.name.is_empty() && user.groups.is_empty() {
        let mut problems = ErrorList::default();
        problems.invalid(&Path::Root("spec.user"), "", "at least one of user or group must be specified");
        // Upstream names the group alone.
        let about = About { group: "authorization.k8s.io", ..About::default() };
        return Err(Status::invalid(about, &problems).into());
    }
    Ok(user)
}

fn access(server: &Inner, user: &User, spec: &Value) -> Result<Value, Rejection> {
    let (resource, path) = (spec.at("resourceAttributes"), spec.at("nonResourceAttributes"));
    let target = match (resource.is_null(), path.is_null()) {
        (false, true) => Target::Resource {
            verb: resource.text("verb"),
            group: resource.text("group"),
            version: resource.text("version"),
            resource: resource.text("resource"),
            subresource: resource.text("subresource"),
            namespace: resource.text("namespace"),
            name: resource.text("name"),
            field_selector: resource.text("fieldSelector.rawSelector"),
            label_selector: resource.text("labelSelector.rawSelector"),
        },
        (true, false) => Target::NonResource { verb: path.text("verb"), path: path.text("path") },
        _ => {
            let mut problems = ErrorList::default();
            let detail = "exactly one of nonResourceAttributes or resourceAttributes must be specified";
            problems.invalid(&Path::Root("spec"), Value::Null, detail);
            let about = About { group: "authorization.k8s.io", ..About::default() };
            return Err(Status::invalid(about, &problems).into());
        }
    };
    let (allowed, denied, reason) = match server.authorizer.authorize(&Attributes { user, target: &target }) {
        Decision::Allow { reason } => (true, false, reason),
        Decision::Deny { reason } => (false, true, reason),
        Decision::NoOpinion { reason } => (false, false, reason),
    };
    let mut status = json!({"allowed": allowed});
    if denied {
        status.set("denied", true);
    }
    if !reason.is_empty() {
        status.set("reason", reason);
    }
    Ok(status)
}
