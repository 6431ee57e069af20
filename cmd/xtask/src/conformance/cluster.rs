//! [`Cluster`]: the two nodes that are tested, by `scripts/cluster`, and a registry of the suite's images on the server.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result};

use crate::{digest, images, process, workspace};

/// The nodes, as `scripts/cluster` names them.
const NODES: [&str; 2] = ["server", "worker-1"];
const REGISTRY_PORT: u16 = 5000;

/// A running cluster. It ends with this value.
pub(super) struct Cluster {
    edgek: PathBuf,
    folder: PathBuf,
    /// The first three bytes of its addresses.
    subnet: String,
    registry: Option<Child>,
}

impl Cluster {
    /// Starts a cluster on empty folders, in place of one that was left, and waits until its nodes are Ready.
    pub(super) fn up(edgek: &Path, images: &Path) -> Result<Self> {
        let edgek = fs::canonicalize(edgek).with_context(|| format!("find {}", edgek.display()))?;
        let folder = workspace::build_dir().join("conformance/cluster");
        let subnet = format!("198.19.{}", u8::from_str_radix(&id(&folder)[..2], 16)?);
        let mut cluster = Self { edgek, folder, subnet, registry: None };
        process::run(&mut cluster.script("down"))?;
        // No archives: the images are pulled, as they are anywhere else.
        fs::create_dir_all(cluster.folder.join("images"))?;
        fs::create_dir_all(cluster.folder.join("config"))?;
        // Every image comes from the suite's registry; one that it lacks is missing at once.
        let address = format!("{}.10:{REGISTRY_PORT}", cluster.subnet);
        let mirrors = format!("mirrors: {{'*': {{endpoint: ['http://{address}']}}}}\n");
        fs::write(cluster.folder.join("config/registries.yaml"), mirrors)?;
        process::run(&mut cluster.script("up"))?;

        let log = File::create(cluster.folder.join("registry.log"))?;
        let mut registry = cluster.command("docker-registry");
        registry.arg("serve").arg(images::registry_config(images, address.parse()?)?);
        let registry = registry.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn();
        cluster.registry = Some(registry.context("start the registry")?);
        Ok(cluster)
    }

    fn script(&self, verb: &str) -> Command {
        let mut script = Command::new(workspace::root().join("scripts/cluster"));
        script.arg(verb).env("EDGEK", &self.edgek).env("EDGEK_CLUSTER_DIR", &self.folder);
        script.env("EDGEK_CLUSTER_SUBNET", &self.subnet);
        script
    }

    /// A program on the server's network, which ends when this command is killed.
    pub(super) fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "nsenter"]);
        command.arg(format!("--net=/run/netns/ekc{}-0", id(&self.folder))).arg("--").arg(program);
        // Nothing outside is reached; a proxy of this machine does not know the cluster's addresses.
        for name in ["HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"] {
            command.env_remove(name);
        }
        command
    }

    /// The administrator's kubeconfig.
    pub(super) fn kubeconfig(&self) -> PathBuf {
        self.folder.join("kubeconfig.yaml")
    }

    /// The nodes and what they log.
    pub(super) fn logs(&self) -> impl Iterator<Item = (&'static str, PathBuf)> {
        NODES.into_iter().map(|node| (node, self.folder.join(node).join("log")))
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Some(mut registry) = self.registry.take() {
            // It may have ended by itself.
            let _ = registry.kill();
            let _ = registry.wait();
        }
        if let Err(error) = process::run(&mut self.script("down")) {
            eprintln!("conformance: {error:#}");
        }
    }
}

/// What `scripts/cluster` tells clusters apart by.
fn id(folder: &Path) -> String {
    digest::sha256(folder.as_os_str().as_encoded_bytes())[..6].to_owned()
}
