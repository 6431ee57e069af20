//! `edgek run server`: starts the stages in order, and ends them in the opposite one.
//!
//! | stage | starts | ends |
//! |---|---|---|
//! | control plane | first: everybody is its client | last; then the store is closed |
//! | controllers, scheduler | when it serves | before it |
//! | node | beside them | first; its containers go on running |
//!
//! SIGTERM and SIGINT end the stages; a second one ends the process at once. Nothing acknowledged is lost either way.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::ArgMatches;
use edgek_base_config::{Component, Config};
use edgek_base_lifecycle::Scope;
use edgek_base_telemetry::log::{self, Format};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{error, info, warn};

use crate::control_plane::{ControlPlane, Identity};
use crate::dial::LocalDial;
use crate::exit::{Code, Failure};
use crate::kubernetes_service::KubernetesService;
use crate::{bootstrap, kubelet_api, node, notify, sources};

/// How long the tasks of one stage may take to end.
const GRACE: Duration = Duration::from_secs(10);

pub(crate) fn run(flags: &ArgMatches) -> Result<(), Failure> {
    let config = sources::config(flags)?;
    start_log(&config)?;
    if !config.disable.contains(&Component::Node) && !nix::unistd::geteuid().is_root() {
        let text = "not root: use sudo, or --disable=node for a control plane alone";
        return Err(Failure::new(Code::Environment, anyhow::anyhow!(text)));
    }
    if flags.get_flag("supervised") {
        nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGTERM)?;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(serve(config))
}

fn start_log(config: &Config) -> Result<(), Failure> {
    let format = match config.log_format.as_str() {
        "json" => Format::Json,
        "auto" if sources::under_journald() => Format::Journald,
        _ => Format::Text,
    };
    log::init(format, &config.log_level).map_err(|text| Failure::new(Code::Usage, anyhow::anyhow!(text)))
}

/// The scopes of the stages.
struct Stages {
    root: Scope,
    control_plane: Scope,
    controllers: Scope,
    node: Scope,
}

async fn serve(config: Config) -> Result<(), Failure> {
    let mut signals = Signals::new()?;
    let root = Scope::root();
    let stages = Stages {
        control_plane: root.child(),
        controllers: root.child(),
        node: root.child(),
        root: root.clone(),
    };
    if edgek_base_pki::clock::is_wrong() {
        warn!("the clock shows a time before this release was made; set it, or start a time service");
    }
    let started = tokio::select! {
        started = start(&config, &stages) => started,
        () = signals.next() => {
            info!("stopping before the start was complete; pods go on running");
            stop_stages(&stages).await;
            return Ok(());
        }
    };
    let control_plane = started?;
    let outcome = tokio::select! {
        () = signals.next() => {
            info!("stopping; pods go on running");
            Ok(())
        }
        () = root.failed() => Err(Failure::new(Code::Failed, anyhow::anyhow!("a task has panicked; see the log"))),
    };
    notify::stopping();
    tokio::select! {
        () = stop(&stages, &control_plane) => {}
        () = signals.next() => warn!("stopped at once by a second signal"),
    }
    outcome
}

async fn start(config: &Config, stages: &Stages) -> Result<ControlPlane, Failure> {
    let name = node_name(config)?;
    let address = node::address(config).await?;
    let dial = LocalDial::default();
    let identity = Identity { name: &name, address };
    let control_plane =
        ControlPlane::start(config, &identity, Arc::new(dial.clone()), &stages.control_plane).await?;
    // What fails here is the store's disk.
    let environment = |error: anyhow::Error| Failure::new(Code::Environment, error);
    let client = control_plane.own_client();
    bootstrap::ensure(&client, &control_plane.pki).await.map_err(environment)?;
    let service = KubernetesService::new(config, address);
    service.ensure(&client).await.context("writing service kubernetes").map_err(environment)?;
    service.keep(&client, &stages.controllers);
    // Controllers and the node are refused nothing in their first moment.
    control_plane.refresh_rbac()?;
    info!(address = %config.bind_address, port = config.https_listen_port, "the API is served");
    start_controllers(config, &control_plane, &stages.controllers);
    if !config.disable.contains(&Component::Node) {
        let client = control_plane.client(&format!("system:node:{name}"), &["system:nodes"]);
        let kubelet = node::start(config, &name, address, client, &stages.node).await;
        let kubelet = kubelet.map_err(|error| Failure::new(Code::Environment, error))?;
        dial.set(&name, kubelet.server(), stages.node.clone());
        kubelet_api::listen(&kubelet, config, &identity, &control_plane.pki, &stages.node).await?;
    }
    notify::ready();
    Ok(control_plane)
}

fn start_controllers(config: &Config, control_plane: &ControlPlane, scope: &Scope) {
    if !config.disable.contains(&Component::Scheduler) {
        edgek_control_scheduler::start(scope, control_plane.client("system:kube-scheduler", &[]));
    }
    if !config.disable.contains(&Component::Controllers) {
        let settings =
            edgek_control_controllers::Config { root_ca: control_plane.pki.server_ca.pem().to_owned() };
        edgek_control_controllers::start(scope, settings, |user| {
            let groups: &[&str] = if user.starts_with("system:serviceaccount:") {
                &["system:serviceaccounts", "system:serviceaccounts:kube-system"]
            } else {
                &[]
            };
            control_plane.client(user, groups)
        });
    }
}

async fn stop(stages: &Stages, control_plane: &ControlPlane) {
    stop_stages(stages).await;
    if let Err(error) = control_plane.close().await {
        error!(error = format!("{error:#}"), "closing");
    }
}

async fn stop_stages(stages: &Stages) {
    for (name, scope) in [
        ("node", &stages.node),
        ("controllers", &stages.controllers),
        ("control plane", &stages.control_plane),
        ("all", &stages.root),
    ] {
        if let Err(error) = scope.close(GRACE).await {
            warn!(%error, stage = name, "a stage did not end in time");
        }
    }
}

fn node_name(config: &Config) -> Result<String, Failure> {
    if let Some(name) = &config.node_name {
        return Ok(name.clone());
    }
    let name = nix::unistd::gethostname().context("reading the host name; set --node-name")?;
    Ok(name.to_string_lossy().to_lowercase())
}

/// SIGTERM and SIGINT.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> anyhow::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
