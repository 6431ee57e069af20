//! `Object`: an encoded object at a revision; `Frame`: an object on its way to watchers.

use std::sync::OnceLock;

use std::sync::Arc;

use bytes::Bytes;
use edgek_api::object::{self, Meta};

use crate::Revision;

/// An encoded object at a revision, shared by the cache, the history and everyone who reads it.
#[derive(Debug, PartialEq, Eq)]
pub struct Object {
    bytes: Bytes,
    revision: Revision,
    meta: Meta,
}

impl Object {
    /// The object that `bytes`, of which `meta` is the view, are at `revision`.
    pub fn stamped(bytes: &Bytes, revision: Revision, meta: Meta) -> Arc<Self> {
        Arc::new(Self { bytes: object::stamp_revision(bytes, revision.0), revision, meta })
    }

    /// The same object at a later revision: how a deletion shows the last state.
    pub(crate) fn restamped(&self, revision: Revision) -> Arc<Self> {
        Self::stamped(&self.bytes, revision, self.meta.clone())
    }

    /// Canonical JSON with `metadata.resourceVersion`.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The revision of its last change; its `resourceVersion`.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// The parsed view.
    pub fn meta(&self) -> &Meta {
        &self.meta
    }
}

/// An object on its way to the watchers of one event, with its encoding in another form than JSON.
#[derive(Debug)]
pub struct Frame {
    object: Arc<Object>,
    encoded: OnceLock<Bytes>,
}

impl Frame {
    pub(crate) fn new(object: Arc<Object>) -> Arc<Self> {
        Arc::new(Self { object, encoded: OnceLock::new() })
    }

    /// The object.
    pub fn object(&self) -> &Arc<Object> {
        &self.object
    }

    /// The object in another form, which the first watcher makes and all others share. There is room for one form:
    /// protobuf.
    pub fn encoded(&self, encode: impl FnOnce(&Object) -> Bytes) -> &Bytes {
        self.encoded.get_or_init(|| encode(&self.object))
    }
}
