//! `bench`: the figures that the design promises, measured on any API server by its kubeconfig, or on an edgek that is
//! started for it in a network namespace of its own. Prints a table and writes the same figures as JSON.
//!
//! Client and server share the machine, TLS is on and every answer is read whole, so that runs against different
//! servers compare. An error in any request fails the run.

use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::workspace;
use client::Target;
use figures::Figures;

mod client;
mod figures;
mod kubeconfig;
mod load;
mod node;
mod pods;
mod server;
mod services;
mod watch;

/// What to measure, on what.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The API server to measure.
    #[arg(long, required_unless_present = "edgek", conflicts_with = "edgek")]
    kubeconfig: Option<PathBuf>,
    /// An edgek binary to start and measure, as root.
    #[arg(long)]
    edgek: Option<PathBuf>,
    /// Only these measurements.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Part>,
    /// How long each load runs.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// How many pods are started, one after the other.
    #[arg(long, default_value_t = 20)]
    pods: usize,
    /// The image of the pods, which the node must have.
    #[arg(long, default_value = "registry.k8s.io/pause:3.10.2")]
    image: String,
    /// The node of the pods; without it the scheduler chooses.
    #[arg(long)]
    node: Option<String>,
    /// Where the figures are written as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Set on the run inside the network namespace.
    #[arg(long, hide = true)]
    inside: bool,
}

/// One measurement.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// Creates, gets and lists per second.
    Load,
    /// Events to many watchers.
    Watch,
    /// From creating a pod to Ready.
    Pods,
    /// From an endpoint to a connection by its Service's address; only with `--edgek`.
    Services,
    /// Start, memory, processor time and bytes written; only with `--edgek`.
    Node,
}

/// Measures, prints and writes.
pub(crate) fn run(args: &Args) -> Result<()> {
    if cfg!(debug_assertions) {
        return optimised();
    }
    if args.edgek.is_some() && !args.inside {
        return inside_namespace();
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let figures = runtime.block_on(measure(args))?;
    figures.print();
    let json = args.json.clone().unwrap_or_else(|| workspace::build_dir().join("bench.json"));
    std::fs::create_dir_all(json.parent().context("a file has a folder")?)?;
    workspace::write(&json, figures.json()?.as_bytes())?;
    println!("\nwritten to {}", json.display());
    Ok(())
}

/// Runs the same command from an optimised build: the client must not be what is measured.
fn optimised() -> Result<()> {
    let mut cargo = Command::new("cargo");
    cargo.args(["run", "--quiet", "--profile", "quick", "--package", "xtask", "--"]);
    Err(cargo.args(std::env::args_os().skip(1)).exec()).context("start cargo")
}

/// Runs the same command in new namespaces: one address of its own, so that neither ports nor interfaces meet those of
/// the machine, and processes and mounts that end with it.
fn inside_namespace() -> Result<()> {
    let network = "set -e; ip link set lo up; ip link add eth0 type veth peer name peer0; \
                   ip link set peer0 up; ip address add 192.0.2.1/24 dev eth0; \
                   ip link set eth0 up; ip route add default via 192.0.2.254; exec \"$0\" \"$@\"";
    let mut unshare = Command::new("unshare");
    unshare.args(["--net", "--pid", "--fork", "--kill-child", "--mount", "--mount-proc", "--"]);
    unshare.args(["sh", "-c", network]).arg(std::env::current_exe()?);
    Err(unshare.args(std::env::args_os().skip(1)).arg("--inside").exec()).context("start unshare")
}

async fn measure(args: &Args) -> Result<Figures> {
    let mut figures = Figures::default();
    let wanted = |part: Part| args.only.is_empty() || args.only.contains(&part);
    let mut server = None;
    let target = match (&args.kubeconfig, &args.edgek) {
        (Some(path), _) => kubeconfig::load(path)?,
        (None, Some(binary)) => {
            let (started, target) = server::start(binary, &mut figures).await?;
            server = Some(started);
            target
        }
        (None, None) => bail!("give --kubeconfig or --edgek"),
    };
    if let (true, Some(server)) = (wanted(Part::Node), &server) {
        node::idle(server, &mut figures).await?;
    }
    let space = Namespace::create(&target).await?;
    let outcome = parts(args, &target, &space, &mut figures, wanted).await;
    space.delete(&target).await?;
    outcome?;
    if let Some(server) = server {
        server.stop(&mut figures).await?;
    }
    Ok(figures)
}

async fn parts(
    args: &Args,
    target: &Target,
    space: &Namespace,
    figures: &mut Figures,
    wanted: impl Fn(Part) -> bool,
) -> Result<()> {
    if wanted(Part::Pods) {
        let pods = pods::Pods { count: args.pods, image: &args.image, node: args.node.as_deref() };
        pods::measure(target, space, &pods, figures).await?;
    }
    if wanted(Part::Load) {
        load::measure(target, space, Duration::from_secs(args.seconds), figures).await?;
    }
    if wanted(Part::Services) && args.inside {
        services::measure(target, space, figures).await?;
    }
    if wanted(Part::Watch) {
        watch::measure(target, space, figures).await?;
    }
    Ok(())
}

/// The namespace of one run; everything a run creates is in it.
struct Namespace {
    name: String,
}

impl Namespace {
    async fn create(target: &Target) -> Result<Self> {
        let name = format!("bench-{}", std::process::id());
        let body = serde_json::json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        target.connect().await?.post("/api/v1/namespaces", &body).await?;
        Ok(Self { name })
    }

    /// The path of a core resource in it.
    fn path(&self, resource: &str) -> String {
        format!("/api/v1/namespaces/{}/{resource}", self.name)
    }

    async fn delete(&self, target: &Target) -> Result<()> {
        target.connect().await?.delete(&format!("/api/v1/namespaces/{}", self.name)).await
    }
}
