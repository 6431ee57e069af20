//! `Facts`: what the machine is. Read once at start from `/proc`, `/sys` and `/etc`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use jiff::Timestamp;
use nix::sys::statvfs::statvfs;

/// What the machine is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// Processors.
    pub cpus: usize,
    /// Memory, in bytes.
    pub memory: u64,
    /// Size of the disk that holds pods' files, in bytes.
    pub disk: u64,
    /// Bytes reserved as huge pages, by page size (`2Mi`).
    pub hugepages: BTreeMap<String, u64>,
    /// `/etc/machine-id`.
    pub machine_id: String,
    /// The mainboard's UUID, else the machine id.
    pub system_uuid: String,
    /// Another one after every boot.
    pub boot_id: String,
    /// `uname -r`.
    pub kernel: String,
    /// `PRETTY_NAME` of `/etc/os-release`.
    pub os_image: String,
    /// `amd64`, `arm64`.
    pub architecture: &'static str,
}

impl Facts {
    /// Reads them; what cannot be read is empty. `root` is a folder on the disk that holds pods' files.
    pub fn read(root: &Path) -> Self {
        let machine_id = line("/etc/machine-id");
        let uuid = line("/sys/class/dmi/id/product_uuid");
        Self {
            cpus: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            memory: meminfo(&text("/proc/meminfo"), "MemTotal").unwrap_or(0),
            disk: Disk::read(root).map_or(0, |disk| disk.total),
            hugepages: hugepages(Path::new("/sys/kernel/mm/hugepages")),
            system_uuid: if uuid.is_empty() { machine_id.clone() } else { uuid },
            machine_id,
            boot_id: line("/proc/sys/kernel/random/boot_id"),
            kernel: line("/proc/sys/kernel/osrelease"),
            os_image: os_image(&text("/etc/os-release")),
            architecture: match std::env::consts::ARCH {
                "x86_64" => "amd64",
                "aarch64" => "arm64",
                other => other,
            },
        }
    }
}

/// How full a disk is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Disk {
    /// Bytes in all.
    pub total: u64,
    /// Bytes that are free for everyone.
    pub available: u64,
    /// Bytes in use.
    pub used: u64,
    /// Files in all.
    pub inodes: u64,
    /// Files that can still be made.
    pub inodes_free: u64,
}

impl Disk {
    /// The disk that holds `path`, or its nearest parent that exists.
    pub fn read(path: &Path) -> Option<Self> {
        let existing = path.ancestors().find(|path| path.exists())?;
        let stat = statvfs(existing).ok()?;
        let block = stat.fragment_size();
        Some(Self {
            total: stat.blocks() * block,
            available: stat.blocks_available() * block,
            used: stat.blocks().saturating_sub(stat.blocks_free()) * block,
            inodes: stat.files(),
            inodes_free: stat.files_free(),
        })
    }
}

/// The machine's memory, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Memory {
    /// All of it.
    pub total: u64,
    /// What nobody uses.
    pub free: u64,
    /// What can be had without swapping.
    pub available: u64,
    /// Cached files that were not used for long.
    pub inactive_file: u64,
    /// What belongs to processes and no file.
    pub anonymous: u64,
}

impl Memory {
    /// Reads it now.
    pub fn read() -> Self {
        let text = text("/proc/meminfo");
        let row = |name| meminfo(&text, name).unwrap_or(0);
        Self {
            total: row("MemTotal"),
            free: row("MemFree"),
            available: row("MemAvailable"),
            inactive_file: row("Inactive(file)"),
            anonymous: row("AnonPages"),
        }
    }

    /// What is in use, caches included.
    pub fn used(&self) -> u64 {
        self.total.saturating_sub(self.free)
    }

    /// What is in use and cannot be reclaimed easily.
    pub fn working_set(&self) -> u64 {
        self.used().saturating_sub(self.inactive_file)
    }
}

/// Memory that can be had without swapping, in bytes.
pub fn available_memory() -> Option<u64> {
    meminfo(&text("/proc/meminfo"), "MemAvailable")
}

/// CPU time that was used since the machine started, in nanoseconds.
pub fn cpu_ns() -> u64 {
    used_cpu_ns(&text("/proc/stat"))
}

fn used_cpu_ns(text: &str) -> u64 {
    /// The kernel shows hundredths of a second.
    const TICK_NS: u64 = 10_000_000;
    let row = text.lines().find_map(|line| line.strip_prefix("cpu ")).unwrap_or_default();
    let ticks: Vec<u64> = row.split_whitespace().map_while(|field| field.parse().ok()).collect();
    // user nice system idle iowait irq softirq steal
    [0, 1, 2, 5, 6, 7].iter().filter_map(|at| ticks.get(*at)).sum::<u64>() * TICK_NS
}

/// When the machine started.
pub fn booted() -> Timestamp {
    let text = text("/proc/stat");
    let row = text.lines().find_map(|line| line.strip_prefix("btime "));
    let second = row.and_then(|second| second.trim().parse().ok()).unwrap_or(0);
    Timestamp::from_second(second).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// Tasks on the node, and how many there can be.
pub fn tasks() -> Option<(u64, u64)> {
    let load = text("/proc/loadavg");
    let running = load.split_whitespace().nth(3)?.split_once('/')?.1.parse().ok()?;
    Some((running, line("/proc/sys/kernel/pid_max").parse().ok()?))
}

fn text(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn line(path: &str) -> String {
    text(path).trim().to_owned()
}

/// A row of `/proc/meminfo`, in bytes.
fn meminfo(text: &str, row: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(row)?.strip_prefix(':'))?;
    let kilobytes: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kilobytes * 1024)
}

fn os_image(text: &str) -> String {
    let name = text.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    name.unwrap_or("Linux").trim_matches(['"', '\'']).to_owned()
}

fn hugepages(folder: &Path) -> BTreeMap<String, u64> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let pool = |entry: fs::DirEntry| {
        let name = entry.file_name().into_string().ok()?;
        let kilobytes: u64 = name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
        let count: u64 = fs::read_to_string(entry.path().join("nr_hugepages")).ok()?.trim().parse().ok()?;
        Some((page_size(kilobytes), count * kilobytes * 1024))
    };
    entries.filter_map(pool).collect()
}

fn page_size(kilobytes: u64) -> String {
    match kilobytes {
        k if k % (1 << 20) == 0 => format!("{}Gi", k >> 20),
        k if k % (1 << 10) == 0 => format!("{}Mi", k >> 10),
        k => format!("{k}Ki"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_the_kernel_are_understood() {
        assert_eq!(meminfo("MemTotal:  1024 kB\nMemFree: 1 kB\n", "MemTotal"), Some(1 << 20));
        assert_eq!(meminfo("", "MemTotal"), None);
        assert_eq!(used_cpu_ns("cpu  1 2 3 1000 1000 4 5 6 7 8\ncpu0 1\n"), 210_000_000);
        assert_eq!(os_image("NAME=x\nPRETTY_NAME=\"Debian GNU/Linux 12\"\n"), "Debian GNU/Linux 12");
        assert_eq!([page_size(2048), page_size(1 << 20), page_size(64)], ["2Mi", "1Gi", "64Ki"]);
    }
}
