//! JSON bodies: decoded by the schema in one pass into canonical form. Called for every write, by the HTTP layer and,
//! through `yaml`, for YAML. Encoding is `serde_json::to_vec`: canonical objects have sorted keys and no nulls.

mod decode;
pub(crate) mod scalar;
mod scan;
#[cfg(test)]
mod tests;

use std::fmt;

use serde_json::Value;

pub use scan::SyntaxError;
pub(crate) use scan::{MAX_DEPTH, MAX_OBJECTS, whole};

use crate::schema::{Schema, TypeId};

/// Upstream stops collecting problems here.
const MAX_PROBLEMS: usize = 100;

/// What to do about unknown and duplicate fields: the `fieldValidation` parameter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unknown {
    /// Drop them without a word.
    #[default]
    Ignore,
    /// Drop them and report them.
    Warn,
    /// Refuse the body.
    Strict,
}

/// A decoded body.
#[derive(Debug)]
pub struct Decoded {
    /// The object in canonical form, unknown fields left out.
    pub value: Value,
    /// What `Unknown::Warn` reports, in order.
    pub problems: Vec<Problem>,
}

/// A field the schema does not know, or one given twice. Displayed in upstream's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// The path of a field that is not in the schema.
    UnknownField(String),
    /// The path of a field given more than once; the last one counts.
    DuplicateField(String),
    /// A duplicate key in YAML, as its parser puts it.
    Yaml(String),
}

/// Why a body can't be decoded, in upstream's words.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Not JSON.
    #[error("couldn't get version/kind; json parse error: {0}")]
    Syntax(#[from] SyntaxError),
    /// Not YAML.
    #[error("yaml: {0}")]
    Yaml(String),
    /// A value of another type than the schema's.
    #[error("json: cannot unmarshal {given} into Go {place} of type {wanted}")]
    Type {
        /// `string`, `number 1.5`.
        given: String,
        /// `struct field PodSpec.spec.replicas`, or `value` at the top.
        place: String,
        /// `int32`, `v1.PodSpec`.
        wanted: String,
    },
    /// A time, quantity or base64 text that is not one.
    #[error("{0}")]
    Text(String),
    /// Unknown or duplicate fields under `Unknown::Strict`.
    #[error("strict decoding error: {}", join(.0))]
    Strict(Vec<Problem>),
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownField(path) => write!(f, "unknown field {path:?}"),
            Self::DuplicateField(path) => write!(f, "duplicate field {path:?}"),
            Self::Yaml(text) => f.write_str(text),
        }
    }
}

fn join(problems: &[Problem]) -> String {
    problems.iter().map(Problem::to_string).collect::<Vec<_>>().join(", ")
}

/// Decodes a body as the given type.
///
/// # Errors
/// See [`DecodeError`]; all of them are the client's fault (400).
pub fn decode(body: &[u8], schema: &Schema, id: TypeId, unknown: Unknown) -> Result<Decoded, DecodeError> {
    // Go replaces bytes that are not UTF-8 too.
    let text = String::from_utf8_lossy(body);
    let decoded = decode::decode(&text, schema, id)?;
    match unknown {
        Unknown::Ignore => Ok(Decoded { problems: Vec::new(), ..decoded }),
        Unknown::Strict if !decoded.problems.is_empty() => Err(DecodeError::Strict(decoded.problems)),
        Unknown::Warn | Unknown::Strict => Ok(decoded),
    }
}

/// Decodes free-form JSON that stands at some depth of another body, in which so many objects may follow; says how many
/// may follow after it.
pub(crate) fn free_form(text: &[u8], depth: usize, objects: usize) -> Result<(Value, usize), DecodeError> {
    let text = String::from_utf8_lossy(text);
    let mut scanner = scan::Scanner::with_objects(&text, objects);
    let value = scanner.value(depth)?;
    scanner.end()?;
    Ok((value, scanner.objects()))
}
