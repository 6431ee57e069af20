//! Exit codes, and the one place that prints why the program ends.

use std::process::ExitCode;

/// What the process tells whoever started it. Documented in docs/cli.md.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Code {
    /// All went well.
    Success = 0,
    /// Something failed while it ran.
    Failed = 1,
    /// Flags, variables or a configuration file are wrong.
    Usage = 2,
    /// `edgek service status`: it does not run.
    NotRunning = 3,
    /// The machine is not ready: a port or the data directory is in use, a disk is full or read-only.
    Environment = 4,
    /// The cluster does not take this machine: a wrong or expired token, another CA, a name that is taken, a clock that
    /// is off, no edgek server there. Trying again does not help.
    Refused = 5,
}

impl From<Code> for ExitCode {
    fn from(code: Code) -> Self {
        Self::from(code as u8)
    }
}

/// An error and the code to end with.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) code: Code,
    pub(crate) error: anyhow::Error,
}

impl Failure {
    pub(crate) fn new(code: Code, error: impl Into<anyhow::Error>) -> Self {
        Self { code, error: error.into() }
    }
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::new(Code::Failed, error)
    }
}

/// Prints why a command failed and gives its exit code.
#[expect(clippy::print_stderr, reason = "the message to whoever typed the command")]
pub(crate) fn report(outcome: Result<(), Failure>) -> ExitCode {
    match outcome {
        Ok(()) => Code::Success.into(),
        Err(Failure { code, error }) => {
            eprintln!("edgek: {error:#}");
            code.into()
        }
    }
}
