//! The servers of the cluster, as an agent knows them: the one it was told to join, and those that Service
//! default/kubernetes has, which are remembered for the next start.

use std::path::PathBuf;

use edgek_base_lifecycle::Scope;
use edgek_base_sys::files::write_atomic;
use edgek_client::{Client, ListQuery, ResourceRef};
use edgek_control_runtime::{Informer, Item, Key};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::watch;
use tracing::warn;

const NAMESPACE: &str = "default";
const NAME: &str = "kubernetes";

/// The servers, `host:port`, the configured one first.
pub(crate) struct Servers {
    configured: String,
    /// Where the others are remembered.
    file: PathBuf,
    known: watch::Sender<Vec<String>>,
}

impl Servers {
    /// The configured server and those that are remembered.
    pub(crate) fn new(configured: String, file: PathBuf) -> Self {
        let remembered: Option<Vec<String>> =
            std::fs::read(&file).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let known = watch::Sender::new(join(&configured, &remembered.unwrap_or_default()));
        Self { configured, file, known }
    }

    /// All that are known, from now on.
    pub(crate) fn subscribe(&self) -> watch::Receiver<Vec<String>> {
        self.known.subscribe()
    }

    /// Follows the cluster's own list until the scope ends.
    pub(crate) fn follow(self, client: &Client, scope: &Scope) {
        let query = ListQuery { fields: format!("metadata.name={NAME}"), ..ListQuery::default() };
        let api = client.untyped(ResourceRef::namespaced::<EndpointSlice>(), Some(NAMESPACE));
        let informer = Informer::<Value>::start(scope, api, query);
        informer.on_change(move |change| {
            if let Some(found) =
                change.new.filter(|_| change.key() == Key::new(NAMESPACE, NAME)).and_then(read)
            {
                self.learn(&found);
            }
        });
    }

    fn learn(&self, found: &[String]) {
        let all = join(&self.configured, found);
        if *self.known.borrow() == all {
            return;
        }
        // The list is a help for the next start; without it the configured server has to answer.
        let written = serde_json::to_vec(found)
            .map_err(Into::into)
            .and_then(|json| write_atomic(&self.file, &json, 0o600));
        if let Err(error) = written {
            warn!(%error, file = %self.file.display(), "the servers of the cluster are not remembered");
        }
        self.known.send_replace(all);
    }
}

fn join(configured: &str, others: &[String]) -> Vec<String> {
    let mut all = vec![configured.to_owned()];
    all.extend(others.iter().filter(|other| *other != configured).cloned());
    all
}

#[derive(Deserialize)]
struct Slice {
    #[serde(default)]
    endpoints: Vec<Endpoint>,
    #[serde(default)]
    ports: Vec<Port>,
}

#[derive(Deserialize)]
struct Endpoint {
    addresses: Vec<String>,
}

#[derive(Deserialize)]
struct Port {
    port: Option<u16>,
}

fn read(slice: &Item) -> Option<Vec<String>> {
    let slice: Slice = slice.decode()?;
    let port = slice.ports.first()?.port?;
    let addresses = slice.endpoints.iter().flat_map(|endpoint| &endpoint.addresses);
    let authority = |address: &String| match address.contains(':') {
        true => format!("[{address}]:{port}"),
        false => format!("{address}:{port}"),
    };
    Some(addresses.map(authority).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_cluster_says_is_remembered_behind_the_configured_server() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("servers.json");
        let servers = Servers::new("edge.example:6443".to_owned(), file.clone());
        assert_eq!(*servers.subscribe().borrow(), ["edge.example:6443"]);
        let bytes = br#"{"endpoints": [{"addresses": ["10.0.0.2"]}, {"addresses": ["fd00::2"]}], "ports": [{"port": 7443}]}"#;
        let item = Item { bytes: bytes.as_slice().into(), ..Item::default() };
        servers.learn(&read(&item).unwrap());
        let all = ["edge.example:6443", "10.0.0.2:7443", "[fd00::2]:7443"];
        assert_eq!(*servers.subscribe().borrow(), all);
        let again = Servers::new("10.0.0.2:7443".to_owned(), file);
        assert_eq!(*again.subscribe().borrow(), ["10.0.0.2:7443", "[fd00::2]:7443"]);
    }
}
