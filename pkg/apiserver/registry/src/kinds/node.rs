//! Nodes.

use serde_json::Value;

use super::service::{NO_CIDR, is_cidr};
use super::workload::SPEC;
use crate::strategy::{Generation, SPEC_AND_STATUS, StatusField, Strategy, copy};
use edgek_api::field::{ErrorList, Path};
use edgek_apiserver_admission::fields::{Fields, same};

// Kubelets register their node with its status, so that creation keeps it.
pub(super) const STRATEGY: Strategy = Strategy {
    default,
    prepare_update,
    validate,
    validate_update,
    generation: Generation::None,
    status: StatusField::Plain,
    ..SPEC_AND_STATUS
};

fn default(node: &mut Value) {
    let capacity = node.at("status.capacity").clone();
    if !capacity.is_null() {
        node.object_mut("status").default("allocatable", capacity);
    }
}

fn prepare_update(new: &mut Value, old: &Value) {
    copy(new, old, "status");
}

fn validate(node: &Value, errors: &mut ErrorList) {
    let ranges = SPEC.field("podCIDRs");
    for (index, range) in node.items("spec.podCIDRs").iter().filter_map(Value::as_str).enumerate() {
        if !is_cidr(range) {
            errors.invalid(&ranges.index(index), range, NO_CIDR);
        }
    }
    // Upstream's path.
    let path = Path::Root("metadata.taints");
    let mut seen = std::collections::BTreeSet::new();
    for (index, taint) in node.items("spec.taints").iter().enumerate() {
        let path = path.index(index);
        let key = taint.text("key");
        errors.invalid_all(&path.field("key"), key, edgek_api::name::qualified_name(key));
        let effect = taint.text("effect");
        match effect {
            "" => errors.required(&path.field("effect"), ""),
            "NoSchedule" | "PreferNoSchedule" | "NoExecute" => {}
            other => errors.not_supported(
                &path.field("effect"),
                other,
                &["NoSchedule", "PreferNoSchedule", "NoExecute"],
            ),
        }
        if !seen.insert((key, effect)) {
            errors.duplicate(&path, taint.clone());
        }
    }
}

fn validate_update(new: &Value, old: &Value, errors: &mut ErrorList) {
    let (before, after) = (old.at("spec.podCIDR"), new.at("spec.podCIDR"));
    if !before.is_null() && before != "" && !same(before, after) {
        errors.forbidden(
            &SPEC.field("podCIDRs"),
            "node updates may not change podCIDR except from \"\" to valid",
        );
    }
    let (before, after) = (old.at("spec.providerID"), new.at("spec.providerID"));
    if !before.is_null() && before != "" && !same(before, after) {
        errors.forbidden(
            &SPEC.field("providerID"),
            "node updates may not change providerID except from \"\" to valid",
        );
    }
}
