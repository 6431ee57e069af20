//! Validation of the volumes of a pod spec.

use std::collections::BTreeSet;

use edgek_api::name;
use serde_json::Value;

use super::container::descending_path;
use edgek_api::field::{ErrorList, Path};
use edgek_apiserver_admission::fields::Fields;

/// The names of the valid volumes, which mounts may name.
pub(super) type Volumes<'a> = BTreeSet<&'a str>;

/// Every kind of volume a pod may have, in the order upstream looks for them.
const SOURCES: [&str; 30] = [
    "emptyDir",
    "hostPath",
    "gitRepo",
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "secret",
    "nfs",
    "iscsi",
    "glusterfs",
    "flocker",
    "persistentVolumeClaim",
    "rbd",
    "cinder",
    "cephfs",
    "quobyte",
    "downwardAPI",
    "fc",
    "flexVolume",
    "configMap",
    "azureFile",
    "vsphereVolume",
    "photonPersistentDisk",
    "portworxVolume",
    "azureDisk",
    "storageos",
    "projected",
    "scaleIO",
    "csi",
    "ephemeral",
    "image",
];

const FILE_MODE: &str = "must be a number between 0 and 0777 (octal), both inclusive";

/// Validates the volumes of a pod spec and gives the names of the valid ones.
pub(super) fn validate_all<'a>(spec: &'a Value, path: &Path<'_>, errors: &mut ErrorList) -> Volumes<'a> {
    let mut names = Volumes::new();
    for (index, volume) in spec.items("volumes").iter().enumerate() {
        let path = path.index(index);
        let mut problems = ErrorList::default();
        source(volume, &path, &mut problems);
        let name = volume.text("name");
        if name.is_empty() {
            problems.required(&path.field("name"), "");
        } else {
            problems.invalid_all(&path.field("name"), name, name::dns1123_label(name));
        }
        if names.contains(name) {
            problems.duplicate(&path.field("name"), name);
        }
        if problems.is_empty() {
            names.insert(name);
        }
        errors.0.append(&mut problems.0);
    }
    names
}

fn source(volume: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let mut present = SOURCES.into_iter().filter(|kind| volume.has(kind));
    let Some(first) = present.next() else {
        return errors.required(path, "must specify a volume type");
    };
    for further in present {
        errors.forbidden(&path.field(further), "may not specify more than 1 volume type");
    }
    let source = volume.at(first);
    let path = path.field(first);
    let required: &[&str] = match first {
        "hostPath" => &["path"],
        "secret" => &["secretName"],
        "configMap" => &["name"],
        "persistentVolumeClaim" => &["claimName"],
        "nfs" => &["server", "path"],
        "csi" => &["driver"],
        "image" => &["reference"],
        "gitRepo" => &["repository"],
        _ => &[],
    };
    for field in required.iter().filter(|field| source.text(field).is_empty()) {
        errors.required(&path.field(field), "");
    }
    default_mode(source, &path, errors);
    match first {
        "hostPath" => host_path(source, &path, errors),
        "nfs" if !source.text("path").starts_with('/') => {
            errors.invalid(&path.field("path"), source.text("path"), "must be an absolute path");
        }
        "emptyDir" if source.at("sizeLimit").as_str().is_some_and(|size| size.starts_with('-')) => {
            let detail = "SizeLimit field must be a valid resource quantity";
            errors.forbidden(&path.field("sizeLimit"), detail);
        }
        "secret" | "configMap" => key_paths(source, &path, errors),
        "downwardAPI" => downward_api(source, &path, errors),
        "projected" => projected(source, &path, errors),
        "ephemeral" if !source.has("volumeClaimTemplate") => {
            errors.required(&path.field("volumeClaimTemplate"), "")
        }
        _ => {}
    }
}

fn default_mode(source: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    mode(source, "defaultMode", path, errors);
}

fn mode(source: &Value, field: &str, path: &Path<'_>, errors: &mut ErrorList) {
    if let Some(mode) = source.number(field).filter(|mode| !(0..=0o777).contains(mode)) {
        errors.invalid(&path.field(field), mode, FILE_MODE);
    }
}

