//! `Rejection`: the one place where an error becomes a status code.

use edgek_api::status::{About, Cause, Status};
use edgek_apiserver_admission::Admission;
use edgek_apiserver_authn::User;
use edgek_apiserver_authz::Target;
use edgek_apiserver_registry::Error;

use crate::body::ReadError;

/// A request that is answered with an error.
#[derive(Debug)]
pub(crate) enum Rejection {
    /// With a `Status`.
    Status(Box<Status>),
    /// With a `Status` and a token with which an expired list can be continued all the same.
    Continue(Box<Status>, String),
    /// With warnings about the request besides.
    Warned(Box<Rejection>, Vec<String>),
    /// A path that is none of ours, which upstream answers with plain text.
    NoSuchPath,
}

impl Rejection {
    /// The same with the warnings that were noted before the request failed.
    pub(crate) fn warned(self, admission: &Admission<'_>) -> Self {
        match admission.take_warnings() {
            none if none.is_empty() => self,
            warnings => Self::Warned(Box::new(self), warnings),
        }
    }
}

impl From<Status> for Rejection {
    fn from(status: Status) -> Self {
        Self::Status(Box::new(status))
    }
}

impl From<Error> for Rejection {
    fn from(error: Error) -> Self {
        status_of(&error).into()
    }
}

impl From<ReadError> for Rejection {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::TooLarge => Status::too_large(&error.to_string()).into(),
            ReadError::Broken(_) => Status::bad_request(error.to_string()).into(),
        }
    }
}

fn status_of(error: &Error) -> Status {
    let text = error.to_string();
    match error {
        Error::NotFound(subject) => Status::not_found(about(subject)),
        Error::AlreadyExists { subject, suffix, .. } => {
            let status = Status { message: text, ..Status::already_exists(about(subject)) };
            // Another generated name may be free.
            if suffix.is_empty() { status } else { status.retry_after(1) }
        }
        Error::Conflict { subject, reason } => Status::conflict(about(subject), reason),
        Error::Invalid { subject, problems } => Status::invalid(about(subject), problems),
        Error::Forbidden { subject, message, cause } => {
            let status = Status::forbidden(about(subject), message);
            match cause {
                None => status,
                Some(cause) => status.with_causes(vec![Cause {
                    reason: cause.kind.into(),
                    message: cause.message.clone(),
                    field: cause.field.to_owned(),
                }]),
            }
        }
        Error::BadRequest(_) => Status::bad_request(text),
        Error::Patch(error) => error.status(),
        Error::Unavailable(_) => Status::service_unavailable(text),
        Error::Internal(_) => {
            tracing::error!(error = %text, "internal error");
            Status::internal(text)
        }
    }
}

fn about(subject: &edgek_apiserver_registry::Subject) -> About<'_> {
    About { group: &subject.group, resource: &subject.kind, name: &subject.name }
}

/// 403 of an authorizer, in upstream's words.
pub(crate) fn forbidden(user: &User, target: &Target<'_>, reason: &str) -> Status {
    let (about, message) = match target {
        Target::NonResource { verb, path } => {
            (About::default(), format!("User {:?} cannot {verb} path {path:?}", user.name))
        }
        Target::Resource { verb, group, resource, subresource, namespace, name, .. } => {
            let slash = if subresource.is_empty() { "" } else { "/" };
            let scope = if namespace.is_empty() {
                "at the cluster scope".to_owned()
            } else {
                format!("in the namespace {namespace:?}")
            };
            let message = format!(
                "User {:?} cannot {verb} resource \"{resource}{slash}{subresource}\" in API group {group:?} {scope}",
                user.name
            );
            (About { group, resource, name }, message)
        }
    };
    // What the client sent comes back: it must not look like HTML.
    let message = message.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    match reason {
        "" => Status::forbidden(about, message),
        reason => Status::forbidden(about, format!("{message}: {reason}")),
    }
}
