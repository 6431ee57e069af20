//! `registry`: serves the images of `build/images/registry/` with Debian's docker-registry until it is stopped.
//!
//! A system test runs this in its node's network namespace (`--netns`) and names the address as the mirror of
//! `registry.k8s.io` and `docker.io` in `registries.yaml`.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::workspace;

/// Where the registry listens.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The address and port to listen on, without TLS.
    #[arg(long, default_value = "127.0.0.1:5000")]
    listen: SocketAddr,
    /// A network namespace made with `ip netns add`.
    #[arg(long)]
    netns: Option<String>,
}

/// Replaces this process by the registry, so that ending it ends the registry.
pub(crate) fn run(args: &Args) -> Result<()> {
    super::run()?;
    let config = config(&workspace::build_dir().join("images/registry"), args.listen)?;
    let mut command = match &args.netns {
        None => Command::new("docker-registry"),
        Some(name) => {
            let mut command = Command::new("ip");
            command.args(["netns", "exec", name, "docker-registry"]);
            command
        }
    };
    let error = command.arg("serve").arg(&config).exec();
    Err(error).context("start docker-registry: run scripts/deps")
}

/// Writes the registry's configuration beside its storage folder.
pub(crate) fn config(storage: &Path, listen: SocketAddr) -> Result<PathBuf> {
    let name = format!("registry-{}.yml", listen.to_string().replace([':', '[', ']'], "-"));
    let config = storage.with_file_name(name);
    fs::write(
        &config,
        format!(
            "version: 0.1\n\
             log: {{level: warn, accesslog: {{disabled: true}}}}\n\
             storage: {{filesystem: {{rootdirectory: {storage:?}}}, maintenance: {{readonly: {{enabled: true}}}}}}\n\
             http: {{addr: \"{listen}\"}}\n",
        ),
    )?;
    Ok(config)
}
