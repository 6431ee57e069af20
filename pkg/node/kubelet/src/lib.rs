//! Pod tasks, status, probes, volumes, cgroups, node registration and the kubelet API.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "tests"))]

pub mod resources;
pub mod restart;
pub mod server;
