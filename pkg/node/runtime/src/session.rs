//! `Session`: the streams of one exec or attach.

use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use crate::Result;

/// A command to run inside a running container. User, working directory and environment are the container's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExecSpec {
    /// The command and its arguments; not run by a shell.
    pub command: Vec<String>,
    /// Whether the command gets a terminal (then stderr comes with stdout).
    pub tty: bool,
    /// Whether the caller sends standard input.
    pub stdin: bool,
    /// How long the command may run before it is killed and the session ends with
    /// [`Error::ExecTimeout`](crate::Error::ExecTimeout).
    pub timeout: Option<Duration>,
}

/// A piece of output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// From standard output, or from the terminal.
    Stdout(Bytes),
    /// From standard error.
    Stderr(Bytes),
}

/// A terminal's size in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TerminalSize {
    /// Columns.
    pub width: u16,
    /// Rows.
    pub height: u16,
}

/// The streams of one exec or attach. All channels are bounded: a slow reader slows the writer.
///
/// Dropping a session detaches: input ends, output is discarded; the command goes on, as upstream's does.
#[derive(Debug)]
pub struct Session {
    /// Input; dropping the sender closes the command's standard input. `None` when there is none.
    pub stdin: Option<mpsc::Sender<Bytes>>,
    /// Output in the order it was read; ends when the command has closed its output.
    pub output: mpsc::Receiver<Output>,
    /// Sizes of the caller's terminal; ignored without a terminal.
    pub resize: mpsc::Sender<TerminalSize>,
    /// The exit code, after all output has been read (128 + signal when killed by one). For attach, the container's.
    pub exit: oneshot::Receiver<Result<i32>>,
}
