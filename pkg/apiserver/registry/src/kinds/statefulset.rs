//! StatefulSets.

use serde_json::{Value, json};

use super::workload::{self, SPEC};
use crate::pod::default_template;
use crate::strategy::{SPEC_AND_STATUS, Strategy};
use edgek_api::field::ErrorList;
use edgek_api::name;
use edgek_apiserver_admission::fields::{Fields, same};

pub(super) const STRATEGY: Strategy = Strategy {
    name: name::Rule::Label,
    default,
    warnings: workload::template_warnings,
    validate,
    validate_update,
    ..SPEC_AND_STATUS
};

/// The fields of the spec that may change.
const MUTABLE: [&str; 8] = [
    "replicas",
    "ordinals",
    "template",
    "updateStrategy",
    "revisionHistoryLimit",
    "persistentVolumeClaimRetentionPolicy",
    "minReadySeconds",
    "status",
];

fn default(set: &mut Value) {
    let spec = set.object_mut("spec");
    spec.default_empty("podManagementPolicy", "OrderedReady");
    let strategy = spec.object_mut("updateStrategy");
    if strategy.text("type").is_empty() {
        strategy.set("type", "RollingUpdate");
        strategy.default("rollingUpdate", json!({}));
    }
    if strategy.text("type") == "RollingUpdate"
        && let Some(rolling) = strategy.at_mut("rollingUpdate")
    {
        rolling.default("partition", 0);
        rolling.default("maxUnavailable", 1);
    }
    let retention = spec.object_mut("persistentVolumeClaimRetentionPolicy");
    retention.default_empty("whenDeleted", "Retain");
    retention.default_empty("whenScaled", "Retain");
    spec.default("replicas", 1);
    spec.default("revisionHistoryLimit", 10);
    default_template(spec);
    for claim in spec.items_mut("volumeClaimTemplates") {
        claim.set("apiVersion", "v1");
        claim.set("kind", "PersistentVolumeClaim");
        claim.object_mut("spec").default("volumeMode", "Filesystem");
        claim.object_mut("status").default_empty("phase", "Pending");
    }
}

fn validate(set: &Value, errors: &mut ErrorList) {
    let spec = set.at("spec");
    let policy = spec.text("podManagementPolicy");
    if !["OrderedReady", "Parallel"].contains(&policy) {
        errors.invalid(&SPEC.field("podManagementPolicy"), policy, "must be 'OrderedReady' or 'Parallel'");
    }
    let kind = spec.text("updateStrategy.type");
    if !["RollingUpdate", "OnDelete"].contains(&kind) {
        errors.invalid(
            &SPEC.field("updateStrategy"),
            spec.at("updateStrategy").clone(),
            "must be 'RollingUpdate' or 'OnDelete'",
        );
    }
    workload::not_negative(spec, &["replicas", "minReadySeconds"], &SPEC, errors);
    workload::selector(spec, "empty selector is invalid for statefulset", errors);
    workload::template(spec, "StatefulSet", errors);
}

fn validate_update(new: &Value, old: &Value, errors: &mut ErrorList) {
    let (mut new, mut old) = (new.at("spec").clone(), old.at("spec").clone());
    for field in MUTABLE {
        new.remove(field);
        old.remove(field);
    }
    if !same(&new, &old) {
        errors.forbidden(
            &SPEC,
            "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden",
        );
    }
}
