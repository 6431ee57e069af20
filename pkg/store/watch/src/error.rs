//! Why a read or write was refused. The texts of [`ReadError`] reach clients and are upstream's.

use std::sync::Arc;

use edgek_api::object::MetaError;
use edgek_store_log as log;

use crate::{Object, Revision, TokenError};

/// A list or watch was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// A watch starts before the history window: 410, reason Expired.
    #[error("too old resource version: {requested} ({oldest})")]
    TooOld {
        /// Where it starts.
        requested: Revision,
        /// The oldest revision it could start at.
        oldest: Revision,
    },
    /// A revision that does not exist yet: 504, reason Timeout, cause ResourceVersionTooLarge.
    #[error("Too large resource version: {requested}, current: {current}")]
    TooLarge {
        /// The revision asked for.
        requested: Revision,
        /// The current one.
        current: Revision,
    },
    /// A list at an exact revision before the history window: 410, reason Expired.
    #[error("The resourceVersion for the provided list is too old.")]
    ListExpired,
    /// The next page of a list whose revision left the history window: 410, reason Expired.
    #[error(
        "The provided continue parameter is too old to display a consistent list result. You can start a new list \
         without the continue parameter, or use the continue token in this response to retrieve the remainder of the \
         results. Continuing with the provided token results in an inconsistent list - objects that were created, \
         modified, or deleted between the time the first chunk was returned and now may show up in the list."
    )]
    ContinueExpired {
        /// Continues at the current revision; goes into the status's `metadata.continue`.
        token: String,
    },
    /// A continue token that this server did not make: 400.
    #[error("invalid continue token: {0}")]
    Continue(#[from] TokenError),
    /// Both a continue token and a revision: 400.
    #[error("specifying resource version is not allowed when using continue")]
    VersionWithContinue,
}

/// A write was refused.
#[derive(Debug, Clone, thiserror::Error)]
pub enum WriteError {
    /// A create found an object of that name.
    #[error("the object exists at revision {}", .0.revision())]
    Exists(Arc<Object>),
    /// An update or delete found the object changed.
    #[error("the object is at revision {}", .0.revision())]
    Changed(Arc<Object>),
    /// An update or delete found no object.
    #[error("the object does not exist")]
    Missing,
    /// The bytes are not an encoded object.
    #[error(transparent)]
    Malformed(#[from] MetaError),
    /// The store cannot write.
    #[error(transparent)]
    Failed(#[from] log::Error),
}

/// A store could not be loaded.
#[derive(Debug, Clone, thiserror::Error)]
pub enum OpenError {
    /// The log cannot be read.
    #[error(transparent)]
    Log(#[from] log::Error),
    /// A stored object cannot be understood.
    #[error("the stored object {key} is damaged")]
    Object {
        /// Its key.
        key: String,
        /// What is wrong with it.
        source: MetaError,
    },
}
