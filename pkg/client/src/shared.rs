//! The kinds that several crates read and write.
//!
//! Nobody calls this. The compiler makes a generic function anew in every crate that uses it, unless a crate below has
//! made it already: named here, the code of these kinds, 100 kB and more each, is in the binary once.

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Node, Pod, Secret, Service, ServiceAccount};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Reads an object and writes it.
type Again = fn(&[u8]) -> serde_json::Result<Vec<u8>>;

/// The code of each kind.
pub static SHARED: &[Again] = &[
    again::<ConfigMap>,
    again::<EndpointSlice>,
    again::<Lease>,
    again::<Namespace>,
    again::<Node>,
    again::<Pod>,
    again::<Secret>,
    again::<Service>,
    again::<ServiceAccount>,
];

fn again<K: Serialize + DeserializeOwned>(object: &[u8]) -> serde_json::Result<Vec<u8>> {
    serde_json::to_vec(&serde_json::from_slice::<K>(object)?)
}
