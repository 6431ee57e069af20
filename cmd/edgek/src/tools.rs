//! `edgek kubectl` and `edgek ctr`: the bundled tools, told where this cluster is.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;
use edgek_base_config::Config;

use crate::bundle::Bundle;
use crate::exit::Failure;
use crate::sources;

/// A bundled tool for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tool {
    Kubectl,
    Ctr,
}

impl Tool {
    fn name(self) -> &'static str {
        match self {
            Self::Kubectl => "kubectl",
            Self::Ctr => "ctr",
        }
    }
}

/// The tool that the program was called as, through a link.
pub(crate) fn from_program_name(arguments: &[OsString]) -> Option<Tool> {
    let name = Path::new(arguments.first()?).file_name()?.to_str()?;
    [Tool::Kubectl, Tool::Ctr].into_iter().find(|tool| tool.name() == name)
}

/// Becomes the tool; returns only when that fails.
pub(crate) fn run(tool: Tool, arguments: &[OsString]) -> Result<(), Failure> {
    let config = sources::ambient()?;
    let program = unpacked(tool, &config)?;
    let mut command = Command::new(&program);
    command.arg0(tool.name()).args(arguments);
    match tool {
        Tool::Kubectl => {
            if is_unset("KUBECONFIG") {
                command.env("KUBECONFIG", &config.write_kubeconfig);
            }
        }
        Tool::Ctr => {
            if is_unset("CONTAINERD_ADDRESS") {
                command.env("CONTAINERD_ADDRESS", config.run_dir.join("containerd/containerd.sock"));
            }
            if is_unset("CONTAINERD_NAMESPACE") {
                command.env("CONTAINERD_NAMESPACE", "k8s.io");
            }
        }
    }
    Err(anyhow::Error::from(command.exec()).context(format!("running {}", program.display())).into())
}

#[expect(clippy::disallowed_methods, reason = "cmd/edgek is where the environment is read")]
fn is_unset(variable: &str) -> bool {
    std::env::var_os(variable).is_none()
}

/// Where the tool is, unpacked first if need be: in the data directory, or in the user's own cache when that is not
/// the user's to read.
fn unpacked(tool: Tool, config: &Config) -> Result<PathBuf, Failure> {
    let shared = Bundle::new(config.data_dir.join("bin"));
    let program = shared.current().join(tool.name());
    if nix::unistd::geteuid().is_root() {
        shared.unpack(&[tool.name()])?;
        return Ok(program);
    }
    if program.exists() {
        return Ok(program);
    }
    let own = Bundle::new(cache_dir().context("neither XDG_CACHE_HOME nor HOME is set")?.join("edgek/bin"));
    own.unpack(&[tool.name()])?;
    Ok(own.current().join(tool.name()))
}

#[expect(clippy::disallowed_methods, reason = "cmd/edgek is where the environment is read")]
fn cache_dir() -> Option<PathBuf> {
    let cache = std::env::var_os("XDG_CACHE_HOME").filter(|value| !value.is_empty()).map(PathBuf::from);
    cache.or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")))
}
