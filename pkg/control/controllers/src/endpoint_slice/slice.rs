//! `EndpointSlice`: the object, as far as the controllers write it; its metadata stay as they are.

use edgek_client::ResourceRef;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// Which service a slice belongs to.
pub(crate) const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// Which controller writes it.
pub(crate) const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct EndpointSlice {
    pub(crate) metadata: Map<String, Value>,
    pub(crate) address_type: String,
    pub(crate) endpoints: Vec<Endpoint>,
    pub(crate) ports: Vec<Port>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Endpoint {
    pub(crate) addresses: Vec<String>,
    pub(crate) conditions: Conditions,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) hostname: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) target_ref: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) node_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) zone: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) hints: Option<Value>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Conditions {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ready: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) serving: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) terminating: Option<bool>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Port {
    pub(crate) name: String,
    pub(crate) port: i32,
    pub(crate) protocol: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) app_protocol: Option<String>,
}

/// What makes two endpoints the same one, whatever their condition.
pub(crate) type Identity = (Vec<String>, Option<String>, String, String);

impl Endpoint {
    pub(crate) fn identity(&self) -> Identity {
        let mut addresses = self.addresses.clone();
        addresses.sort();
        let target = |field: &str| {
            let target = self.target_ref.as_ref().and_then(|target| target[field].as_str());
            target.unwrap_or_default().to_owned()
        };
        (addresses, self.hostname.clone(), target("namespace"), target("name"))
    }
}

impl EndpointSlice {
    pub(crate) fn name(&self) -> &str {
        self.metadata.get("name").and_then(Value::as_str).unwrap_or_default()
    }

    pub(crate) fn is_terminating(&self) -> bool {
        self.metadata.contains_key("deletionTimestamp")
    }

    /// The value of a map of strings in the metadata: `labels` or `annotations`.
    pub(crate) fn strings(&self, field: &str) -> Map<String, Value> {
        self.metadata.get(field).and_then(Value::as_object).cloned().unwrap_or_default()
    }

    pub(crate) fn is_owned_by(&self, kind: &str, uid: &str) -> bool {
        let owners = self.metadata.get("ownerReferences").and_then(Value::as_array);
        owners.into_iter().flatten().any(|owner| owner["kind"] == kind && owner["uid"] == uid)
    }

    /// Sets or removes an annotation.
    pub(crate) fn annotate(&mut self, name: &str, value: Option<&str>) {
        let mut annotations = self.strings("annotations");
        match value {
            Some(value) => annotations.insert(name.to_owned(), json!(value)),
            None => annotations.remove(name),
        };
        self.metadata.insert("annotations".to_owned(), annotations.into());
    }

    /// Makes it the next state of another slice, instead of a new one.
    pub(crate) fn replaces(&mut self, other: &Self) {
        self.metadata.remove("generateName");
        for field in ["name", "resourceVersion"] {
            if let Some(value) = other.metadata.get(field) {
                self.metadata.insert(field.to_owned(), value.clone());
            }
        }
    }

    /// A slice without endpoints that an object of the core group owns and that is named after it.
    pub(crate) fn new(kind: &str, owner: &str, uid: &str, labels: Map<String, Value>) -> Self {
        let owners = json!([{
            "apiVersion": "v1", "kind": kind, "name": owner, "uid": uid, "controller": true, "blockOwnerDeletion": true,
        }]);
        let metadata = [
            ("generateName", json!(format!("{owner}-"))),
            ("labels", labels.into()),
            ("ownerReferences", owners),
        ];
        let metadata = metadata.map(|(field, value)| (field.to_owned(), value));
        Self { metadata: Map::from_iter(metadata), ..Self::default() }
    }
}

/// The resource of slices.
pub(crate) fn resource() -> ResourceRef {
    ResourceRef::namespaced::<k8s_openapi::api::discovery::v1::EndpointSlice>()
}

/// What becomes of the slices of one service.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Changes {
    pub(crate) create: Vec<EndpointSlice>,
    pub(crate) update: Vec<EndpointSlice>,
    pub(crate) delete: Vec<EndpointSlice>,
}

impl Changes {
    /// Writes new slices over those that would be deleted, where `may_reuse` allows it: the address type can not change.
    pub(crate) fn reuse(&mut self, may_reuse: impl Fn(&EndpointSlice) -> bool) {
        let mut index = 0;
        while let Some(old) = self.delete.get(index) {
            let new = self.create.iter().position(|new| new.address_type == old.address_type);
            match new.filter(|_| may_reuse(old)) {
                Some(new) => {
                    let mut slice = self.create.remove(new);
                    slice.replaces(&self.delete.remove(index));
                    self.update.push(slice);
                }
                None => index += 1,
            }
        }
    }
}
