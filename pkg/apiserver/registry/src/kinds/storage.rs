//! StorageClasses and CSIDrivers.

use serde_json::{Value, json};

use crate::meta::immutable;
use crate::strategy::{Deleted, PLAIN, Strategy};
use edgek_api::field::{ErrorList, Path};
use edgek_apiserver_admission::fields::{Fields, is_empty, same};

pub(super) const CLASS: Strategy = Strategy {
    default: default_class,
    validate: validate_class,
    validate_update: validate_class_update,
    deleted: Deleted::Object,
    ..PLAIN
};
pub(super) const DRIVER: Strategy =
    Strategy { default: default_driver, warnings: driver_warnings, deleted: Deleted::Object, ..PLAIN };

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

fn driver_warnings(new: &Value, old: Option<&Value>) -> Vec<String> {
    let requests = new.at("spec.tokenRequests");
    let unchanged = old.is_some_and(|old| same(old.at("spec.tokenRequests"), requests));
    if unchanged || is_empty(requests) || new.has("spec.serviceAccountTokenInSecrets") {
        return Vec::new();
    }
    vec!["spec.serviceAccountTokenInSecrets is unset; if supported by this CSI driver, set to true to prevent possible logging of tokens in volume attributes".to_owned()]
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
