//! Patches: how a client's changes become a new object. Each engine turns a decoded object and a patch's bytes into a
//! decoded object; the registry decodes the outcome by the schema again, which finds what is wrong with it.
//!
//! Server-side apply (`application/apply-patch+yaml`) belongs here as `patch::apply`, next to the others, once managed
//! fields are tracked. Until then [`Kind::from_content_type`] does not know its content type, and the answer is 415.

pub mod json;
pub mod merge;
pub mod strategic;

pub use strategic::print;

use serde_json::Value;

use crate::schema::{Schema, TypeId};
use crate::status::{Details, Reason, Status};

/// The content types of patches that are served.
pub const CONTENT_TYPES: [&str; 3] =
    ["application/json-patch+json", "application/merge-patch+json", "application/strategic-merge-patch+json"];

/// How a patch is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// RFC 6902: a list of operations.
    Json,
    /// RFC 7386: the fields to change.
    Merge,
    /// Upstream's own: the fields to change, lists merged by key.
    Strategic,
}

/// A patch that cannot be applied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The bytes are not JSON.
    #[error("invalid JSON patch")]
    NotJson,
    /// The JSON is not a patch of its kind.
    #[error("{0}")]
    Malformed(String),
    /// A JSON patch has too many operations.
    #[error("The allowed maximum operations in a JSON patch is {max}, got {count}")]
    TooManyOperations {
        /// How many are allowed.
        max: usize,
        /// How many there are.
        count: usize,
    },
    /// The patch does not fit the object.
    #[error("{0}")]
    DoesNotApply(String),
}

impl Kind {
    /// The kind of patch a `Content-Type` names; parameters do not count.
    pub fn from_content_type(content_type: &str) -> Option<Self> {
        let [json, merge, strategic] = CONTENT_TYPES;
        match content_type.split(';').next().unwrap_or_default().trim() {
            known if known == json => Some(Self::Json),
            known if known == merge => Some(Self::Merge),
            known if known == strategic => Some(Self::Strategic),
            _ => None,
        }
    }

    /// Applies a patch to an object of the type.
    ///
    /// # Errors
    /// When the patch is malformed or does not fit; `Error::status` is the answer to the client.
    pub fn apply(self, object: Value, patch: &[u8], schema: &Schema, id: TypeId) -> Result<Value, Error> {
        match self {
            Self::Json => json::apply(object, patch),
            Self::Merge => merge::apply(object, patch),
            Self::Strategic => strategic::apply(object, patch, schema, id),
        }
    }
}

impl Error {
    /// What upstream answers. It tells nobody why a patch does not fit.
    pub fn status(&self) -> Status {
        match self {
            Self::NotJson | Self::Malformed(_) => Status::bad_request(self.to_string()),
            Self::TooManyOperations { .. } => Status::too_large(&self.to_string()),
            Self::DoesNotApply(_) => {
                let message = "the server rejected our request due to an error in our request";
                let mut status = Status::failure(422, Reason::Invalid, message);
                status.details = Some(Box::<Details>::default());
                status
            }
        }
    }
}

/// Decodes a patch, whatever its JSON.
fn decode(patch: &[u8]) -> Result<Value, Error> {
    serde_json::from_slice(patch).map_err(|_| Error::NotJson)
}

/// What a value is, as Go's decoder names it in errors.
fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}
