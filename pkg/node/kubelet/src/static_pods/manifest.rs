//! A file of the folder as a pod: YAML or JSON, with the defaults the API server would have given it.

use std::path::Path;

use edgek_api::json::Unknown;
use edgek_api::resource::Catalog;
use edgek_api::schema::Schema;
use edgek_api::yaml;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use super::{HASH, SOURCE};

/// Why a file is not a pod.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be read.
    #[error("unreadable")]
    Read(#[source] std::io::Error),
    /// It is neither YAML nor JSON of a pod.
    #[error("invalid pod: {0}")]
    Invalid(String),
    /// It refers to what only the API server has.
    #[error("static pods may not use {0}")]
    Refers(&'static str),
}

/// The pod of a manifest at `path` on this node. The uid is made from contents, path and node, so that a changed
/// manifest is another pod.
///
/// # Errors
/// See [`Error`].
pub fn parse(text: &[u8], path: &Path, node: &str) -> Result<Pod, Error> {
    let schema = Schema::builtin();
    let pods = Catalog::builtin().find("", "v1", "pods");
    let pods = pods.ok_or_else(|| Error::Invalid("this build knows no pods".to_owned()))?;
    let decoded = yaml::decode(text, schema, pods.type_id, Unknown::Ignore);
    let mut pod = decoded.map_err(|error| Error::Invalid(error.to_string()))?.value;
    if pod["kind"] != "Pod" {
        return Err(Error::Invalid(format!("kind is {}", pod["kind"])));
    }
    let name = pod["metadata"]["name"].as_str().unwrap_or_default();
    if name.is_empty() {
        return Err(Error::Invalid("metadata.name: Required value".to_owned()));
    }
    refuse_references(&pod)?;
    let name = format!("{name}-{}", node.to_lowercase());
    let hash = hash(text, path, node);
    let meta = &mut pod["metadata"];
    meta["name"] = json!(name);
    default(meta, "namespace", json!("default"));
    default(meta, "uid", json!(hash));
    default(meta, "annotations", json!({}));
    meta["annotations"][HASH] = json!(hash);
    meta["annotations"][SOURCE] = json!("file");
    meta["annotations"]["kubernetes.io/config.seen"] = json!(Timestamp::now().to_string());
    let seen = json!(Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string());
    default(meta, "creationTimestamp", seen);
    let spec = &mut pod["spec"];
    spec["nodeName"] = json!(node);
    defaults(spec);
    pod["status"] = json!({"phase": "Pending"});
    serde_json::from_slice(pod.to_string().as_bytes()).map_err(|error| Error::Invalid(error.to_string()))
}

fn refuse_references(pod: &Value) -> Result<(), Error> {
    let spec = &pod["spec"];
    if spec["serviceAccountName"].as_str().is_some_and(|name| !name.is_empty()) {
        return Err(Error::Refers("service accounts"));
    }
    if !spec["resourceClaims"].is_null() {
        return Err(Error::Refers("ResourceClaims"));
    }
    let volumes = spec["volumes"].as_array().into_iter().flatten();
    for (source, words) in
        [("secret", "secrets"), ("configMap", "config maps"), ("projected", "projected volumes")]
    {
        if volumes.clone().any(|volume| !volume[source].is_null()) {
            return Err(Error::Refers(words));
        }
    }
    Ok(())
}

fn defaults(spec: &mut Value) {
    default(spec, "restartPolicy", json!("Always"));
    default(spec, "dnsPolicy", json!("ClusterFirst"));
    default(spec, "terminationGracePeriodSeconds", json!(30));
    default(spec, "enableServiceLinks", json!(true));
    default(spec, "schedulerName", json!("default-scheduler"));
    default(spec, "securityContext", json!({}));
    // Static pods stay when the node is in trouble.
    default(spec, "tolerations", json!([]));
    if let Some(tolerations) = spec["tolerations"].as_array_mut() {
        tolerations.push(json!({"operator": "Exists", "effect": "NoExecute"}));
    }
    for list in ["initContainers", "containers"] {
        for container in spec[list].as_array_mut().into_iter().flatten() {
            let image = container["image"].as_str().unwrap_or_default();
            let last = image.rsplit('/').next().unwrap_or_default();
            let newest = !image.contains('@') && (!last.contains(':') || last.ends_with(":latest"));
            default(container, "imagePullPolicy", json!(if newest { "Always" } else { "IfNotPresent" }));
            default(container, "terminationMessagePath", json!("/dev/termination-log"));
            default(container, "terminationMessagePolicy", json!("File"));
            default(container, "resources", json!({}));
        }
    }
}

fn default(object: &mut Value, field: &str, value: Value) {
    if object[field].is_null() {
        object[field] = value;
    }
}

/// 32 hexadecimal digits, as upstream's.
fn hash(text: &[u8], path: &Path, node: &str) -> String {
    let mut context = ring::digest::Context::new(&ring::digest::SHA256);
    context.update(text);
    context.update(format!("host:{node}file:{}", path.display()).as_bytes());
    context.finish().as_ref()[..16].iter().map(|byte| format!("{byte:02x}")).collect()
}
