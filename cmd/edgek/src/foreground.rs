//! What `edgek run server` and `edgek run agent` have in common: the log, the runtime, the signals that end them.

use std::time::Duration;

use clap::ArgMatches;
use edgek_base_config::Config;
use edgek_base_lifecycle::Scope;
use edgek_base_telemetry::log::{self, Format};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{info, warn};

use crate::exit::{Code, Failure};
use crate::{notify, sources};

/// How long the tasks of one stage may take to end.
const GRACE: Duration = Duration::from_secs(10);

/// A part of the process that ends by itself, in its turn.
pub(crate) struct Stage {
    pub(crate) name: &'static str,
    pub(crate) scope: Scope,
}

/// Runs a role to its end.
pub(crate) fn run(
    config: &Config,
    flags: &ArgMatches,
    role: impl Future<Output = Result<(), Failure>>,
) -> Result<(), Failure> {
    start_log(config)?;
    if flags.get_flag("supervised") {
        nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGTERM)?;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(role)
}

fn start_log(config: &Config) -> Result<(), Failure> {
    let format = match config.log_format.as_str() {
        "json" => Format::Json,
        "auto" if sources::under_journald() => Format::Journald,
        _ => Format::Text,
    };
    log::init(format, &config.log_level).map_err(|text| Failure::new(Code::Usage, anyhow::anyhow!(text)))
}

/// What to say when a node is to run without the rights for it.
pub(crate) fn require_root(advice: &str) -> Result<(), Failure> {
    if nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    Err(Failure::new(Code::Environment, anyhow::anyhow!("not root: use sudo{advice}")))
}

/// Starts, waits for a signal or a failure, and stops the stages in their order. `start` gives what `stop` needs.
pub(crate) async fn serve<T>(
    root: &Scope,
    stages: &[Stage],
    start: impl Future<Output = Result<T, Failure>>,
    stop: impl AsyncFnOnce(T),
) -> Result<(), Failure> {
    let mut signals = Signals::new()?;
    if edgek_base_pki::clock::is_wrong() {
        warn!("the clock shows a time before this release was made; set it, or start a time service");
    }
    let started = tokio::select! {
        started = start => started?,
        () = signals.next() => {
            info!("stopping before the start was complete; pods go on running");
            stop_stages(stages).await;
            return Ok(());
        }
    };
    let outcome = tokio::select! {
        () = signals.next() => {
            info!("stopping; pods go on running");
            Ok(())
        }
        () = root.failed() => Err(Failure::new(Code::Failed, anyhow::anyhow!("a task has panicked; see the log"))),
    };
    notify::stopping();
    let stopping = async {
        stop_stages(stages).await;
        stop(started).await;
    };
    tokio::select! {
        () = stopping => {}
        () = signals.next() => warn!("stopped at once by a second signal"),
    }
    outcome
}

async fn stop_stages(stages: &[Stage]) {
    for Stage { name, scope } in stages {
        if let Err(error) = scope.close(GRACE).await {
            warn!(%error, stage = name, "a stage did not end in time");
        }
    }
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
