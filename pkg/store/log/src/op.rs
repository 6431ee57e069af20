//! `Op`: one compare-and-swap on a key, and its outcome.

use bytes::Bytes;

use crate::{Error, Revision};

/// One change of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Op {
    /// The key.
    pub key: Box<str>,
    /// What happens to it.
    pub change: Change,
    /// When it has to be on disk.
    pub durability: Durability,
}

/// What happens to a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The key must not exist and gets this value.
    Create(Bytes),
    /// The key must be at `expected` and gets `value`.
    Update {
        /// The new value.
        value: Bytes,
        /// The revision of the value it replaces.
        expected: Revision,
    },
    /// The key must be at `expected` and is removed.
    Delete {
        /// The revision of the value that is removed.
        expected: Revision,
    },
}

/// When an acknowledged op has to be on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Before it is acknowledged.
    Durable,
    /// Some minutes later: a crash may undo it. For values that are renewed all the time and whose loss heals by
    /// itself, as heartbeats.
    Lazy,
}

/// Called with the outcome of an op, on the store's own thread: it must be quick and must not wait for the store.
pub type Done = Box<dyn FnOnce(Result<Revision, CommitError>) + Send>;

/// Why an op was rejected.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CommitError {
    /// The key is not as the op expects it.
    #[error(transparent)]
    Conflict(#[from] Conflict),
    /// The op could not be written.
    #[error(transparent)]
    Failed(#[from] Error),
}

/// The key is not as an op expects it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Conflict {
    /// A create found the key, or an update or delete found it changed.
    #[error("the key is at revision {current}")]
    Exists {
        /// The revision the key is at.
        current: Revision,
    },
    /// An update or delete found no key.
    #[error("the key does not exist")]
    Missing,
}

impl Change {
    /// Judges the change against the revision the key is at.
    pub(crate) fn judge(&self, current: Option<Revision>) -> Result<(), Conflict> {
        match (self, current) {
            (Self::Create(_), None) => Ok(()),
            (Self::Create(_), Some(current)) => Err(Conflict::Exists { current }),
            (Self::Update { .. } | Self::Delete { .. }, None) => Err(Conflict::Missing),
            (Self::Update { expected, .. } | Self::Delete { expected }, Some(current)) => {
                if *expected == current { Ok(()) } else { Err(Conflict::Exists { current }) }
            }
        }
    }

    /// The value the key has afterwards.
    pub(crate) fn into_value(self) -> Option<Bytes> {
        match self {
            Self::Create(value) | Self::Update { value, .. } => Some(value),
            Self::Delete { .. } => None,
        }
    }

    /// The size of the value, in bytes.
    pub(crate) fn size(&self) -> usize {
        match self {
            Self::Create(value) | Self::Update { value, .. } => value.len(),
            Self::Delete { .. } => 0,
        }
    }
}
