//! `edgek service`: the server in the background, where systemd does not run.
//!
//! The supervisor is a small process of its own that starts the server again when it ends by itself, and passes
//! SIGTERM on. One lock file tells whether it runs, whatever became of it.

use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::ArgMatches;
use edgek_base_config::Config;
use edgek_base_lifecycle::Backoff;
use edgek_base_sys::files::create_dir_private;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::signal::unix::{SignalKind, signal};

use crate::exit::{Code, Failure};
use crate::sources;

/// Where the background server's log goes.
const LOG: &str = "/var/log/edgek.log";
/// A log longer than this is put aside when the supervisor starts.
const LOG_MAX: u64 = 10 << 20;
/// How long `stop` waits; the server drains within its own grace periods.
const STOP: Duration = Duration::from_secs(60);

/// `edgek service start|stop|status`.
pub(crate) fn command(matches: &ArgMatches) -> Result<(), Failure> {
    let lock = LockFile { path: sources::ambient()?.run_dir.join("service.lock") };
    match matches.subcommand_name() {
        Some("start") => start(&lock),
        Some("stop") => stop(&lock),
        Some("status") => status(&lock),
        Some("supervise") => supervise(&lock),
        _ => unreachable!("clap requires a subcommand"),
    }
}

/// The file the supervisor holds a lock on while it runs; it contains the supervisor's process id.
struct LockFile {
    path: PathBuf,
}

impl LockFile {
    fn open(&self) -> Result<File> {
        if let Some(folder) = self.path.parent() {
            create_dir_private(folder)?;
        }
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&self.path);
        file.with_context(|| format!("opening {}", self.path.display()))
    }

    /// Takes the lock; `None` when a supervisor holds it.
    fn take(&self) -> Result<Option<Flock<File>>> {
        Ok(Flock::lock(self.open()?, FlockArg::LockExclusiveNonblock).ok())
    }

    /// The process that holds the lock.
    fn holder(&self) -> Result<Option<Pid>> {
        if self.take()?.is_some() {
            return Ok(None);
        }
        let mut text = String::new();
        self.open()?.read_to_string(&mut text)?;
        Ok(text.trim().parse().ok().map(Pid::from_raw))
    }
}

#[expect(clippy::print_stdout, reason = "the answer to whoever typed the command")]
fn start(lock: &LockFile) -> Result<(), Failure> {
    if let Some(pid) = lock.holder()? {
        println!("edgek runs already (process {pid})");
        return Ok(());
    }
    let log = open_log(Path::new(LOG))?;
    let mut child = Command::new(std::env::current_exe()?)
        .args(["service", "supervise"])
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .context("starting the supervisor")?;
    while lock.holder()?.is_none() {
        if let Some(status) = child.try_wait()? {
            return Err(anyhow::anyhow!("the supervisor ended at once ({status}); see {LOG}").into());
        }
        std::thread::yield_now();
    }
    println!("edgek runs in the background; its log is {LOG}");
    Ok(())
}

fn open_log(path: &Path) -> Result<OwnedFd> {
    if fs::metadata(path).is_ok_and(|metadata| metadata.len() > LOG_MAX) {
        fs::rename(path, path.with_extension("log.1"))?;
    }
    let file = OpenOptions::new().create(true).append(true).open(path);
    Ok(file.with_context(|| format!("opening {}", path.display()))?.into())
}

/// Stops a background server of this configuration, if there is one.
pub(crate) fn stop_quietly(config: &Config) -> Result<()> {
    if !config.run_dir.exists() {
        return Ok(());
    }
    let lock = LockFile { path: config.run_dir.join("service.lock") };
    match lock.holder()? {
        Some(pid) => terminate(&lock, pid),
        None => Ok(()),
    }
}

#[expect(clippy::print_stdout, reason = "the answer to whoever typed the command")]
fn stop(lock: &LockFile) -> Result<(), Failure> {
    let Some(pid) = lock.holder()? else {
        println!("edgek does not run");
        return Ok(());
    };
    terminate(lock, pid)?;
    println!("edgek has stopped; pods go on running");
    Ok(())
}

fn terminate(lock: &LockFile, pid: Pid) -> Result<()> {
    kill(pid, Signal::SIGTERM).with_context(|| format!("stopping process {pid}"))?;
    runtime()?.block_on(async {
        let gone = tokio::task::spawn_blocking({
            let file = lock.open()?;
            // The lock is free when the supervisor has ended.
            move || Flock::lock(file, FlockArg::LockExclusive).map(drop).map_err(|(_, error)| error)
        });
        let waited = tokio::time::timeout(STOP, gone).await;
        waited.with_context(|| {
            format!("process {pid} did not end within {} s; see {LOG}", STOP.as_secs())
        })???;
        anyhow::Ok(())
    })
}

#[expect(clippy::print_stdout, reason = "the answer to whoever typed the command")]
fn status(lock: &LockFile) -> Result<(), Failure> {
    match lock.holder()? {
        Some(pid) => {
            println!("edgek runs (process {pid}); its log is {LOG}");
            Ok(())
        }
        None => Err(Failure::new(Code::NotRunning, anyhow::anyhow!("not running"))),
    }
}

fn supervise(lock: &LockFile) -> Result<(), Failure> {
    let Some(mut held) = lock.take()? else {
        return Err(Failure::new(Code::Environment, anyhow::anyhow!("another supervisor runs")));
    };
    held.set_len(0)?;
    held.rewind()?;
    write!(*held, "{}", std::process::id())?;
    // A session of its own: the terminal that started it may go.
    nix::unistd::setsid().context("leaving the terminal's session")?;
    runtime()?.block_on(supervise_server())?;
    Ok(())
}

async fn supervise_server() -> Result<()> {
    // The configuration of an agent names the server it joins.
    let role =
        if sources::ambient().is_ok_and(|config| config.server.is_some()) { "agent" } else { "server" };
    let mut terminate = signal(SignalKind::terminate())?;
    let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30));
    loop {
        let mut server = tokio::process::Command::new(std::env::current_exe()?)
            .args(["run", role, "--supervised"])
            .stdin(Stdio::null())
            .spawn()
            .context("starting the server")?;
        let started = tokio::time::Instant::now();
        tokio::select! {
            status = server.wait() => {
                let status = status?;
                // Neither mends by itself.
                if status.code() == Some(Code::Usage as i32) {
                    bail!("the configuration is wrong (see above)");
                }
                if status.code() == Some(Code::Refused as i32) {
                    bail!("the cluster does not take this machine (see above)");
                }
                report(status);
            }
            _ = terminate.recv() => {
                if let Some(pid) = server.id().and_then(|id| i32::try_from(id).ok()) {
                    kill(Pid::from_raw(pid), Signal::SIGTERM)?;
                }
                server.wait().await?;
                return Ok(());
            }
        }
        if started.elapsed() > Duration::from_secs(60) {
            backoff.reset();
        }
        tokio::select! {
            () = backoff.wait() => {}
            _ = terminate.recv() => return Ok(()),
        }
    }
}

#[expect(clippy::print_stderr, reason = "the supervisor's line in the log")]
fn report(status: ExitStatus) {
    eprintln!("edgek service: the server ended ({status}); starting it again");
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}
