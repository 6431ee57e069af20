//! The runtime on a real containerd. Needs root, the directory of the bundled programs in `EDGEK_BUNDLE`, and the
//! distribution's `busybox-static` and `docker-registry`.

#![expect(clippy::unwrap_used, reason = "a test ends with the first surprise")]
#![expect(
    clippy::disallowed_methods,
    reason = "tests read EDGEK_BUNDLE, and wait for processes that are not ours"
)]

mod containers;
mod images;
mod restarts;
mod sessions;
mod support;
