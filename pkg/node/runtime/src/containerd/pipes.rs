//! The named pipes between a process in a container and edgek.
//!
//! The shim holds its own ends of them open, so that a killed edgek only pauses a container's output; the next edgek
//! opens them again. (What a container still wrote while no edgek was there is lost when it also ended meanwhile: then
//! nobody holds the pipe. containerd's own logs have the same limit.)

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use jiff::Timestamp;
use nix::sys::stat::Mode;
use tokio::net::unix::pipe;
use tokio::task::JoinHandle;
use tracing::warn;

use crate::{Error, Output, Result};

/// Read at once from one pipe, so that the other has its turn.
const CHUNK: usize = 16 * 1024;

/// Where the pipes of one process are.
#[derive(Debug, Clone)]
pub(super) struct PipePaths {
    dir: PathBuf,
    pub(super) stdin: Option<PathBuf>,
    pub(super) stdout: PathBuf,
    /// `None` with a terminal.
    pub(super) stderr: Option<PathBuf>,
}

/// Which pipes a process has.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kind {
    pub(super) tty: bool,
    pub(super) stdin: bool,
}

impl PipePaths {
    /// The paths of the pipes in `dir`.
    pub(super) fn new(dir: PathBuf, kind: Kind) -> Self {
        Self {
            stdin: kind.stdin.then(|| dir.join("stdin")),
            stdout: dir.join("stdout"),
            stderr: (!kind.tty).then(|| dir.join("stderr")),
            dir,
        }
    }

    /// Makes the pipes.
    pub(super) fn create(&self) -> Result<()> {
        std::fs::create_dir_all(&self.dir).map_err(|error| Error::io("create", &self.dir, error))?;
        for path in [Some(&self.stdout), self.stderr.as_ref(), self.stdin.as_ref()].into_iter().flatten() {
            let made = nix::unistd::mkfifo(path, Mode::S_IRUSR | Mode::S_IWUSR);
            made.map_err(|errno| Error::io("create pipe", path, errno.into()))?;
        }
        Ok(())
    }

    /// Opens the reading ends of new pipes, before the shim opens its own. Read when it has.
    pub(super) fn open_output(&self) -> Result<Outputs> {
        let open = |path: &PathBuf| receiver(path).map_err(|error| Error::io("open pipe", path, error));
        Ok(Outputs { stdout: Some(open(&self.stdout)?), stderr: self.stderr.as_ref().map(open).transpose()? })
    }

    /// Opens the reading ends of a process that may have ended meanwhile.
    pub(super) fn reopen_output(&self) -> Result<Outputs> {
        // The kernel reports the absence of writers only to a reader that came when there was one: be it ourselves.
        let writer = |path: &PathBuf| OpenOptions::new().read(true).write(true).open(path);
        let open = |path: &PathBuf| {
            let opened = writer(path).and_then(|_writer| receiver(path));
            opened.map_err(|error| Error::io("open pipe", path, error))
        };
        Ok(Outputs { stdout: Some(open(&self.stdout)?), stderr: self.stderr.as_ref().map(open).transpose()? })
    }

    /// Begins to open the writing end of the standard input of a process that was just started.
    pub(super) fn reach_stdin(&self) -> Option<Reach> {
        let path = self.stdin.clone()?;
        let writer = path.clone();
        let opening = tokio::task::spawn_blocking(move || OpenOptions::new().write(true).open(writer));
        Some(Reach { path, opening })
    }

    /// Opens the writing end of the standard input of a container that runs. It is opened for reading too: nobody waits
    /// for a process that reads no more.
    pub(super) fn open_stdin(&self) -> Result<Option<pipe::Sender>> {
        let open = |path: &PathBuf| {
            let opened = pipe::OpenOptions::new().read_write(true).open_sender(path);
            opened.map_err(|error| Error::io("open pipe", path, error))
        };
        self.stdin.as_ref().map(open).transpose()
    }

    /// Whether the pipes are there: after a reboot they are not.
    pub(super) fn exist(&self) -> bool {
        std::fs::metadata(&self.stdout).is_ok_and(|metadata| metadata.file_type().is_fifo())
    }

    /// Notes beside the pipes when the process was started.
    pub(super) fn note_start(&self, at: Timestamp) {
        if let Err(error) = std::fs::write(self.dir.join("started"), at.to_string()) {
            warn!(dir = %self.dir.display(), %error, "cannot note the start of a container");
        }
    }

