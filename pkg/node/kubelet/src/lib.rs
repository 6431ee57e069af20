//! Pod tasks, status, probes, volumes, cgroups, node registration and the kubelet API.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "tests"))]

pub mod admit;
pub mod cgroup;
pub mod config;
pub mod container;
pub mod dns;
pub mod duration;
pub mod env;
pub mod events;
pub mod gc;
pub mod image;
pub mod node;
pub mod objects;
pub mod plan;
pub mod probe;
pub mod resources;
pub mod restart;
#[cfg(test)]
mod sample;
pub mod server;
pub mod static_pods;
pub mod status;
pub mod volume;
pub mod view;
