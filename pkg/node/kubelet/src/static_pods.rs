//! Static pods: the pods of a folder, which run without an API server, and their mirrors in the API, which show them.
//!
//! [`follow`] reads the folder now and whenever the kernel says that it changed. [`Mirrors`] keeps one pod in the API
//! for each; such a pod only shows the state, deleting it does not stop anything.

mod manifest;
mod mirror;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use futures::StreamExt as _;
use inotify::{Inotify, WatchMask};
use k8s_openapi::api::core::v1::Pod;
use tokio::sync::mpsc;
use tracing::warn;

pub use manifest::parse;
pub use mirror::{Mirrors, mirrors};

/// Marks where a pod comes from: `file` or `api`.
const SOURCE: &str = "kubernetes.io/config.source";
/// Of a mirror: the hash of the static pod it shows.
const MIRROR: &str = "kubernetes.io/config.mirror";
/// Of a static pod: the hash of its manifest.
const HASH: &str = "kubernetes.io/config.hash";
/// Events of the kernel that are read at once.
const BUFFER: usize = 4096;

/// A change in the folder.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// This pod is to run. A changed manifest is another pod, with another uid.
    Run(Box<Pod>),
    /// The pod with this uid is to end.
    End(String),
}

/// Whether a pod comes from the folder. What the API has is never taken for one, whatever it says.
pub fn is_static(pod: &Pod) -> bool {
    pod.metadata.resource_version.is_none() && annotation(pod, SOURCE) == Some("file")
}

/// Whether a pod of the API only shows a static pod: nothing is to be run for it.
pub fn is_mirror(pod: &Pod) -> bool {
    annotation(pod, MIRROR).is_some()
}

fn annotation<'a>(pod: &'a Pod, name: &str) -> Option<&'a str> {
    pod.metadata.annotations.as_ref()?.get(name).map(String::as_str)
}

/// Tells the pods of a folder and every change of them, until the receiver is closed. The first changes are the pods
/// that are there now.
///
/// # Errors
/// When the folder cannot be watched.
pub async fn follow(folder: PathBuf, node: String, changes: mpsc::Sender<Change>) -> io::Result<()> {
    let inotify = Inotify::init()?;
    let mask = WatchMask::CLOSE_WRITE | WatchMask::MOVE | WatchMask::DELETE | WatchMask::ONLYDIR;
    inotify.watches().add(&folder, mask)?;
    let mut events = inotify.into_event_stream([0; BUFFER])?;
    let mut known: BTreeMap<String, Pod> = BTreeMap::new();
    loop {
        let now = read(&folder, &node);
        for change in differences(&known, &now) {
            if changes.send(change).await.is_err() {
                return Ok(());
            }
        }
        known = now;
        match events.next().await {
            Some(event) => drop(event?),
            None => return Ok(()),
        }
    }
}

/// What leads from one set of pods by uid to another: ends first, since a changed pod has the same name.
fn differences(old: &BTreeMap<String, Pod>, new: &BTreeMap<String, Pod>) -> Vec<Change> {
    let ended = old.keys().filter(|uid| !new.contains_key(*uid)).map(|uid| Change::End(uid.clone()));
    let begun = new.iter().filter(|(uid, _)| !old.contains_key(*uid));
    ended.chain(begun.map(|(_, pod)| Change::Run(Box::new(pod.clone())))).collect()
}

/// The pods of a folder by uid. Files that cannot be understood are named in the log and left out.
pub fn read(folder: &Path, node: &str) -> BTreeMap<String, Pod> {
    let mut pods = BTreeMap::new();
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    for entry in entries.filter(|entry| !entry.file_name().to_string_lossy().starts_with('.')) {
        let path = entry.path();
        if !path.is_file() {
            continue;
        }
        match std::fs::read(&path).map_err(manifest::Error::Read).and_then(|text| parse(&text, &path, node)) {
            Ok(pod) => drop(pods.insert(pod.metadata.uid.clone().unwrap_or_default(), pod)),
            Err(error) => warn!(path = %path.display(), %error, "not a static pod"),
        }
    }
    pods
}

#[cfg(test)]
mod tests;