    /// The noted time.
    pub(super) fn started_at(&self) -> Option<Timestamp> {
        std::fs::read_to_string(self.dir.join("started")).ok()?.parse().ok()
    }

    /// Removes them.
    pub(super) fn remove(&self) {
        remove(&self.dir);
    }
}

fn receiver(path: &Path) -> std::io::Result<pipe::Receiver> {
    pipe::OpenOptions::new().open_receiver(path)
}

fn remove(dir: &Path) {
    // What is left is removed at the next start.
    let _ = std::fs::remove_dir_all(dir);
}

/// The writing end of a standard input that the shim is about to read. It opens its end in its own time; input that is
/// written and closed before would be lost, and the process would wait for it for ever.
pub(super) struct Reach {
    path: PathBuf,
    /// Done when the shim has its end.
    opening: JoinHandle<std::io::Result<File>>,
}

impl Reach {
    /// The pipe, once the shim has the other end; `None` when there is no pipe any more.
    pub(super) async fn pipe(&mut self) -> Option<pipe::Sender> {
        let file = (&mut self.opening).await.ok()?.ok()?;
        pipe::Sender::from_file(file).ok()
    }

    /// Waits no more: the thread that waits for a reader gets one.
    pub(super) async fn give_up(self) {
        if !self.opening.is_finished() {
            let _reader = receiver(&self.path);
            // Whatever came of it is closed.
            let _ = self.opening.await;
        }
    }
}

/// The reading ends of a process's output.
#[derive(Debug)]
pub(super) struct Outputs {
    stdout: Option<pipe::Receiver>,
    stderr: Option<pipe::Receiver>,
}

impl Outputs {
    /// Waits for output and takes what is there, up to 16 KiB of each stream; `None` when all writers have gone.
    /// May be cancelled without losing output.
    pub(super) async fn read(&mut self) -> Option<Vec<Output>> {
        while self.stdout.is_some() || self.stderr.is_some() {
            tokio::select! {
                () = readable(self.stdout.as_ref()) => {}
                () = readable(self.stderr.as_ref()) => {}
            }
            let stdout = take(&mut self.stdout).map(Output::Stdout);
            let stderr = take(&mut self.stderr).map(Output::Stderr);
            let batch: Vec<_> = stdout.into_iter().chain(stderr).collect();
            if !batch.is_empty() {
                return Some(batch);
            }
        }
        None
    }
}

async fn readable(pipe: Option<&pipe::Receiver>) {
    match pipe {
        // An error shows again when reading.
        Some(pipe) => {
            let _ = pipe.readable().await;
        }
        None => std::future::pending().await,
    }
}

/// Reads what is there without waiting; closes our end when all writers have gone.
fn take(slot: &mut Option<pipe::Receiver>) -> Option<Bytes> {
    let pipe = slot.as_ref()?;
    let mut buffer = [0; CHUNK];
    match pipe.try_read(&mut buffer) {
        Ok(0) => *slot = None,
        Ok(length) => return Some(Bytes::copy_from_slice(&buffer[..length])),
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
        Err(_) => *slot = None,
    }
    None
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    fn pipes(folder: &Path) -> PipePaths {
        let pipes = PipePaths::new(folder.join("io"), Kind { tty: false, stdin: true });
        pipes.create().unwrap();
        pipes
    }

    #[tokio::test]
    async fn input_waits_for_the_shim_which_gets_all_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let pipes = pipes(folder.path());
        let mut reach = pipes.reach_stdin().unwrap();
        let early = tokio::time::timeout(Duration::from_millis(100), reach.pipe()).await;
        assert!(early.is_err(), "nobody reads yet");
        let mut shim = receiver(pipes.stdin.as_ref().unwrap()).unwrap();
        let mut pipe = reach.pipe().await.unwrap();
        pipe.write_all(b"all").await.unwrap();
        drop(pipe);
        let mut input = String::new();
        shim.read_to_string(&mut input).await.unwrap();
        assert_eq!(input, "all");
    }

    #[tokio::test]
    async fn nobody_waits_for_a_shim_that_never_reads() {
        let folder = tempfile::tempdir().unwrap();
        pipes(folder.path()).reach_stdin().unwrap().give_up().await;
    }
}