fn host_path(source: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let value = source.text("path");
    if value.split('/').any(|part| part == "..") {
        errors.invalid(&path.field("path"), value, "must not contain '..'");
    }
    let types =
        ["", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"];
    let kind = source.text("type");
    if !types.contains(&kind) {
        errors.not_supported(&path.field("type"), kind, &types);
    }
}

fn key_paths(source: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let items = path.field("items");
    for (index, item) in source.items("items").iter().enumerate() {
        let path = items.index(index);
        if item.text("key").is_empty() {
            errors.required(&path.field("key"), "");
        }
        local_path(item.text("path"), &path.field("path"), errors);
        mode(item, "mode", &path, errors);
    }
}

/// A relative path within a volume that stays clear of the names the node itself uses.
fn local_path(value: &str, path: &Path<'_>, errors: &mut ErrorList) {
    if value.is_empty() {
        return errors.required(path, "");
    }
    descending_path(value, path, errors);
    if value.starts_with("..") && !value.starts_with("../") {
        errors.invalid(path, value, "must not start with '..'");
    }
}

fn downward_api(source: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    for file in source.items("items") {
        local_path(file.text("path"), &path.field("path"), errors);
        match (file.has("fieldRef"), file.has("resourceFieldRef")) {
            (true, true) => {
                errors.invalid(
                    path,
                    "resource",
                    "fieldRef and resourceFieldRef can not be specified simultaneously",
                );
            }
            (false, false) => errors.required(path, "one of fieldRef and resourceFieldRef is required"),
            (true, false) if file.at("fieldRef").text("fieldPath").is_empty() => {
                errors.required(&path.field("fieldRef").field("fieldPath"), "");
            }
            _ => {}
        }
        mode(file, "mode", path, errors);
    }
}

fn projected(source: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let volume = path;
    let mut taken = BTreeSet::new();
    let sources = path.field("sources");
    for (index, source) in source.items("sources").iter().enumerate() {
        let item = sources.index(index);
        let kinds = [
            "secret",
            "configMap",
            "downwardAPI",
            "serviceAccountToken",
            "clusterTrustBundle",
            "podCertificate",
        ];
        let present: Vec<&str> = kinds.into_iter().filter(|kind| source.has(kind)).collect();
        for kind in &present {
            let path = item.field(kind);
            let part = source.at(kind);
            match *kind {
                "secret" | "configMap" => {
                    if part.text("name").is_empty() {
                        errors.required(&path.field("name"), "");
                    }
                    key_paths(part, &path, errors);
                }
                "downwardAPI" => downward_api(part, &path, errors),
                "serviceAccountToken" => token(part, &path, volume, errors),
                _ => {}
            }
            unique_paths(kind, part, &mut taken, volume, errors);
        }
        if present.len() > 1 {
            errors.forbidden(&item, "may not specify more than 1 volume type per source");
        }
    }
}

/// No two sources of a volume write the same file. Tokens take part in this as little as they do upstream.
fn unique_paths<'a>(
    kind: &str,
    part: &'a Value,
    taken: &mut BTreeSet<&'a str>,
    volume: &Path<'_>,
    errors: &mut ErrorList,
) {
    let own: &[&str] = match kind {
        "clusterTrustBundle" => &["path"],
        "podCertificate" => &["credentialBundlePath", "keyPath", "certificateChainPath"],
        _ => &[],
    };
    let files = part.items("items").iter().map(|file| file.text("path"));
    for path in files.chain(own.iter().map(|field| part.text(field))).filter(|path| !path.is_empty()) {
        if !taken.insert(path) {
            // Upstream tells of these two who repeats the path, not which it is.
            let value = if ["secret", "configMap"].contains(&kind) { part.text("name") } else { path };
            errors.invalid(volume, value, "conflicting duplicate paths");
        }
    }
}

fn token(token: &Value, path: &Path<'_>, volume: &Path<'_>, errors: &mut ErrorList) {
    let lifetime = path.field("expirationSeconds");
    match token.number("expirationSeconds") {
        None => errors.required(&lifetime, ""),
        Some(seconds) if seconds < 600 => {
            errors.invalid(&lifetime, seconds, "may not specify a duration less than 10 minutes")
        }
        Some(seconds) if seconds > 1 << 32 => {
            errors.invalid(&lifetime, seconds, "may not specify a duration larger than 2^32 seconds");
        }
        Some(_) => {}
    }
    // Upstream's path leaves the source out.
    local_path(token.text("path"), &volume.field("path"), errors);
}
