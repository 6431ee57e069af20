//! Conversion of the few kinds that are served in several versions but stored in one: events (`v1` and
//! `events.k8s.io/v1`) and autoscalers (`autoscaling/v1` and `v2`). The registry converts what it reads and writes when
//! [`Resource::stored_as`] says so. Nothing is lost on the way back.

mod autoscaler;
mod event;
#[cfg(test)]
mod tests;

use serde_json::Value;

use crate::json::{self, DecodeError, Unknown};
use crate::object;
use crate::resource::Resource;
use crate::schema::Schema;

/// The object in the version of another resource of its kind; as it is when there is nothing to convert.
///
/// # Errors
/// When the object is not what its version says, or carries annotations of another version that are not valid there.
pub fn convert(mut object: Value, to: &Resource) -> Result<Value, DecodeError> {
    let target = to.api_version();
    let change = match (object::text(&object, "apiVersion"), &*target) {
        ("v1", "events.k8s.io/v1") => event::to_events,
        ("events.k8s.io/v1", "v1") => event::to_core,
        ("autoscaling/v2", "autoscaling/v1") => autoscaler::to_v1,
        ("autoscaling/v1", "autoscaling/v2") => autoscaler::to_v2,
        _ => return Ok(object),
    };
    change(&mut object);
    object::set(&mut object, "apiVersion", target);
    let bytes = serde_json::to_vec(&object).expect("an object has text keys only");
    json::decode(&bytes, Schema::builtin(), to.type_id, Unknown::Ignore).map(|decoded| decoded.value)
}
