//! StorageClasses and CSIDrivers.

use serde_json::{Value, json};

use crate::meta::immutable;
use crate::strategy::{Deleted, PLAIN, Strategy};
use edgek_api::field::{ErrorList, Path};
use edgek_apiserver_admission::fields::Fields;

pub(super) const CLASS: Strategy = Strategy {
    default: default_class,
    validate: validate_class,
    validate_update: validate_class_update,
    deleted: Deleted::Object,
    ..PLAIN
};
pub(super) const DRIVER: Strategy = Strategy { default: default_driver, deleted: Deleted::Object, ..PLAIN };

fn default_class(class: &mut Value) {
    class.default("reclaimPolicy", "Delete");
    class.default("volumeBindingMode", "Immediate");
}

fn validate_class(class: &Value, errors: &mut ErrorList) {
    if class.text("provisioner").is_empty() {
        errors.required(&Path::Root("provisioner"), "");
    }
    let policy = class.text("reclaimPolicy");
    if !["Delete", "Retain"].contains(&policy) {
        errors.not_supported(&Path::Root("reclaimPolicy"), policy, &["Delete", "Retain"]);
    }
}

fn validate_class_update(new: &Value, old: &Value, errors: &mut ErrorList) {
    if new.at("parameters") != old.at("parameters") {
        errors.forbidden(&Path::Root("parameters"), "updates to parameters are forbidden.");
    }
    if new.at("provisioner") != old.at("provisioner") {
        errors.forbidden(&Path::Root("provisioner"), "updates to provisioner are forbidden.");
    }
    if new.at("reclaimPolicy") != old.at("reclaimPolicy") {
        errors.forbidden(&Path::Root("reclaimPolicy"), "updates to reclaimPolicy are forbidden.");
    }
    immutable(
        new.at("volumeBindingMode"),
        old.at("volumeBindingMode"),
        &Path::Root("volumeBindingMode"),
        errors,
    );
}

fn default_driver(driver: &mut Value) {
    let spec = driver.object_mut("spec");
    spec.default("attachRequired", true);
    spec.default("fsGroupPolicy", "ReadWriteOnceWithFSType");
    spec.default_empty("volumeLifecycleModes", json!(["Persistent"]));
    for field in [
        "podInfoOnMount",
        "storageCapacity",
        "requiresRepublish",
        "seLinuxMount",
        "preventPodSchedulingIfMissing",
    ] {
        spec.default(field, false);
    }
}
