//! Pod tasks, status, probes, volumes, cgroups, node registration and the kubelet API.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "tests"))]

pub mod admit;
pub mod cgroup;
pub mod config;
pub mod container;
pub mod context;
pub mod dns;
pub mod duration;
pub mod env;
pub mod events;
pub mod evict;
pub mod gc;
pub mod image;
pub mod kubelet;
pub mod node;
pub mod objects;
pub mod plan;
pub mod pod_task;
pub mod probe;
pub mod record;
pub mod report;
pub mod resources;
pub mod restart;
#[cfg(test)]
mod sample;
pub mod sandbox;
pub mod server;
pub mod start;
pub mod static_pods;
pub mod stats;
pub mod status;
pub mod stop;
pub mod view;
pub mod volume;
