//! FlowSchemas and PriorityLevelConfigurations: kept for clients that bring them; nothing here obeys them.

use serde_json::Value;

use crate::strategy::{SPEC_AND_STATUS, Strategy};
use edgek_apiserver_admission::fields::Fields;

pub(super) const SCHEMA: Strategy = Strategy { default: default_schema, ..SPEC_AND_STATUS };
pub(super) const LEVEL: Strategy = Strategy { default: default_level, ..SPEC_AND_STATUS };

fn default_schema(schema: &mut Value) {
    schema.object_mut("spec").default_empty("matchingPrecedence", 1000);
}

fn default_level(level: &mut Value) {
    for (kind, shares) in [("spec.exempt", 0), ("spec.limited", 30)] {
        if let Some(limits) = level.at_mut(kind) {
            limits.default("nominalConcurrencyShares", shares);
            limits.default("lendablePercent", 0);
        }
    }
    if let Some(queuing) = level.at_mut("spec.limited.limitResponse.queuing") {
        for (field, value) in [("handSize", 8), ("queues", 64), ("queueLengthLimit", 50)] {
            queuing.default_empty(field, value);
        }
    }
}
