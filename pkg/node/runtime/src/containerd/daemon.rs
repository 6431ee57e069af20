//! `Daemon`: the embedded containerd as a child process: its configuration, its start, and its restart when it dies.
//!
//! It runs in a process group of its own. An orderly end of edgek stops it; shims and containers go on. When edgek was
//! killed, the next edgek takes over a containerd that is still running if it is the same program with the same
//! configuration, and replaces it otherwise.

use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use edgek_base_lifecycle::{Backoff, Scope};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::AsyncReadExt as _;
use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use tracing::{error, info, warn};

use crate::{Error, Result};

const SYSTEM_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// How long containerd may take to end after SIGTERM.
const STOP_PATIENCE: Duration = Duration::from_secs(10);

/// A child that ran this long starts over with short delays.
const STABLE: Duration = Duration::from_secs(60);

/// How much containerd's heap may grow before it is collected, in percent: after an import of 60 MB it keeps 29 MB
/// resident instead of 39.
const GOGC: &str = "30";

const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// Where the embedded containerd lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DaemonConfig {
    /// The directory with `containerd`, `containerd-shim-runc-v2` and `runc`: one name for all versions, as a symbolic
    /// link is, because the shims of running containers look for `runc` there as long as they live.
    pub bin_dir: PathBuf,
    /// What survives reboots: images, writable layers, the database.
    pub root_dir: PathBuf,
    /// What does not: sockets, the state of running containers; on a tmpfs. Short, since sockets have short names.
    pub state_dir: PathBuf,
    /// Variables that it gets: the proxies through which registries are reached.
    pub environment: Vec<(String, String)>,
}

impl DaemonConfig {
    /// The gRPC socket, for [`super::Config::socket`].
    pub fn socket(&self) -> PathBuf {
        self.state_dir.join("containerd.sock")
    }

    fn ttrpc_socket(&self) -> PathBuf {
        self.state_dir.join("containerd.sock.ttrpc")
    }

    fn program(&self) -> PathBuf {
        self.bin_dir.join("containerd")
    }

    fn config_file(&self) -> PathBuf {
        self.state_dir.join("config.toml")
    }

    fn log_file(&self) -> PathBuf {
        self.state_dir.join("containerd.log")
    }

    /// The whole configuration file; nothing is read from `/etc/containerd`.
    fn toml(&self) -> String {
        let quote = |path: &Path| format!("'{}'", path.display());
        format!(
            "version = 4\nroot = {root}\nstate = {state}\nimports = []\n\n\
             [debug]\n  level = 'warn'\n\n\
             [plugins.'io.containerd.server.v1.grpc']\n  address = {grpc}\n\n\
             [plugins.'io.containerd.server.v1.ttrpc']\n  address = {ttrpc}\n\n\
             [plugins.'io.containerd.shim.v1.manager']\n  socket_dir = {sockets}\n",
            root = quote(&self.root_dir),
            state = quote(&self.state_dir.join("run")),
            grpc = quote(&self.socket()),
            ttrpc = quote(&self.ttrpc_socket()),
            sockets = quote(&self.state_dir.join("s")),
        )
    }
}

/// Keeps a containerd running as long as its scope lives.
pub struct Daemon;

impl Daemon {
    /// Prepares the directories and starts (or takes over) containerd in the background.
    ///
    /// # Errors
    /// When the directories or the configuration cannot be written.
    pub fn start(scope: &Scope, config: DaemonConfig) -> Result<()> {
        for dir in [&config.root_dir, &config.state_dir] {
            std::fs::create_dir_all(dir).map_err(|source| Error::io("create", dir, source))?;
        }
        scope.spawn_draining("containerd", supervise(scope.clone(), config));
        Ok(())
    }
}

async fn supervise(scope: Scope, config: DaemonConfig) {
    let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(30));
    loop {
        let started = tokio::time::Instant::now();
        match run(&scope, &config).await {
            Ok(Ended::Stopped) => return,
            Ok(Ended::Died) => error!("containerd has died; starting it again"),
            Err(error) => error!(%error, "cannot run containerd"),
        }
        if started.elapsed() > STABLE {
            backoff.reset();
        }
        tokio::select! {
            () = backoff.wait() => {}
            () = scope.cancelled() => return,
        }
    }
}

enum Ended {
    Stopped,
    Died,
}

