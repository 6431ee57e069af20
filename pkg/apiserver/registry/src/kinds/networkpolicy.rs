//! NetworkPolicies.

use serde_json::{Value, json};

use crate::strategy::{Generation, PLAIN, Strategy};
use edgek_apiserver_admission::fields::Fields;

pub(super) const STRATEGY: Strategy = Strategy { default, generation: Generation::Counted, ..PLAIN };

fn default(policy: &mut Value) {
    let spec = policy.object_mut("spec");
    let types =
        if spec.items("egress").is_empty() { json!(["Ingress"]) } else { json!(["Ingress", "Egress"]) };
    spec.default_empty("policyTypes", types);
    for direction in ["ingress", "egress"] {
        for rule in spec.items_mut(direction) {
            for port in rule.items_mut("ports") {
                port.default("protocol", "TCP");
            }
        }
    }
}
