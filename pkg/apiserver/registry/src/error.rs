//! `Error`: why the registry refuses a request. Each variant is one of the API's reasons; only `http` knows codes.

use edgek_apiserver_admission as admission;

use edgek_api::field::ErrorList;

/// What an error is about, as clients read it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Subject {
    /// The API group; empty for core.
    pub group: String,
    /// The plural resource, or the kind where upstream says so.
    pub kind: String,
    /// The name; may be empty.
    pub name: String,
    /// The uid; empty when unknown.
    pub uid: String,
}

impl Subject {
    /// `deployments.apps`, or `pods` in the core group.
    pub fn qualified(&self) -> String {
        if self.group.is_empty() { self.kind.clone() } else { format!("{}.{}", self.kind, self.group) }
    }
}

/// Why a request is refused.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The object does not exist.
    #[error("{} {:?} not found", .0.qualified(), .0.name)]
    NotFound(Box<Subject>),
    /// An object of this name exists.
    #[error("{prefix}{} {:?} already exists{suffix}", .subject.qualified(), .subject.name)]
    AlreadyExists {
        /// The object.
        subject: Box<Subject>,
        /// `object is being deleted: ` or nothing.
        prefix: &'static str,
        /// Why no other name was found, or nothing.
        suffix: &'static str,
    },
    /// The object is not what the request expects.
    #[error("Operation cannot be fulfilled on {} {:?}: {reason}", .subject.qualified(), .subject.name)]
    Conflict {
        /// The object.
        subject: Box<Subject>,
        /// What is different.
        reason: String,
    },
    /// The object breaks rules of its kind.
    #[error("{} {:?} is invalid: {}", .subject.qualified(), .subject.name, .problems)]
    Invalid {
        /// The object, by its kind.
        subject: Box<Subject>,
        /// What is wrong.
        problems: ErrorList,
    },
    /// The request is not allowed.
    #[error("{}{message}", forbidden(.subject))]
    Forbidden {
        /// The object.
        subject: Box<Subject>,
        /// Why.
        message: String,
        /// A machine-readable cause.
        cause: Option<admission::Cause>,
    },
    /// The request makes no sense.
    #[error("{0}")]
    BadRequest(String),
    /// The patch is malformed or does not fit.
    #[error(transparent)]
    Patch(#[from] edgek_api::patch::Error),
    /// The store cannot take the write now, such as on a full disk.
    #[error("{0}")]
    Unavailable(String),
    /// A bug or a broken store.
    #[error("{0}")]
    Internal(String),
}

/// The words before a refusal's reason.
fn forbidden(subject: &Subject) -> String {
    match (subject.kind.is_empty(), subject.name.is_empty()) {
        (true, _) => "forbidden: ".to_owned(),
        (false, true) => format!("{} is forbidden: ", subject.qualified()),
        (false, false) => format!("{} {:?} is forbidden: ", subject.qualified(), subject.name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use edgek_api::field::Path;

    #[test]
    fn messages_read_as_upstreams() {
        let pods = Box::new(Subject { kind: "pods".into(), name: "a".into(), ..Subject::default() });
        let deployment = Box::new(Subject {
            group: "apps".into(),
            kind: "Deployment".into(),
            name: "web".into(),
            ..Subject::default()
        });
        let mut problems = ErrorList::default();
        problems.required(&Path::Root("spec.selector"), "");
        let one = Error::Invalid { subject: deployment.clone(), problems: problems.clone() };
        assert_eq!(one.to_string(), r#"Deployment.apps "web" is invalid: spec.selector: Required value"#);
        problems.required(&Path::Root("spec.template"), "");
        let two = Error::Invalid { subject: deployment, problems };
        assert_eq!(
            two.to_string(),
            r#"Deployment.apps "web" is invalid: [spec.selector: Required value, spec.template: Required value]"#
        );
        assert_eq!(Error::NotFound(pods.clone()).to_string(), r#"pods "a" not found"#);
        let forbidden = Error::Forbidden { subject: pods, message: "no".into(), cause: None };
        assert_eq!(forbidden.to_string(), r#"pods "a" is forbidden: no"#);
    }
}
