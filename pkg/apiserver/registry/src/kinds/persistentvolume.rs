//! PersistentVolumes.

use serde_json::{Value, json};

use super::workload::SPEC;
use crate::strategy::{Deleted, Generation, SPEC_AND_STATUS, Strategy};
use edgek_api::field::ErrorList;
use edgek_api::time;
use edgek_apiserver_admission::fields::{Fields, is_empty};

pub(super) const STRATEGY: Strategy = Strategy {
    default,
    prepare_create,
    prepare_status,
    validate,
    validate_update,
    generation: Generation::None,
    deleted: Deleted::Object,
    ..SPEC_AND_STATUS
};

fn default(volume: &mut Value) {
    volume.object_mut("status").default_empty("phase", "Pending");
    let spec = volume.object_mut("spec");
    spec.default_empty("persistentVolumeReclaimPolicy", "Retain");
    spec.default("volumeMode", "Filesystem");
    if let Some(host_path) = spec.at_mut("hostPath") {
        host_path.default("type", "");
    }
    if let Some(claim) = spec.at_mut("claimRef")
        && claim.has("uid")
    {
        claim.default_empty("apiVersion", "v1");
        claim.default_empty("kind", "PersistentVolumeClaim");
    }
}

fn prepare_create(volume: &mut Value) {
    volume.set("status", json!({"phase": "Pending", "lastPhaseTransitionTime": time::now_seconds()}));
}

/// The time of the last change of the phase is kept by whoever changes it, or here.
fn prepare_status(new: &mut Value, old: &Value) {
    let (before, after) =
        (old.at("status.lastPhaseTransitionTime"), new.at("status.lastPhaseTransitionTime").clone());
    let untouched = after.is_null() || &after == before;
    if new.text("status.phase") != old.text("status.phase") && untouched {
        new.object_mut("status").set("lastPhaseTransitionTime", time::now_seconds());
    } else if after.is_null() && !before.is_null() {
        new.object_mut("status").set("lastPhaseTransitionTime", before.clone());
    }
}

fn validate(volume: &Value, errors: &mut ErrorList) {
    let spec = volume.at("spec");
    if spec.items("accessModes").is_empty() {
        errors.required(&SPEC.field("accessModes"), "");
    }
    if is_empty(spec.at("capacity")) {
        errors.required(&SPEC.field("capacity"), "");
    } else if spec.at("capacity").get("storage").is_none() {
        errors.not_supported(&SPEC.field("capacity"), spec.at("capacity").clone(), &["storage"]);
    }
    let sources = [
        "hostPath",
        "nfs",
        "local",
        "csi",
        "gcePersistentDisk",
        "awsElasticBlockStore",
        "glusterfs",
        "rbd",
        "iscsi",
        "cinder",
        "cephfs",
        "fc",
        "flocker",
        "flexVolume",
        "azureFile",
        "vsphereVolume",
        "quobyte",
        "azureDisk",
        "photonPersistentDisk",
        "portworxVolume",
        "scaleIO",
        "storageos",
    ];
    if !sources.iter().any(|source| spec.has(source)) {
        errors.required(&SPEC, "must specify a volume type");
    }
}

fn validate_update(new: &Value, old: &Value, errors: &mut ErrorList) {
    crate::meta::immutable(
        new.at("spec.volumeMode"),
        old.at("spec.volumeMode"),
        &SPEC.field("volumeMode"),
        errors,
    );
}
