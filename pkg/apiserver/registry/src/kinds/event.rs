//! Events, of both groups: what they are about lives in the same namespace.

use serde_json::Value;

use crate::strategy::{Garbage, PLAIN, Strategy, UpdateOfMissing};
use edgek_api::field::{ErrorList, Path};
use edgek_apiserver_admission::fields::Fields;

pub(super) const STRATEGY: Strategy =
    Strategy { validate, update_of_missing: UpdateOfMissing::Create, garbage: Garbage::Unsupported, ..PLAIN };

fn validate(event: &Value, errors: &mut ErrorList) {
    let about = ["involvedObject", "regarding"]
        .into_iter()
        .find(|field| event.has(field))
        .unwrap_or("involvedObject");
    let namespace = event.at(about).text("namespace");
    let own = event.text("metadata.namespace");
    // Cluster-scoped objects have their events in the namespace default.
    if namespace != own && !(namespace.is_empty() && matches!(own, "default" | "kube-system")) {
        errors.invalid(&Path::Root(about).field("namespace"), namespace, "does not match event.namespace");
    }
}
