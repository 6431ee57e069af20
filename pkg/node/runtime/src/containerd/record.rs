//! `Record`: what the kubelet's container is, kept with containerd's container so that it survives every restart.

use std::collections::BTreeMap;

use jiff::Timestamp;
use prost_types::Any;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{Container, ContainerId, ExitReason, Log, PodRef, Signal, State, Stdin, User};

/// The extension of a containerd container that holds the record.
pub(super) const EXTENSION: &str = "edgek.io/container";

/// What survives restarts of edgek, of containerd and of the machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) pod: PodRef,
    pub(super) name: String,
    pub(super) attempt: u32,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) image: String,
    pub(super) image_id: String,
    pub(super) user: User,
    pub(super) stop_signal: Signal,
    pub(super) log: Option<Log>,
    pub(super) tty: bool,
    pub(super) stdin: Stdin,
    pub(super) cgroup: String,
    #[serde(serialize_with = "write_time", deserialize_with = "read_time")]
    pub(super) created_at: Timestamp,
    pub(super) exit: Option<Exit>,
}

/// How a container ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Exit {
    pub(super) code: i32,
    pub(super) reason: ExitReason,
    pub(super) message: String,
    /// RFC 3339; empty if it was never started.
    pub(super) started_at: String,
    #[serde(serialize_with = "write_time", deserialize_with = "read_time")]
    pub(super) finished_at: Timestamp,
}

impl Record {
    /// The form containerd stores.
    pub(super) fn to_any(&self) -> Any {
        let value = serde_json::to_vec(self).expect("a record has only text keys");
        Any { type_url: EXTENSION.to_owned(), value }
    }

    /// Reads the stored form; `None` for a container that is not edgek's.
    pub(super) fn from_any(any: &Any) -> Option<Self> {
        serde_json::from_slice(&any.value).ok()
    }

    /// What the kubelet sees of a container in this state.
    pub(super) fn container(&self, id: &ContainerId, state: State) -> Container {
        Container {
            id: id.clone(),
            pod: self.pod.clone(),
            name: self.name.clone(),
            attempt: self.attempt,
            labels: self.labels.clone(),
            image: self.image.clone(),
            image_id: self.image_id.clone(),
            user: self.user.clone(),
            stop_signal: self.stop_signal,
            log: self.log.clone(),
            created_at: self.created_at,
            state,
        }
    }
}

impl Exit {
    /// The state of a container that ended so.
    pub(super) fn state(&self) -> State {
        State::Exited {
            code: self.code,
            reason: self.reason,
            message: self.message.clone(),
            started_at: self.started_at.parse().ok(),
            finished_at: self.finished_at,
        }
    }
}

fn write_time<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(time)
}

fn read_time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
    String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
}
