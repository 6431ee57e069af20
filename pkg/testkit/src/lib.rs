//! Helpers for tests: an in-process cluster, fixtures and eventually.
