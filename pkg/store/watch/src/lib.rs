//! The cache of encoded objects per resource, its history window and its watchers.
//!
//! A [`Store`] sits on a `store/log`. It loads every object at start and serves all reads from memory. Each
//! [`Collection`] holds the objects of one resource as shared bytes with a parsed view beside them, and its recent
//! changes, from which it answers watches and lists at an older revision. Called by `apiserver/registry` only.
//!
//! A commit is published here before it is acknowledged, in revision order: whoever reads after a write was
//! acknowledged sees it.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "tests"))]

mod cache;
mod collection;
mod error;
mod filter;
mod history;
mod list;
mod marks;
mod object;
mod store;
mod token;
mod watch;

pub use collection::Collection;
pub use edgek_store_log::Revision;
pub use error::{OpenError, ReadError, WriteError};
pub use filter::Filter;
pub use history::Window;
pub use list::{At, AtError, List, ListOptions};
pub use object::{Frame, Object};
pub use store::Store;
pub use token::TokenError;
pub use watch::{Bookmarks, EventKind, Start, Watch, WatchEvent, WatchOptions};
