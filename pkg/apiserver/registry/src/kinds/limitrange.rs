//! LimitRanges.

use serde_json::Value;

use crate::strategy::{PLAIN, Strategy, UpdateOfMissing};
use edgek_apiserver_admission::fields::Fields;

pub(super) const STRATEGY: Strategy =
    Strategy { default, update_of_missing: UpdateOfMissing::Create, ..PLAIN };

fn default(range: &mut Value) {
    for limit in range.object_mut("spec").items_mut("limits") {
        if limit.text("type") != "Container" {
            continue;
        }
        for (from, to) in [("max", "default"), ("default", "defaultRequest"), ("min", "defaultRequest")] {
            let Some(values) = limit.at(from).as_object().cloned() else { continue };
            for (name, quantity) in values {
                limit.object_mut(to).default(&name, quantity);
            }
        }
    }
}
