//! The Runtime trait and its containerd implementation.
