//! PriorityClasses.

use serde_json::Value;

use crate::strategy::{Generation, PLAIN, Strategy};
use edgek_api::field::{ErrorList, Path};
use edgek_apiserver_admission::fields::Fields;

pub(super) const STRATEGY: Strategy =
    Strategy { default, validate, validate_update, generation: Generation::Counted, ..PLAIN };

/// The highest priority that users may define; above it is the system's.
const HIGHEST: i64 = 1_000_000_000;

fn default(class: &mut Value) {
    class.default("preemptionPolicy", "PreemptLowerPriority");
}

fn validate(class: &Value, errors: &mut ErrorList) {
    let name = class.text("metadata.name");
    let value = class.number("value").unwrap_or_default();
    let system = match name {
        "system-node-critical" => Some(2 * HIGHEST + 1000),
        "system-cluster-critical" => Some(2 * HIGHEST),
        _ => None,
    };
    if system.is_none() && name.starts_with("system-") {
        let detail = format!(
            "priority class names with 'system-' prefix are reserved for system use only. error: {name} is not a known system priority class"
        );
        errors.forbidden(&Path::Root("metadata").field("name"), &detail);
    }
    if system.is_none() && value > HIGHEST {
        errors.forbidden(
            &Path::Root("value"),
            &format!("maximum allowed value of a user defined priority is {HIGHEST}"),
        );
    }
    let policy = class.text("preemptionPolicy");
    if !["PreemptLowerPriority", "Never"].contains(&policy) {
        errors.not_supported(&Path::Root("preemptionPolicy"), policy, &["Never", "PreemptLowerPriority"]);
    }
}

fn validate_update(new: &Value, old: &Value, errors: &mut ErrorList) {
    if new.number("value") != old.number("value") {
        errors.forbidden(&Path::Root("value"), "may not be changed in an update.");
    }
    crate::meta::immutable(
        new.at("preemptionPolicy"),
        old.at("preemptionPolicy"),
        &Path::Root("preemptionPolicy"),
        errors,
    );
}
