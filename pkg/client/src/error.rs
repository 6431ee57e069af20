//! Why a request failed.

use serde::Deserialize;

use crate::BoxError;

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The server answered with a Status.
    #[error(transparent)]
    Api(Failure),
    /// The server did not answer.
    #[error("the API server did not answer")]
    Transport(#[source] BoxError),
    /// The answer is not what was asked for.
    #[error("unreadable answer")]
    Decode(#[source] serde_json::Error),
    /// The request cannot be written.
    #[error("invalid request: {0}")]
    Request(String),
}

/// What the server's Status says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, thiserror::Error)]
#[serde(default)]
#[error("{message}")]
pub struct Failure {
    /// The HTTP status code.
    pub code: u16,
    /// For people.
    pub message: String,
    /// For programs: `NotFound`, `Conflict`, ...
    pub reason: String,
}

impl Failure {
    pub(crate) fn parse(code: u16, body: &[u8]) -> Self {
        let parsed = serde_json::from_slice::<Self>(body).ok().filter(|failure| failure.code != 0);
        parsed.unwrap_or_else(|| Self {
            code,
            message: String::from_utf8_lossy(&body[..body.len().min(1024)]).into_owned(),
            reason: String::new(),
        })
    }
}

impl Error {
    fn failure(&self) -> Option<&Failure> {
        match self {
            Self::Api(failure) => Some(failure),
            _ => None,
        }
    }

    fn has_reason(&self, reason: &str) -> bool {
        self.failure().is_some_and(|failure| failure.reason == reason)
    }

    /// The object does not exist.
    pub fn is_not_found(&self) -> bool {
        self.failure().is_some_and(|failure| failure.code == 404)
    }

    /// The object was changed meanwhile.
    pub fn is_conflict(&self) -> bool {
        self.has_reason("Conflict")
    }

    /// An object of that name exists.
    pub fn is_already_exists(&self) -> bool {
        self.has_reason("AlreadyExists")
    }

    /// The revision is too old: list again.
    pub fn is_expired(&self) -> bool {
        self.failure().is_some_and(|failure| failure.code == 410)
    }

    /// The object is not valid.
    pub fn is_invalid(&self) -> bool {
        self.has_reason("Invalid")
    }

    /// The caller may not.
    pub fn is_forbidden(&self) -> bool {
        self.has_reason("Forbidden")
    }
}
