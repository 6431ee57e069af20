//! An edgek that is started to be measured, on a data directory of its own.

use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use jiff::Timestamp;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tokio::process::{Child, Command};
use tokio::time::{Instant, interval, timeout};

use super::client::Target;
use super::figures::{Figures, Goal};
use super::{kubeconfig, node};
use crate::{images, workspace};

const NODE: &str = "bench";

/// How long a start or a stop may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often a starting server is asked: the resolution of the start figures.
const TICK: Duration = Duration::from_millis(2);

/// A running edgek.
pub(super) struct Server {
    child: Child,
    /// Its process.
    pub(super) pid: i32,
}

/// Where one run keeps everything.
struct Place {
    binary: PathBuf,
    folder: PathBuf,
}

/// Measures a start on an empty directory and one on existing data; the second server goes on running.
pub(super) async fn start(binary: &Path, figures: &mut Figures) -> Result<(Server, Target)> {
    let place = Place { binary: binary.to_owned(), folder: workspace::build_dir().join("bench") };
    if place.folder.exists() {
        fs::remove_dir_all(&place.folder).context("remove what the last run left")?;
    }
    fs::create_dir_all(&place.folder)?;
    images::run()?;
    node::binary(binary, figures)?;

    let (server, _, empty) = place.start().await?;
    figures.add("start to API ready, empty directory", milliseconds(empty.api), "ms", Goal::None);
    figures.add("start to node Ready, empty directory", milliseconds(empty.node), "ms", Goal::AtMost(2000.0));
    server.stop(figures).await?;

    // The images are imported by a start that is not measured.
    place.add_images()?;
    let (server, _, _) = place.start().await?;
    server.stop(figures).await?;

    let (server, target, existing) = place.start().await?;
    figures.add("start to API ready, existing data", milliseconds(existing.api), "ms", Goal::None);
    figures.add("start to node Ready, existing data", milliseconds(existing.node), "ms", Goal::AtMost(500.0));
    Ok((server, target))
}

/// How long a start took.
struct Start {
    api: Duration,
    node: Duration,
}

impl Place {
    async fn start(&self) -> Result<(Server, Target, Start)> {
        let config = self.folder.join("kubeconfig");
        let _ = fs::remove_file(&config);
        let log = File::options().create(true).append(true).open(self.log())?;
        let mut command = Command::new(&self.binary);
        command.args(["run", "server", "--node-name", NODE]);
        command.arg("--data-dir").arg(self.folder.join("data")).arg("--run-dir").arg(self.folder.join("run"));
        command
            .arg("--write-kubeconfig")
            .arg(&config)
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true);
        let (began, began_at) = (Instant::now(), Timestamp::now());
        let mut child = command.spawn().with_context(|| format!("start {}", self.binary.display()))?;
        let pid = i32::try_from(child.id().context("a started process has an id")?)?;
        let ready = async || {
            let target =
                timeout(PATIENCE, api_ready(&config)).await.context("the API did not become ready")??;
            let api = began.elapsed();
            timeout(PATIENCE, node_ready(&target, began_at))
                .await
                .context("the node did not become Ready")??;
            Ok::<_, anyhow::Error>((target, Start { api, node: began.elapsed() }))
        };
        let outcome = tokio::select! {
            status = child.wait() => Err(anyhow::anyhow!("edgek ended: {}", status?)),
            outcome = ready() => outcome,
        };
        let (target, start) = outcome.with_context(|| format!("see {}", self.log().display()))?;
        Ok((Server { child, pid }, target, start))
    }

    fn log(&self) -> PathBuf {
        self.folder.join("edgek.log")
    }

    fn add_images(&self) -> Result<()> {
        let folder = self.folder.join("data/agent/images");
        fs::create_dir_all(&folder)?;
        for name in ["pause.tar", "busybox.tar", "agnhost.tar"] {
            fs::copy(workspace::build_dir().join("images").join(name), folder.join(name))?;
        }
        Ok(())
    }
}

impl Server {
    /// Ends it as a service manager would.
    pub(super) async fn stop(mut self, figures: &mut Figures) -> Result<()> {
        let began = Instant::now();
        kill(Pid::from_raw(self.pid), Signal::SIGTERM)?;
        let status = timeout(PATIENCE, self.child.wait()).await.context("edgek did not stop")??;
        if !status.success() {
            bail!("edgek stopped with {status} (signal {:?})", status.signal());
        }
        figures.add("stop", milliseconds(began.elapsed()), "ms", Goal::None);
        Ok(())
    }
}

/// Asks until the server says that it is ready. Refused connections are part of a start.
async fn api_ready(config: &Path) -> Result<Target> {
    let mut ticks = interval(TICK);
    loop {
        ticks.tick().await;
        if !config.exists() {
            continue;
        }
        let target = kubeconfig::load(config)?;
        if let Ok(mut connection) = target.connect().await
            && let Ok((status, _)) = connection.call(hyper::Method::GET, "/readyz", bytes::Bytes::new()).await
            && status.is_success()
        {
            return Ok(target);
        }
    }
}

/// Asks until the node is Ready. What an earlier run said does not count: the lease must have been renewed since, which
/// follows the first status.
async fn node_ready(target: &Target, since: Timestamp) -> Result<()> {
    let mut connection = target.connect().await?;
    let mut ticks = interval(TICK);
    let lease = format!("/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/{NODE}");
    loop {
        ticks.tick().await;
        if let Ok(lease) = connection.get(&lease).await
            && renewed(&lease) > Some(since)
            && let Ok(node) = connection.get(&format!("/api/v1/nodes/{NODE}")).await
            && is_ready(&node)
        {
            return Ok(());
        }
    }
}

fn renewed(lease: &Value) -> Option<Timestamp> {
    lease["spec"]["renewTime"].as_str()?.parse().ok()
}

fn is_ready(node: &Value) -> bool {
    let conditions = node["status"]["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
    conditions.iter().any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