/// One life of containerd, from its start or adoption to its end.
async fn run(scope: &Scope, config: &DaemonConfig) -> Result<Ended> {
    let adopted = match running(config) {
        Some((pid, Same::Yes)) => Some(pid),
        Some((pid, Same::No)) => {
            info!(%pid, "replacing a containerd of another version or configuration");
            stop(pid).await;
            None
        }
        None => None,
    };
    let (pid, mut child) = match adopted {
        Some(pid) => {
            info!(%pid, "taking over a running containerd");
            (pid, None)
        }
        None => {
            let child = spawn(config)?;
            (Pid::from_raw(child.id().map_or(0, u32::cast_signed)), Some(child))
        }
    };
    tokio::select! {
        () = ended(config, child.as_mut()) => Ok(Ended::Died),
        () = scope.cancelled() => {
            stop(pid).await;
            Ok(Ended::Stopped)
        }
    }
}

fn spawn(config: &DaemonConfig) -> Result<Child> {
    let config_file = config.config_file();
    std::fs::write(&config_file, config.toml()).map_err(|source| Error::io("write", &config_file, source))?;
    let log_file = config.log_file();
    let log = std::fs::File::create(&log_file).map_err(|source| Error::io("create", &log_file, source))?;
    let program = config.program();
    Command::new(&program)
        .arg("--config")
        .arg(&config_file)
        .env_clear()
        .env("PATH", format!("{}:{SYSTEM_PATH}", config.bin_dir.display()))
        .env("GOGC", GOGC)
        .envs(config.environment.iter().map(|(name, value)| (name, value)))
        .current_dir("/")
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .map_err(|source| Error::io("start", &program, source))
}

/// Resolves when containerd has ended. A process we did not start is watched through a connection that it closes when
/// it ends.
async fn ended(config: &DaemonConfig, child: Option<&mut Child>) {
    match child {
        Some(child) => match child.wait().await {
            Ok(status) => warn!(%status, log = %config.log_file().display(), "containerd has ended"),
            Err(error) => warn!(%error, "containerd has ended"),
        },
        None => {
            if let Ok(mut stream) = UnixStream::connect(config.ttrpc_socket()).await {
                // Any end of the connection is the end.
                let _ = stream.read(&mut [0]).await;
            }
        }
    }
}

enum Same {
    Yes,
    No,
}

/// The containerd an earlier edgek left, and whether it is the one that would be started now. It is known by its
/// command line, so that no moment of a crash hides it.
fn running(config: &DaemonConfig) -> Option<(Pid, Same)> {
    let pids = std::fs::read_dir("/proc")
        .ok()?
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let pid = pids.into_iter().find(|&pid| has_config(pid, &config.config_file()))?;
    let program = std::fs::read_link(format!("/proc/{pid}/exe")).ok()?;
    let written = std::fs::read_to_string(config.config_file()).unwrap_or_default();
    let same_program = config.program().canonicalize().is_ok_and(|path| path == program);
    let same = if same_program && written == config.toml() { Same::Yes } else { Same::No };
    Some((Pid::from_raw(pid), same))
}

fn has_config(pid: i32, config_file: &Path) -> bool {
    let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let mut arguments = command.split(|&byte| byte == 0).skip(1);
    arguments.next() == Some(b"--config") && arguments.next() == Some(config_file.as_os_str().as_bytes())
}

/// Ends a containerd, by force if it does not follow.
async fn stop(pid: Pid) {
    for (signal, patience) in [(Signal::SIGTERM, STOP_PATIENCE), (Signal::SIGKILL, STOP_PATIENCE)] {
        if kill(pid, signal).is_err() {
            return;
        }
        if tokio::time::timeout(patience, gone(pid)).await.is_ok() {
            return;
        }
        warn!(%pid, %signal, "containerd does not end");
    }
}

/// Resolves when the process is no more than a zombie.
async fn gone(pid: Pid) {
    let alive = || {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let state = stat.rsplit(") ").next().and_then(|rest| rest.chars().next());
        state.is_some_and(|state| state != 'Z' && state != 'X')
    };
    while alive() {
        edgek_base_lifecycle::sleep(LOOK_AGAIN).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_keeps_everything_in_its_own_directories() {
        let config = DaemonConfig {
            bin_dir: "/b".into(),
            root_dir: "/r".into(),
            state_dir: "/s".into(),
            environment: Vec::new(),
        };
        expect_test::expect![[r#"
            version = 4
            root = '/r'
            state = '/s/run'
            imports = []

            [debug]
              level = 'warn'

            [plugins.'io.containerd.server.v1.grpc']
              address = '/s/containerd.sock'

            [plugins.'io.containerd.server.v1.ttrpc']
              address = '/s/containerd.sock.ttrpc'

            [plugins.'io.containerd.shim.v1.manager']
              socket_dir = '/s/s'
        "#]]
        .assert_eq(&config.toml());
    }
}
