//! Sends a pod's status to the API server, when it has changed.

use std::sync::Arc;

use edgek_client::{Client, Delete, Error, Patch};
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use serde_json::json;

use crate::status;

/// How often a status that lost a race is sent again at once.
const ATTEMPTS: usize = 4;

/// What became of a status.
#[derive(Debug, Clone, PartialEq)]
pub enum Sent {
    /// The API server has what was built; this is the pod now.
    Current(Arc<Pod>),
    /// There is no such pod any more.
    Gone,
}

/// Sends the status that `build` makes of the pod, again with the newer pod when it was changed meanwhile.
///
/// # Errors
/// When the server does not take it; the caller tries again later.
pub async fn status(
    client: &Client,
    pod: &Arc<Pod>,
    build: impl Fn(&Pod) -> PodStatus,
) -> Result<Sent, Error> {
    let mut pod = pod.clone();
    let name = pod.metadata.name.clone().unwrap_or_default();
    let pods = client.namespaced::<Pod>(pod.metadata.namespace.as_deref().unwrap_or_default());
    let mut attempts = 0;
    loop {
        let change = status::change(pod.status.as_ref(), &build(&pod)).map_err(Error::Decode)?;
        let Some(change) = change else { return Ok(Sent::Current(pod)) };
        let meta = json!({"uid": pod.metadata.uid, "resourceVersion": pod.metadata.resource_version});
        let patch = Patch::Merge(json!({"metadata": meta, "status": change}));
        attempts += 1;
        match pods.patch(&name, "status", &patch).await {
            Ok(new) => return Ok(Sent::Current(Arc::new(new))),
            Err(error) if error.is_not_found() => return Ok(Sent::Gone),
            Err(error) if error.is_conflict() && attempts < ATTEMPTS => match pods.get(&name).await {
                Ok(new) if new.metadata.uid == pod.metadata.uid => pod = Arc::new(new),
                Ok(_) => return Ok(Sent::Gone),
                Err(error) if error.is_not_found() => return Ok(Sent::Gone),
                Err(error) => return Err(error),
            },
            Err(error) => return Err(error),
        }
    }
}

/// Deletes a pod whose end is complete. One that is gone, or has made room for another, is fine.
///
/// # Errors
/// When the server does not take it; the caller tries again later.
pub async fn delete(client: &Client, pod: &Pod) -> Result<(), Error> {
    let meta = &pod.metadata;
    let pods = client.namespaced::<Pod>(meta.namespace.as_deref().unwrap_or_default());
    let options = Delete::now(meta.uid.as_deref().unwrap_or_default());
    match pods.delete(meta.name.as_deref().unwrap_or_default(), &options).await {
        Err(error) if error.is_not_found() || error.is_conflict() => Ok(()),
        result => result,
    }
}
