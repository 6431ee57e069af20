//! Patches as changes. Server-side apply belongs here, too, once managed fields are kept.

use edgek_api::field::{ErrorList, Path};
use edgek_api::json::{self, DecodeError, Unknown};
use edgek_api::patch::{self, Kind};
use edgek_api::schema::{Schema, TypeId};
use edgek_apiserver_admission::Admission;
use edgek_apiserver_admission::fields::Fields;
use serde_json::Value;

use crate::error::Error;
use crate::update::Change;

/// A patch of an object of a type.
pub struct Patch<'a> {
    /// Its format.
    pub kind: Kind,
    /// Its bytes.
    pub body: &'a [u8],
    /// The schema the type is in.
    pub schema: &'static Schema,
    /// The type that is patched.
    pub type_id: TypeId,
    /// What to do about fields that the type does not have.
    pub unknown: Unknown,
    /// Where warnings go.
    pub admission: &'a Admission<'a>,
}

impl Patch<'_> {
    /// An object stays of its kind and version: a strategic patch cannot touch them, another one must not.
    fn keep_kind(&self, mut new: Value, old: &Value, patched: &[u8]) -> Result<Value, Error> {
        if self.kind == Kind::Strategic {
            for field in ["apiVersion", "kind"] {
                new.set(field, old.at(field).clone());
            }
            return Ok(new);
        }
        let (version, kind) = (new.text("apiVersion"), new.text("kind"));
        if (version, kind) == (old.text("apiVersion"), old.text("kind")) {
            return Ok(new);
        }
        let why = if kind.is_empty() {
            format!("Object 'Kind' is missing in '{}'", String::from_utf8_lossy(patched))
        } else {
            format!(
                "no kind {kind:?} is registered for version {version:?} in scheme \"pkg/runtime/scheme.go:111\""
            )
        };
        Err(self.refuse(patched, &DecodeError::Text(why)))
    }

    /// The error of a patch that makes of an object what its kind cannot be. A strategic patch is shown itself, for the
    /// others what became of the object.
    fn refuse(&self, patched: &[u8], error: &DecodeError) -> Error {
        let (shown, why) = match self.kind {
            Kind::Strategic => {
                let patch: Value = serde_json::from_slice(self.body).unwrap_or_default();
                (patch::print(&patch), restored(error))
            }
            Kind::Json | Kind::Merge => (String::from_utf8_lossy(patched).into_owned(), error.to_string()),
        };
        let mut problems = ErrorList::default();
        problems.invalid(&Path::Root("patch"), shown, &why);
        Error::Invalid { subject: Box::default(), problems }
    }
}

/// What is wrong with a value, in the words of upstream's converter from untyped maps, which makes objects of strategic
/// patches.
fn restored(error: &DecodeError) -> String {
    let DecodeError::Type { given, wanted, .. } = error else { return error.to_string() };
    let given = match given.as_str() {
        "number" => "int64",
        "array" => "slice",
        "object" => "map",
        number if number.starts_with("number ") && number.contains(['.', 'e']) => "float64",
        number if number.starts_with("number ") => "int64",
        other => other,
    };
    match wanted.as_str() {
        map if map.starts_with("map[") => format!("cannot restore map from {given}"),
        list if list.starts_with("[]") => format!("cannot restore slice from {given}"),
        message if message.contains('.') => format!("cannot restore struct from: {given}"),
        scalar => format!("cannot convert {given} to {scalar}"),
    }
}

impl Change for Patch<'_> {
    fn apply(&self, old: &Value) -> Result<Value, Error> {
        let new = self.kind.apply(old.clone(), self.body, self.schema, self.type_id)?;
        // The result is held to the schema like any body: a patch can put anything anywhere.
        let bytes = serde_json::to_vec(&new).map_err(|error| Error::Internal(error.to_string()))?;
        let decoded = json::decode(&bytes, self.schema, self.type_id, self.unknown)
            .map_err(|error| self.refuse(&bytes, &error))?;
        for problem in decoded.problems {
            self.admission.warn(problem.to_string());
        }
        self.keep_kind(decoded.value, old, &bytes)
    }
}
