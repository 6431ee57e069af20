//! Tells systemd how far the server is (`sd_notify`), where systemd asks to be told.

use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use tracing::debug;

/// The node serves; units that wait for it may start.
pub(crate) fn ready() {
    send("READY=1");
}

/// The server is ending.
pub(crate) fn stopping() {
    send("STOPPING=1");
}

#[expect(clippy::disallowed_methods, reason = "cmd/edgek is where the environment is read")]
fn send(state: &str) {
    let Ok(path) = std::env::var("NOTIFY_SOCKET") else { return };
    let address = match path.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(&path),
    };
    let sent = UnixDatagram::unbound().and_then(|socket| socket.send_to_addr(state.as_bytes(), &address?));
    if let Err(error) = sent {
        debug!(%error, "sd_notify");
    }
}
