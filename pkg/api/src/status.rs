//! `Status`: what the API answers instead of an object. Constructors have the codes, reasons and words of upstream's
//! `apimachinery/pkg/api/errors`; the registry and the HTTP layer make them, clients read them.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::field::ErrorList;
use crate::quote::quote;
use crate::resource::Resource;

/// The outcome of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "camelCase")]
#[error("{message}")]
pub struct Status {
    /// Always `Status`.
    #[serde(default = "kind")]
    pub kind: Cow<'static, str>,
    /// Always `v1`.
    #[serde(default = "version")]
    pub api_version: Cow<'static, str>,
    /// Always empty.
    #[serde(default)]
    pub metadata: ListMeta,
    /// Whether the request succeeded.
    #[serde(default)]
    pub status: Outcome,
    /// What happened, for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// What happened, for programs.
    #[serde(default, skip_serializing_if = "Reason::is_unknown")]
    pub reason: Reason,
    /// What it happened to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<Box<Details>>,
    /// The HTTP status code; 0 where the answer's body does not tell it.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub code: u16,
}

/// The metadata of a `Status`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListMeta {}

/// Whether a request succeeded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// It did.
    Success,
    /// It did not.
    #[default]
    Failure,
}

/// What happened to what.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Details {
    /// The object's name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// The resource's group.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub group: String,
    /// The resource, or the kind where upstream tells it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// The object's uid.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uid: String,
    /// Why, piece by piece.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<Cause>,
    /// After how many seconds to try again; 0 says nothing.
    #[serde(skip_serializing_if = "is_zero")]
    pub retry_after_seconds: u32,
}

/// One reason of a failure.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Cause {
    /// For programs: `FieldValueInvalid`.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub reason: Cow<'static, str>,
    /// For people.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// The path of the field.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub field: String,
}

/// What happened, for programs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reason {
    /// 401.
    Unauthorized,
    /// 403.
    Forbidden,
    /// 404.
    NotFound,
    /// 409 on create.
    AlreadyExists,
    /// 409 on update.
    Conflict,
    /// 410.
    Gone,
    /// 410: a resource version or continue token is too old.
    Expired,
    /// 422.
    Invalid,
    /// 500: trying again may help.
    ServerTimeout,
    /// 504.
    Timeout,
    /// 429.
    TooManyRequests,
    /// 400.
    BadRequest,
    /// 405.
    MethodNotAllowed,
    /// 406.
    NotAcceptable,
    /// 413.
    RequestEntityTooLarge,
    /// 415.
    UnsupportedMediaType,
    /// 500.
    InternalError,
    /// 503.
    ServiceUnavailable,
    /// Nothing is known.
    #[default]
    #[serde(rename = "", other)]
    Unknown,
}

/// What an error is about: a resource or kind, its group, and an object's name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct About<'a> {
    /// Empty for core.
    pub group: &'a str,
    /// The plural, or the kind where the constructor says so.
    pub resource: &'a str,
    /// The object's name; may be empty.
    pub name: &'a str,
}

impl<'a> About<'a> {
    /// An object of a resource.
    pub fn object(resource: &'a Resource, name: &'a str) -> Self {
        Self { group: &resource.group, resource: &resource.plural, name }
    }

    /// An object of a kind.
    pub fn kind(resource: &'a Resource, name: &'a str) -> Self {
        Self { group: &resource.group, resource: &resource.kind, name }
    }
}

impl fmt::Display for About<'_> {
    /// `deployments.apps`, or `pods` in the core group.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.resource)?;
        if self.group.is_empty() { Ok(()) } else { write!(f, ".{}", self.group) }
    }
}

impl Status {
    /// 404: there is no such object.
    pub fn not_found(about: About<'_>) -> Self {
        Self::about(404, Reason::NotFound, about, format!("{about} {} not found", quote(about.name)))
    }

    /// 404: the path leads nowhere.
    pub fn no_such_resource() -> Self {
        let mut status =
            Self::failure(404, Reason::NotFound, "the server could not find the requested resource");
        status.details = Some(Box::default());
        status
    }

    /// 409: the name is taken.
    pub fn already_exists(about: About<'_>) -> Self {
        Self::about(
            409,
            Reason::AlreadyExists,
            about,
            format!("{about} {} already exists", quote(about.name)),
        )
    }

    /// 409: every name that was generated is taken.
    pub fn generate_name_conflict(about: About<'_>, retry_after_seconds: u32) -> Self {
        let name = quote(about.name);
        let message = format!(
            "{about} {name} already exists, the server was not able to generate a unique name for the object"
        );
        Self::about(409, Reason::AlreadyExists, about, message).retry_after(retry_after_seconds)
    }

