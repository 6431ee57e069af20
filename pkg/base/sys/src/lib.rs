//! The few system calls without a safe wrapper, and crash-safe file writes; the only crate with unsafe code.
//!
//! Called by `cmd/edgek`, `base/pki` and the node crates.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "tests"))]

pub mod files;
pub mod memory;
