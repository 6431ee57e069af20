//! NetworkPolicies.

use edgek_api::field::{ErrorList, Path};
use serde_json::{Value, json};

use crate::strategy::{Generation, PLAIN, Strategy};
use edgek_apiserver_admission::fields::Fields;

pub(super) const STRATEGY: Strategy =
    Strategy { default, validate, generation: Generation::Counted, ..PLAIN };

fn validate(policy: &Value, errors: &mut ErrorList) {
    let path = Path::Root("spec.policyTypes");
    let types = policy.items("spec.policyTypes");
    for (index, kind) in types.iter().filter_map(Value::as_str).enumerate() {
        if !["Ingress", "Egress"].contains(&kind) {
            errors.not_supported(&path.index(index), kind, &["Ingress", "Egress"]);
        }
    }
}

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
