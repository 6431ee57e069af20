//! `Stats`: what one container uses now, read from its cgroup and its writable layer.

use jiff::Timestamp;

/// One reading of a container's use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stats {
    /// When it was read.
    pub at: Timestamp,
    /// CPU time used since the container started, in nanoseconds.
    pub cpu_usage_ns: u64,
    /// All memory charged to the container, page cache included, in bytes.
    pub memory_usage: u64,
    /// Memory that cannot be reclaimed easily: usage without inactive file pages, in bytes.
    pub memory_working_set: u64,
    /// Anonymous memory in bytes.
    pub memory_rss: u64,
    /// Page faults, and those that needed the disk.
    pub page_faults: u64,
    /// Page faults that needed the disk.
    pub major_page_faults: u64,
    /// Processes and threads.
    pub processes: u64,
    /// What the container wrote over its image.
    pub writable_layer: Usage,
}

/// Disk use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes.
    pub bytes: u64,
    /// Files and directories.
    pub inodes: u64,
}
