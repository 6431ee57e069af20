//! What the holder of a shared PID namespace does; `cmd/edgek` calls it for its `pause` command.

use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};

/// Reaps the orphans of its PID namespace until SIGTERM or SIGINT. Call it before any thread is started.
///
/// # Errors
/// When signals cannot be waited for.
pub fn hold_pid_namespace() -> Result<(), Errno> {
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT] {
        signals.add(signal);
    }
    signals.thread_block()?;
    while signals.wait()? == Signal::SIGCHLD {
        // One signal may stand for several children.
        while !matches!(waitpid(None, Some(WaitPidFlag::WNOHANG)), Ok(WaitStatus::StillAlive) | Err(_)) {}
    }
    Ok(())
}
