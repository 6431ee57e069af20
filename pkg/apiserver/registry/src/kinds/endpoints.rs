//! Endpoints.

use serde_json::Value;

use crate::strategy::{PLAIN, Strategy, UpdateOfMissing};
use edgek_apiserver_admission::fields::Fields;

pub(super) const STRATEGY: Strategy =
    Strategy { default, update_of_missing: UpdateOfMissing::Create, ..PLAIN };

fn default(endpoints: &mut Value) {
    for subset in endpoints.items_mut("subsets") {
        for port in subset.items_mut("ports") {
            port.default_empty("protocol", "TCP");
        }
    }
}
