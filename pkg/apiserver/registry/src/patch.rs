//! Patches as changes. Server-side apply belongs here, too, once managed fields are kept.

use edgek_api::json::{self, Unknown};
use edgek_api::patch::Kind;
use edgek_api::schema::{Schema, TypeId};
use edgek_apiserver_admission::Admission;
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

impl Change for Patch<'_> {
    fn apply(&self, old: &Value) -> Result<Value, Error> {
        let new = self.kind.apply(old.clone(), self.body, self.schema, self.type_id)?;
        // The result is held to the schema like any body: a patch can put anything anywhere.
        let bytes = serde_json::to_vec(&new).map_err(|error| Error::Internal(error.to_string()))?;
        let decoded = json::decode(&bytes, self.schema, self.type_id, self.unknown)
            .map_err(|error| Error::BadRequest(error.to_string()))?;
        for problem in decoded.problems {
            self.admission.warn(problem.to_string());
        }
        Ok(decoded.value)
    }
}
