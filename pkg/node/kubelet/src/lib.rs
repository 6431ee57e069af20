//! Pod tasks, status, probes, volumes, cgroups, node registration and the kubelet API.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "tests"))]

pub mod duration;
pub mod plan;
pub mod resources;
pub mod restart;
#[cfg(test)]
mod sample;
pub mod server;
pub mod status;
pub mod view;
