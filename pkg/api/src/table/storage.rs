//! Volumes, claims, and the drivers behind them; devices.

use serde_json::{Value, json};

use super::Printer;
use super::object::{Cells, Object, joined, or};
use crate::object::{get, text};

const STORAGE: &str = "storage.k8s.io";
const DEVICES: &str = "resource.k8s.io";

pub(super) const PRINTERS: &[Printer] = &[
    Printer::new("", "PersistentVolume", VOLUMES, volume),
    Printer::new("", "PersistentVolumeClaim", CLAIMS, claim),
    Printer::new(STORAGE, "StorageClass", CLASSES, |o| {
        let annotations = o.get("metadata.annotations").unwrap_or(&Value::Null);
        let marks = [
            "storageclass.kubernetes.io/is-default-class",
            "storageclass.beta.kubernetes.io/is-default-class",
        ];
        let mark = if marks.iter().any(|mark| annotations[mark] == "true") { " (default)" } else { "" };
        vec![
            json!(format!("{}{mark}", o.text("metadata.name"))),
            json!(o.text("provisioner")),
            json!(o.text_or("reclaimPolicy", "Delete")),
            json!(o.text_or("volumeBindingMode", "Immediate")),
            json!(o.flag("allowVolumeExpansion")),
            o.age(),
        ]
    }),
    Printer::new(STORAGE, "VolumeAttributesClass", "@Name,DriverName,Age", |o| {
        vec![o.name(), json!(o.text("driverName")), o.age()]
    }),
    Printer::new(STORAGE, "VolumeAttachment", "@Name,@Attacher,PV,Node,?Attached,Age", |o| {
        vec![
            o.name(),
            json!(o.text("spec.attacher")),
            json!(o.text("spec.source.persistentVolumeName")),
            json!(o.text("spec.nodeName")),
            json!(o.flag("status.attached")),
            o.age(),
        ]
    }),
    Printer::new(STORAGE, "CSINode", "@Name,#Drivers,Age", |o| {
        vec![o.name(), json!(o.count("spec.drivers")), o.age()]
    }),
    Printer::new(STORAGE, "CSIDriver", DRIVERS, driver),
    Printer::new(DEVICES, "DeviceClass", "@Name,Age", |o| vec![o.name(), o.age()]),
    Printer::new(DEVICES, "ResourceClaim", "@Name,State,Age", |o| {
        vec![o.name(), json!(claim_state(o)), o.age()]
    }),
    Printer::new(DEVICES, "ResourceClaimTemplate", "@Name,Age", |o| vec![o.name(), o.age()]),
    Printer::new(DEVICES, "ResourceSlice", "@Name,Node,Driver,Pool,Age", |o| {
        let [node, driver, pool] =
            ["spec.nodeName", "spec.driver", "spec.pool.name"].map(|path| json!(o.text(path)));
        vec![o.name(), node, driver, pool, o.age()]
    }),
    Printer::new(DEVICES, "DeviceTaintRule", "@Name,Key,Value,Effect,TimeAdded,Age", |o| {
        let [key, value, effect] =
            ["key", "value", "effect"].map(|field| json!(o.text(&format!("spec.taint.{field}"))));
        let added =
            o.get("spec.taint.timeAdded").map(|_| o.since("spec.taint.timeAdded")).unwrap_or_default();
        vec![o.name(), key, value, effect, json!(added), o.age()]
    }),
];

const VOLUMES: &str = "@Name,Capacity,Access Modes,Reclaim Policy,Status,Claim,StorageClass,VolumeAttributesClass,Reason,Age,+VolumeMode";
const CLAIMS: &str =
    "@Name,Status,Volume,Capacity,Access Modes,StorageClass,VolumeAttributesClass,Age,+VolumeMode";
const CLASSES: &str = "@Name,Provisioner,ReclaimPolicy,VolumeBindingMode,AllowVolumeExpansion,Age";
const DRIVERS: &str =
    "@Name,?AttachRequired,?PodInfoOnMount,?StorageCapacity,TokenRequests,?RequiresRepublish,Modes,Age";

fn volume(o: &Object<'_>) -> Cells {
    let claim = match o.get("spec.claimRef") {
        Some(claim) => format!("{}/{}", text(claim, "namespace"), text(claim, "name")),
        None => String::new(),
    };
    vec![
        o.name(),
        json!(o.text_or("spec.capacity.storage", "0")),
        json!(access_modes(o.items("spec.accessModes"))),
        json!(o.text("spec.persistentVolumeReclaimPolicy")),
        json!(phase(o)),
        json!(claim),
        json!(class(o)),
        json!(o.text_or("spec.volumeAttributesClassName", "<unset>")),
        json!(o.text("status.reason")),
        o.age(),
        json!(o.text_or("spec.volumeMode", "<unset>")),
    ]
}

fn claim(o: &Object<'_>) -> Cells {
    let bound = !o.text("spec.volumeName").is_empty();
    let capacity = if bound { o.text_or("status.capacity.storage", "0") } else { "" };
    let modes = if bound { access_modes(o.items("status.accessModes")) } else { String::new() };
    vec![
        o.name(),
        json!(phase(o)),
        json!(o.text("spec.volumeName")),
        json!(capacity),
        json!(modes),
        json!(class(o)),
        json!(o.text_or("spec.volumeAttributesClassName", "<unset>")),
        o.age(),
        json!(o.text_or("spec.volumeMode", "<unset>")),
    ]
}

fn phase<'a>(o: &Object<'a>) -> &'a str {
    if o.is_deleting() { "Terminating" } else { o.text("status.phase") }
}

/// The storage class; an old annotation goes before the field.
fn class<'a>(o: &Object<'a>) -> &'a str {
    let annotated =
        o.get("metadata.annotations").and_then(|a| a.get("volume.beta.kubernetes.io/storage-class"));
    annotated.and_then(Value::as_str).unwrap_or_else(|| o.text("spec.storageClassName"))
}

fn access_modes(modes: &[Value]) -> String {
    let known = [
        ("ReadWriteOnce", "RWO"),
        ("ReadOnlyMany", "ROX"),
        ("ReadWriteMany", "RWX"),
        ("ReadWriteOncePod", "RWOP"),
    ];
    joined(known.into_iter().filter(|(mode, _)| modes.iter().any(|m| m == mode)).map(|(_, short)| short))
}

fn driver(o: &Object<'_>) -> Cells {
    let tokens = match o.get("spec.tokenRequests") {
        Some(_) => joined(o.items("spec.tokenRequests").iter().map(|request| text(request, "audience"))),
        None => "<unset>".to_owned(),
    };
    vec![
        o.name(),
        json!(o.flag_or("spec.attachRequired", true)),
        json!(o.flag("spec.podInfoOnMount")),
        json!(o.flag("spec.storageCapacity")),
        json!(tokens),
        json!(o.flag("spec.requiresRepublish")),
        json!(or(joined(o.texts("spec.volumeLifecycleModes")), "<none>")),
        o.age(),
    ]
}

fn claim_state(o: &Object<'_>) -> String {
    let allocation = o.get("status").and_then(|status| get(status, "allocation"));
    let states = [
        o.is_deleting().then_some("deleted"),
        (allocation.is_none() && !o.is_deleting()).then_some("pending"),
        allocation.map(|_| "allocated"),
        allocation.filter(|_| o.count("status.reservedFor") > 0).map(|_| "reserved"),
    ];
    joined(states.into_iter().flatten())
}
