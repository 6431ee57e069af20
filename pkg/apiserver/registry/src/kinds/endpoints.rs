//! Endpoints.

use serde_json::Value;

use edgek_apiserver_admission::fields::Fields;
use crate::strategy::{PLAIN, Strategy, UpdateOfMissing};

pub(super) const STRATEGY: Strategy = Strategy { default, update_of_missing: UpdateOfMissing::Create, ..PLAIN };

fn default(endpoints: &mut Value) {
    for subset in endpoints.items_mut("subsets") {
        for port in subset.items_mut("ports") {
            port.default_empty("protocol", "TCP");
        }
    }
}
