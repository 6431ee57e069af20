//! Namespaces: they carry their name as a label, and end by way of the finalizer `kubernetes`.

use edgek_api::name;
use serde_json::{Value, json};

use crate::strategy::{Deleted, Generation, SPEC_AND_STATUS, Strategy, copy};
use edgek_apiserver_admission::fields::Fields;

pub(super) const STRATEGY: Strategy = Strategy {
    name: name::Rule::Label,
    default,
    prepare_create,
    prepare_update,
    generation: Generation::None,
    deleted: Deleted::Object,
    ..SPEC_AND_STATUS
};

/// The finalizer in `spec` that the namespace controller removes when the namespace is empty.
pub(crate) const FINALIZER: &str = "kubernetes";

fn default(namespace: &mut Value) {
    namespace.object_mut("status").default_empty("phase", "Active");
    let name = namespace.text("metadata.name").to_owned();
    if !name.is_empty() {
        namespace.object_mut("metadata").object_mut("labels").set("kubernetes.io/metadata.name", name);
    }
}

fn prepare_create(namespace: &mut Value) {
    default(namespace);
    namespace.set("status", json!({"phase": "Active"}));
    let spec = namespace.object_mut("spec");
    if !spec.items("finalizers").iter().any(|finalizer| finalizer == FINALIZER) {
        let mut finalizers = spec.items("finalizers").to_vec();
        finalizers.push(FINALIZER.into());
        spec.set("finalizers", finalizers);
    }
}

fn prepare_update(new: &mut Value, old: &Value) {
    // Only the subresource `finalize` changes the finalizers of the spec.
    copy(new, old, "spec");
}