    /// 401.
    pub fn unauthorized(message: impl Into<String>) -> Self {
        Self::failure(401, Reason::Unauthorized, message)
    }

    /// 403: admission or authorization says no.
    pub fn forbidden(about: About<'_>, why: impl fmt::Display) -> Self {
        let message = match (about.resource, about.name) {
            ("", _) => format!("forbidden: {why}"),
            (_, "") => format!("{about} is forbidden: {why}"),
            (_, name) => format!("{about} {} is forbidden: {why}", quote(name)),
        };
        Self::about(403, Reason::Forbidden, about, message)
    }

    /// 409: the object is not what the client thinks it is.
    pub fn conflict(about: About<'_>, why: impl fmt::Display) -> Self {
        let message = format!("Operation cannot be fulfilled on {about} {}: {why}", quote(about.name));
        Self::about(409, Reason::Conflict, about, message)
    }

    /// 409: an update was made to an older version of the object.
    pub fn modified(about: About<'_>) -> Self {
        Self::conflict(
            about,
            "the object has been modified; please apply your changes to the latest version and try again",
        )
    }

    /// 410: the resource version or continue token is too old.
    pub fn expired(message: impl Into<String>) -> Self {
        Self::failure(410, Reason::Expired, message)
    }

    /// 422: the object's fields are wrong. `about` names the kind.
    pub fn invalid(about: About<'_>, errors: &ErrorList) -> Self {
        let name = quote(about.name);
        let message = if errors.is_empty() {
            format!("{about} {name} is invalid")
        } else {
            format!("{about} {name} is invalid: {errors}")
        };
        let cause = |error: &crate::field::Error| Cause {
            reason: Cow::Borrowed(error.kind.reason()),
            message: error.message.clone(),
            field: error.field.clone(),
        };
        Self::about(422, Reason::Invalid, about, message).with_causes(errors.0.iter().map(cause).collect())
    }

    /// 400: the request makes no sense.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::failure(400, Reason::BadRequest, message)
    }

    /// 429: the client must wait.
    pub fn too_many_requests(message: impl Into<String>, retry_after_seconds: u32) -> Self {
        Self::failure(429, Reason::TooManyRequests, message).retry_after(retry_after_seconds)
    }

    /// 503: for now, the server cannot.
    pub fn service_unavailable(message: impl Into<String>) -> Self {
        Self::failure(503, Reason::ServiceUnavailable, message)
    }

    /// 405: the resource does not know the action.
    pub fn method_not_supported(about: About<'_>, action: &str) -> Self {
        let message = format!("{action} is not supported on resources of kind {}", quote(&about.to_string()));
        Self::about(405, Reason::MethodNotAllowed, About { name: "", ..about }, message)
    }

    /// 500: it did not work this time.
    pub fn server_timeout(about: About<'_>, operation: &str, retry_after_seconds: u32) -> Self {
        let message = format!(
            "The {operation} operation against {about} could not be completed at this time, please try again."
        );
        Self::about(500, Reason::ServerTimeout, About { name: operation, ..about }, message)
            .retry_after(retry_after_seconds)
    }

    /// 500: the server's own mistake.
    pub fn internal(why: impl fmt::Display) -> Self {
        let cause = Cause { message: why.to_string(), ..Cause::default() };
        Self::failure(500, Reason::InternalError, format!("Internal error occurred: {why}"))
            .with_causes(vec![cause])
    }

    /// 504: it takes too long.
    pub fn timeout(message: &str, retry_after_seconds: u32) -> Self {
        Self::failure(504, Reason::Timeout, format!("Timeout: {message}")).retry_after(retry_after_seconds)
    }

    /// 413: the body has too many bytes.
    pub fn too_large(message: &str) -> Self {
        Self::failure(413, Reason::RequestEntityTooLarge, format!("Request entity too large: {message}"))
    }

    /// 415: the body's content type is none of the `accepted`.
    pub fn unsupported_media_type(accepted: &[&str]) -> Self {
        let message = format!(
            "the body of the request was in an unknown format - accepted media types include: {}",
            accepted.join(", ")
        );
        Self::failure(415, Reason::UnsupportedMediaType, message)
    }

    /// 406: the client accepts none of the content types the server has.
    pub fn not_acceptable(accepted: &[&str]) -> Self {
        let message = format!("only the following media types are accepted: {}", accepted.join(", "));
        Self::failure(406, Reason::NotAcceptable, message)
    }

    /// 200: what was asked for was done, and there is no object to show.
    pub fn success(about: About<'_>, uid: &str) -> Self {
        let mut status = Self::about(200, Reason::Unknown, about, String::new());
        status.status = Outcome::Success;
        if let Some(details) = &mut status.details {
            uid.clone_into(&mut details.uid);
        }
        status.code = 0;
        status
    }

    /// A failure with a code, reason and message of the caller's.
    pub fn failure(code: u16, reason: Reason, message: impl Into<String>) -> Self {
        Self {
            kind: kind(),
            api_version: version(),
            metadata: ListMeta {},
            status: Outcome::Failure,
            message: message.into(),
            reason,
            details: None,
            code,
        }
    }

    /// The same with causes.
    #[must_use]
    pub fn with_causes(mut self, causes: Vec<Cause>) -> Self {
        self.details.get_or_insert_default().causes = causes;
        self
    }

    /// The same with a time to wait.
    #[must_use]
    pub fn retry_after(mut self, seconds: u32) -> Self {
        self.details.get_or_insert_default().retry_after_seconds = seconds;
        self
    }

    /// The encoded answer.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a status has text keys only")
    }

    fn about(code: u16, reason: Reason, about: About<'_>, message: String) -> Self {
        let mut status = Self::failure(code, reason, message);
        status.details = Some(Box::new(Details {
            name: about.name.to_owned(),
            group: about.group.to_owned(),
            kind: about.resource.to_owned(),
            ..Details::default()
        }));
        status
    }
}

