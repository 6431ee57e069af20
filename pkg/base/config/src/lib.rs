//! The one configuration schema: flags, environment and files.
//!
//! [`SETTINGS`] is the schema as data: `cmd/edgek` makes its flags, its `--help` and its completions from it, and
//! [`load`] reads the same names from `EDGEK_*` variables and from YAML files. Precedence: flag, variable, file,
//! default; among files the last one wins. All mistakes are reported together, each with the place it stands.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "tests"))]

mod config;
mod file;
mod problem;
mod setting;
mod value;

pub use config::{Component, Config, KubeletArgs};
pub use file::{ConfigFile, Entry};
pub use problem::{Place, Problem, Problems};
pub use setting::{Role, SETTINGS, Setting, Shape};
pub use value::{Cidr, FileMode, PortRange, ServerUrl};

use std::collections::BTreeMap;

/// Everything the configuration can come from. Nothing here was checked yet.
#[derive(Debug, Default)]
pub struct Sources {
    /// Flags by name without dashes, each with its values in order.
    pub flags: BTreeMap<String, Vec<String>>,
    /// The environment, `EDGEK_*` variables only.
    pub environment: BTreeMap<String, String>,
    /// Configuration files, in the order in which later ones win.
    pub files: Vec<ConfigFile>,
}

/// Checks all sources and builds the configuration of a server or an agent.
///
/// # Errors
/// Every mistake of every source at once.
pub fn load(sources: &Sources) -> Result<Config, Problems> {
    config::build(sources)
}
