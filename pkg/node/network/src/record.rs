//! What the network remembers of each pod, one small file a pod in the run folder (memory, not flash).

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use edgek_base_sys::files::{create_dir_private, write_atomic};
use serde::{Deserialize, Serialize};
use tracing::warn;

use crate::{Error, HostPort, PodNetworkStatus};

/// A pod that is set up.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) status: PodNetworkStatus,
    pub(crate) host_ports: Vec<HostPort>,
}

impl Record {
    pub(crate) fn ipv4(&self) -> Option<Ipv4Addr> {
        self.status.ips.iter().find_map(|ip| match ip {
            IpAddr::V4(address) => Some(*address),
            IpAddr::V6(_) => None,
        })
    }
}

/// The records of all pods by uid.
#[derive(Debug)]
pub(crate) struct Records {
    folder: PathBuf,
    pub(crate) by_uid: BTreeMap<String, Record>,
}

impl Records {
    pub(crate) fn open(folder: &Path) -> Result<Self, Error> {
        let failed = |source| Error::File { step: "opening", path: folder.to_owned(), source };
        create_dir_private(folder).map_err(failed)?;
        let mut by_uid = BTreeMap::new();
        for entry in fs::read_dir(folder).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            let Some(uid) = path.file_name().and_then(|n| n.to_str()).filter(|n| !n.starts_with('.')) else {
                continue;
            };
            let read = fs::read(&path).ok().and_then(|text| serde_json::from_slice::<Record>(&text).ok());
            match read {
                Some(record) => {
                    by_uid.insert(uid.to_owned(), record);
                }
                None => warn!(path = %path.display(), "unreadable network record ignored"),
            }
        }
        Ok(Self { folder: folder.to_owned(), by_uid })
    }

    pub(crate) fn insert(&mut self, uid: &str, record: Record) -> Result<(), Error> {
        let path = self.folder.join(uid);
        let text = serde_json::to_vec(&record).unwrap_or_default();
        write_atomic(&path, &text, 0o600).map_err(|source| Error::File { step: "writing", path, source })?;
        self.by_uid.insert(uid.to_owned(), record);
        Ok(())
    }

    pub(crate) fn remove(&mut self, uid: &str) -> Result<(), Error> {
        let path = self.folder.join(uid);
        match fs::remove_file(&path) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                Err(Error::File { step: "removing", path, source })
            }
            _ => {
                self.by_uid.remove(uid);
                Ok(())
            }
        }
    }
}