impl Reason {
    fn is_unknown(&self) -> bool {
        *self == Self::Unknown
    }
}

fn kind() -> Cow<'static, str> {
    Cow::Borrowed("Status")
}

fn version() -> Cow<'static, str> {
    Cow::Borrowed("v1")
}

fn is_zero<T: Default + PartialEq>(number: &T) -> bool {
    *number == T::default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::field::Path;

    const POD: About<'_> = About { group: "", resource: "pods", name: "a" };
    const DEPLOYMENT: About<'_> = About { group: "apps", resource: "deployments", name: "a" };

    fn check(status: &Status, code: u16, message: &str) {
        assert_eq!((status.code, &*status.message), (code, message));
    }

    #[test]
    fn messages_are_upstreams() {
        check(&Status::not_found(DEPLOYMENT), 404, "deployments.apps \"a\" not found");
        check(&Status::already_exists(POD), 409, "pods \"a\" already exists");
        check(&Status::forbidden(POD, "no"), 403, "pods \"a\" is forbidden: no");
        check(&Status::forbidden(About { name: "", ..POD }, "no"), 403, "pods is forbidden: no");
        check(&Status::forbidden(About::default(), "no"), 403, "forbidden: no");
        check(
            &Status::method_not_supported(POD, "patch"),
            405,
            "patch is not supported on resources of kind \"pods\"",
        );
        check(&Status::internal("x"), 500, "Internal error occurred: x");
        let modified = "Operation cannot be fulfilled on pods \"a\": the object has been modified; please apply your changes to the latest version and try again";
        check(&Status::modified(POD), 409, modified);
        let timeout =
            "The list operation against pods could not be completed at this time, please try again.";
        check(&Status::server_timeout(POD, "list", 1), 500, timeout);
    }

    #[test]
    fn an_invalid_object_tells_every_field() {
        let spec = Path::Root("spec");
        let mut errors = ErrorList::default();
        errors.required(&spec.field("containers"), "");
        let about = About { resource: "Pod", ..POD };
        check(&Status::invalid(about, &errors), 422, "Pod \"a\" is invalid: spec.containers: Required value");
        errors.invalid(&spec.field("x"), "y", "z");
        let status = Status::invalid(about, &errors);
        check(
            &status,
            422,
            "Pod \"a\" is invalid: [spec.containers: Required value, spec.x: Invalid value: \"y\": z]",
        );
        let causes = status.details.unwrap().causes;
        assert_eq!(
            (&*causes[1].reason, &*causes[1].message, &*causes[1].field),
            ("FieldValueInvalid", "Invalid value: \"y\": z", "spec.x")
        );
    }

    #[test]
    fn a_status_is_encoded_and_decoded() {
        let status = Status::not_found(POD);
        let json = r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"pods \"a\" not found","reason":"NotFound","details":{"name":"a","kind":"pods"},"code":404}"#;
        assert_eq!(String::from_utf8(status.to_json()).unwrap(), json);
        assert_eq!(serde_json::from_str::<Status>(json).unwrap(), status);
        let other: Status = serde_json::from_str(r#"{"reason":"NewInV9","metadata":{"x":1}}"#).unwrap();
        assert_eq!((other.reason, other.status), (Reason::Unknown, Outcome::Failure));
    }
}
