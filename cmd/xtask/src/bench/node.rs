//! What an idle node costs: memory, processor time and bytes written, of edgek and of containerd, from `/proc`.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::time::{Instant, interval_at};

use super::figures::{Figures, Goal};
use super::server::Server;

/// How long a started node is left alone before it is idle, and how long it is then observed.
const SETTLE: Duration = Duration::from_secs(15);
const WINDOW: Duration = Duration::from_secs(30);

/// The binary's size.
pub(super) fn binary(path: &Path, figures: &mut Figures) -> Result<()> {
    let size = fs::metadata(path).with_context(|| path.display().to_string())?.len();
    figures.add("binary with its bundle", mebibytes(size), "MiB", Goal::AtMost(40.0));
    Ok(())
}

/// What one process used so far.
struct Usage {
    processor: Duration,
    written: u64,
}

/// Observes both processes while nothing happens.
pub(super) async fn idle(server: &Server, figures: &mut Figures) -> Result<()> {
    let processes = [("edgek", server.pid), ("containerd", find("containerd")?)];
    wait(SETTLE).await;
    let before = processes.map(|(_, pid)| usage(pid));
    wait(WINDOW).await;
    for ((name, pid), before) in processes.into_iter().zip(before) {
        let (before, after) = (before?, usage(pid)?);
        let rollup = read(pid, "smaps_rollup")?;
        let memory = |key: &str| number(&rollup, key).map(|kilobytes| mebibytes(kilobytes << 10));
        let (pss_goal, rss_goal, cpu_goal) = match name {
            "edgek" => (Goal::AtMost(30.0), Goal::None, Goal::AtMost(0.3)),
            _ => (Goal::None, Goal::AtMost(30.0), Goal::None),
        };
        let share = (after.processor - before.processor).as_secs_f64() / WINDOW.as_secs_f64() * 100.0;
        figures.add(format!("idle {name}, PSS"), memory("Pss:").context("Pss")?, "MiB", pss_goal);
        figures.add(format!("idle {name}, RSS"), memory("Rss:").context("Rss")?, "MiB", rss_goal);
        figures.add(format!("idle {name}, of a core"), share, "%", cpu_goal);
        #[expect(clippy::cast_precision_loss, reason = "a count of bytes")]
        let rate = (after.written - before.written) as f64 / WINDOW.as_secs_f64();
        figures.add(format!("idle {name}, written"), rate, "B/s", Goal::None);
    }
    Ok(())
}

async fn wait(duration: Duration) {
    interval_at(Instant::now() + duration, duration).tick().await;
}

/// The only process of that name: the measured node has a process namespace of its own.
fn find(name: &str) -> Result<i32> {
    for entry in fs::read_dir("/proc")? {
        let Ok(pid) = entry?.file_name().to_string_lossy().parse() else { continue };
        if read(pid, "comm").is_ok_and(|comm| comm.trim() == name) {
            return Ok(pid);
        }
    }
    anyhow::bail!("no process is named {name}")
}

fn usage(pid: i32) -> Result<Usage> {
    let ticks = ticks(&read(pid, "stat")?).context("the processor time in stat")?;
    let per_second = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK)?.context("ticks per second")?;
    let io = read(pid, "io")?;
    Ok(Usage {
        processor: Duration::from_secs(ticks) / u32::try_from(per_second)?,
        written: number(&io, "write_bytes:").context("write_bytes in io")?,
    })
}

fn read(pid: i32, file: &str) -> Result<String> {
    let path = format!("/proc/{pid}/{file}");
    fs::read_to_string(&path).with_context(|| format!("read {path}"))
}

/// User and system time in clock ticks: fields 14 and 15, counted after the name, which may hold anything.
fn ticks(stat: &str) -> Option<u64> {
    let fields: Vec<_> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    Some(fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?)
}

/// The number after a key at the start of a line.
fn number(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key))?.split_whitespace().next()?.parse().ok()
}

#[expect(clippy::cast_precision_loss, reason = "a size for people")]
fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_found_behind_any_name() {
        let stat = "42 (a) b (c) S 1 42 42 0 -1 4194560 900 0 0 0 17 5 0 0 20 0 9 0 100 1 1";
        assert_eq!(ticks(stat), Some(22));
    }

    #[test]
    fn a_key_stands_at_the_start_of_its_line() {
        let rollup =
            "Rss:               25148 kB\nPss:               20000 kB\nPss_Anon:           5936 kB\n";
        assert_eq!(number(rollup, "Pss:"), Some(20000));
        assert_eq!(number(rollup, "Swap:"), None);
    }
}
