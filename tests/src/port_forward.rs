//! [`PortForward`]: `kubectl port-forward` to one port.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

/// A port of the machine that leads to a pod's, until it is dropped.
pub struct PortForward {
    kubectl: Child,
    /// `127.0.0.1:PORT`.
    pub address: String,
}

impl PortForward {
    /// Runs the command, and waits until it has a port.
    pub fn start(mut kubectl: Command) -> Self {
        let mut kubectl = kubectl.stdout(Stdio::piped()).spawn().expect("kubectl");
        let mut line = String::new();
        let stdout = kubectl.stdout.as_mut().expect("a pipe");
        BufReader::new(stdout).read_line(&mut line).expect("where it listens");
        let address = line.strip_prefix("Forwarding from ").and_then(|rest| rest.split(' ').next());
        let address = address.unwrap_or_else(|| panic!("{line:?}")).to_owned();
        Self { kubectl, address }
    }
}

impl Drop for PortForward {
    fn drop(&mut self) {
        // kubectl forwards until it is told to end.
        let _ = self.kubectl.kill();
        let _ = self.kubectl.wait();
    }
}
