//! The kinds of dynamic resource allocation: requests for devices count one device unless they say otherwise.

use serde_json::Value;

use crate::strategy::{Deleted, Generation, SPEC_AND_STATUS, Strategy};
use edgek_apiserver_admission::fields::Fields;

pub(super) const STRATEGY: Strategy =
    Strategy { default, generation: Generation::None, deleted: Deleted::Object, ..SPEC_AND_STATUS };

fn default(claim: &mut Value) {
    for spec in ["spec", "spec.spec"] {
        let Some(devices) = claim.at_mut(spec).and_then(|spec| spec.at_mut("devices")) else { continue };
        for request in devices.items_mut("requests") {
            request.at_mut("exactly").into_iter().for_each(count);
            request.items_mut("firstAvailable").for_each(count);
        }
    }
}

fn count(request: &mut Value) {
    request.default_empty("allocationMode", "ExactCount");
    if request.text("allocationMode") == "ExactCount" {
        request.default_empty("count", 1);
    }
    for toleration in request.items_mut("tolerations") {
        toleration.default_empty("operator", "Equal");
    }
}
