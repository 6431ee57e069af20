//! HorizontalPodAutoscalers, as `autoscaling/v2` stores them.

use edgek_api::field::ErrorList;
use serde_json::{Value, json};

use super::workload::SPEC;
use crate::strategy::{SPEC_AND_STATUS, Strategy};
use edgek_apiserver_admission::fields::Fields;

pub(super) const STRATEGY: Strategy = Strategy { default, validate, ..SPEC_AND_STATUS };

fn default(autoscaler: &mut Value) {
    let spec = autoscaler.object_mut("spec");
    spec.default("minReplicas", 1);
    let target = json!({"averageUtilization": 80, "type": "Utilization"});
    spec.default_empty(
        "metrics",
        json!([{"resource": {"name": "cpu", "target": target}, "type": "Resource"}]),
    );
    if let Some(behavior) = spec.at_mut("behavior") {
        let pods = json!({"type": "Pods", "value": 4, "periodSeconds": 15});
        let percent = json!({"type": "Percent", "value": 100, "periodSeconds": 15});
        let up = behavior.object_mut("scaleUp");
        up.default("stabilizationWindowSeconds", 0);
        up.default("selectPolicy", "Max");
        up.default("policies", json!([pods, percent.clone()]));
        let down = behavior.object_mut("scaleDown");
        down.default("selectPolicy", "Max");
        down.default("policies", json!([percent]));
    }
}

fn validate(autoscaler: &Value, errors: &mut ErrorList) {
    let spec = autoscaler.at("spec");
    let (min, max) =
        (spec.number("minReplicas").unwrap_or(1), spec.number("maxReplicas").unwrap_or_default());
    if min < 1 {
        errors.invalid(&SPEC.field("minReplicas"), min, "must be greater than or equal to 1");
    }
    if max < 1 {
        errors.invalid(&SPEC.field("maxReplicas"), max, "must be greater than 0");
    }
    if max < min {
        errors.invalid(&SPEC.field("maxReplicas"), max, "must be greater than or equal to `minReplicas`");
    }
    for field in ["kind", "name"] {
        if spec.at("scaleTargetRef").text(field).is_empty() {
            errors.required(&SPEC.field("scaleTargetRef").field(field), "");
        }
    }
}
