//! Reading a container's cgroup, v1 (each controller its own hierarchy) or v2. Called by `containers`.

use std::collections::HashMap;
use std::path::PathBuf;

use jiff::Timestamp;

use crate::{Stats, Usage};

const ROOT: &str = "/sys/fs/cgroup";

/// A container's cgroup, by its path from the root of each hierarchy.
#[derive(Debug, Clone)]
pub(super) struct Cgroup {
    path: String,
    unified: bool,
}

impl Cgroup {
    pub(super) fn new(path: &str, unified: bool) -> Self {
        Self { path: path.trim_start_matches('/').to_owned(), unified }
    }

    /// What the container uses now; `None` when its cgroup is gone.
    pub(super) fn stats(&self, writable_layer: Usage) -> Option<Stats> {
        let text = self.read("memory", "memory.stat")?;
        let memory = parse(&text);
        let of = |v1: &str, v2: &str| memory.get(if self.unified { v2 } else { v1 }).copied().unwrap_or(0);
        let usage =
            self.number("memory", if self.unified { "memory.current" } else { "memory.usage_in_bytes" })?;
        let inactive_file = of("total_inactive_file", "inactive_file");
        let cpu_usage_ns = if self.unified {
            parse(&self.read("cpu", "cpu.stat")?).get("usage_usec").copied().unwrap_or(0) * 1000
        } else {
            self.number("cpuacct", "cpuacct.usage")?
        };
        Some(Stats {
            at: Timestamp::now(),
            cpu_usage_ns,
            memory_usage: usage,
            memory_working_set: usage.saturating_sub(inactive_file),
            memory_rss: of("total_rss", "anon"),
            page_faults: of("total_pgfault", "pgfault"),
            major_page_faults: of("total_pgmajfault", "pgmajfault"),
            processes: self.number("pids", "pids.current").unwrap_or(0),
            writable_layer,
        })
    }

    /// Whether the kernel has killed a process here for want of memory.
    pub(super) fn was_oom_killed(&self) -> bool {
        let file = if self.unified { "memory.events" } else { "memory.oom_control" };
        let text = self.read("memory", file).unwrap_or_default();
        parse(&text).get("oom_kill").is_some_and(|&count| count > 0)
    }

    fn number(&self, controller: &str, file: &str) -> Option<u64> {
        self.read(controller, file)?.trim().parse().ok()
    }

    fn read(&self, controller: &str, file: &str) -> Option<String> {
        let mut path = PathBuf::from(ROOT);
        if !self.unified {
            path.push(controller);
        }
        path.push(&self.path);
        path.push(file);
        std::fs::read_to_string(path).ok()
    }
}

/// Lines of a name and a number.
fn parse(text: &str) -> HashMap<&str, u64> {
    let pair = |line: &'_ str| -> Option<(usize, u64)> {
        let at = line.find(' ')?;
        Some((at, line[at + 1..].trim().parse().ok()?))
    };
    text.lines().filter_map(|line| pair(line).map(|(at, number)| (&line[..at], number))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_read_by_name() {
        let found = parse("oom_kill_disable 0\nunder_oom 0\noom_kill 2\nmax max\n");
        assert_eq!(found.get("oom_kill"), Some(&2));
        assert_eq!(found.get("max"), None);
    }
}
