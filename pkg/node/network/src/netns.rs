//! The network namespaces of pods, kept alive by files in the run folder.

use std::path::Path;

use nlink::netlink::namespace;

use crate::record::Records;
use crate::{Error, Step};

/// A pod whose namespace is gone (after a reboot that kept the run folder) is not set up.
pub(crate) fn forget_lost(records: &mut Records) -> Result<(), Error> {
    let lost: Vec<String> = records
        .by_uid
        .iter()
        .filter(|(_, record)| !namespace::is_namespace_path(&record.status.netns))
        .map(|(uid, _)| uid.clone())
        .collect();
    for uid in lost {
        records.remove(&uid)?;
    }
    Ok(())
}

pub(crate) async fn make(path: &Path) -> Result<(), Error> {
    remove(path)?;
    let path = path.to_owned();
    let made = {
        let path = path.clone();
        // The call changes its thread's namespace for a moment, so it must not run on a worker of the runtime.
        tokio::task::spawn_blocking(move || namespace::create_path(&path)).await
    };
    let step = || format!("making network namespace {}", path.display());
    match made {
        Ok(made) => made.step(step),
        Err(_) => Err(Error::File { step: "making", path, source: std::io::ErrorKind::Interrupted.into() }),
    }
}

pub(crate) fn remove(path: &Path) -> Result<(), Error> {
    if !path.exists() {
        return Ok(());
    }
    namespace::delete_path(path).step(|| format!("removing network namespace {}", path.display()))
}
