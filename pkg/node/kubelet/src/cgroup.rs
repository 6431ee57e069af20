//! The cgroups of the node's pods: `kubepods`, its QoS classes, and one per pod, in v1 (hybrid) and v2.
//!
//! The kubelet makes the classes at start, the pod's task its pod's cgroup before the first container and removes it
//! after the last. Containers' own cgroups are the runtime's. What the kernel or the surrounding container does not
//! permit is said once and left out: pods then run without that limit.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use edgek_base_lifecycle::Backoff;
use edgek_node_runtime::Resources;
use k8s_openapi::api::core::v1::Pod;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tracing::warn;

use crate::resources;

/// The controllers whose limits are set here.
const CONTROLLERS: [&str; 3] = ["cpu", "memory", "pids"];
/// Controllers that containers below may need in v2.
const DELEGATED: [&str; 6] = ["cpuset", "cpu", "io", "memory", "hugetlb", "pids"];
/// The QoS classes below the cgroup of all pods; guaranteed pods are in that one itself.
const CLASSES: [&str; 3] = ["", "burstable", "besteffort"];
/// How long processes of a pod may take to vanish after they were killed.
const REMOVE_ATTEMPTS: u32 = 10;

/// The cgroups of this node's pods.
#[derive(Debug)]
pub struct Cgroups {
    root: PathBuf,
    /// The cgroup of all pods, from the root of each hierarchy, without a leading slash.
    pods: PathBuf,
    hierarchy: Hierarchy,
    refused: AtomicBool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hierarchy {
    /// One folder per controller below the root.
    V1,
    /// One tree.
    V2,
}

impl Cgroups {
    /// The cgroups below `root` (`/sys/fs/cgroup`), the pods' in `pods` (`/kubepods`).
    pub fn open(root: &Path, pods: &Path) -> Self {
        let unified = root.join("cgroup.controllers").exists();
        let hierarchy = if unified { Hierarchy::V2 } else { Hierarchy::V1 };
        let pods = pods.strip_prefix("/").unwrap_or(pods).to_owned();
        Self { root: root.to_owned(), pods, hierarchy, refused: AtomicBool::new(false) }
    }

    /// Makes the classes.
    pub fn start(&self, cpus: usize) {
        for class in CLASSES {
            self.make(&self.pods.join(class));
        }
        let shares = |shares| Resources { cpu_shares: Some(shares), ..Resources::default() };
        self.limit(&self.pods, &shares(cpus as u64 * 1024));
        self.limit(&self.pods.join("besteffort"), &shares(2));
    }

    /// Makes a pod's cgroup with the pod's limits; repeated, it sets them anew.
    pub fn ensure_pod(&self, pod: &Pod) {
        let path = self.pods.join(resources::pod_cgroup(pod));
        self.make(&path);
        if let Some(spec) = &pod.spec {
            self.limit(&path, &resources::of_pod(spec));
        }
    }

    /// Removes a pod's cgroup and all below it; processes that are still there are killed.
    ///
    /// # Errors
    /// When processes do not vanish.
    pub async fn remove_pod(&self, uid: &str) -> io::Result<()> {
        let mut backoff = Backoff::new(Duration::from_millis(5), Duration::from_millis(200));
        let mut last = Ok(());
        for _ in 0..REMOVE_ATTEMPTS {
            last = self.folders(uid).iter().try_for_each(|folder| remove(folder));
            if last.is_ok() {
                return Ok(());
            }
            self.folders(uid).iter().for_each(|folder| kill_all(folder));
            backoff.wait().await;
        }
        last
    }

    /// The CPU time that a pod has used, in nanoseconds, containers that have ended included.
    pub fn cpu_usage(&self, pod: &Pod) -> Option<u64> {
        let path = self.pods.join(resources::pod_cgroup(pod));
        match self.hierarchy {
            Hierarchy::V1 => {
                let file = self.root.join("cpuacct").join(path).join("cpuacct.usage");
                fs::read_to_string(file).ok()?.trim().parse().ok()
            }
            Hierarchy::V2 => {
                let text = fs::read_to_string(self.root.join(path).join("cpu.stat")).ok()?;
                let micros = text.lines().find_map(|line| line.strip_prefix("usage_usec "))?;
                micros.trim().parse::<u64>().ok()?.checked_mul(1000)
            }
        }
    }

    /// The uids of the pods that have a cgroup.
    pub fn pods(&self) -> Vec<String> {
        let mut uids = Vec::new();
        let trees = self.trees();
        for class in
            trees.iter().flat_map(|tree| CLASSES.iter().map(|class| tree.join(&self.pods).join(class)))
        {
            for entry in fs::read_dir(class).into_iter().flatten().flatten() {
                let name = entry.file_name().into_string().unwrap_or_default();
                uids.extend(name.strip_prefix("pod").map(str::to_owned));
            }
        }
        uids.sort();
        uids.dedup();
        uids
    }

    /// The folders of a pod in all hierarchies and classes that exist.
    fn folders(&self, uid: &str) -> Vec<PathBuf> {
        let trees = self.trees();
        let all = trees.iter().flat_map(|tree| {
            CLASSES.iter().map(|class| tree.join(&self.pods).join(class).join(format!("pod{uid}")))
        });
        all.filter(|folder| folder.exists()).collect()
    }

    /// The roots of all hierarchies.
    fn trees(&self) -> Vec<PathBuf> {
        if self.hierarchy == Hierarchy::V2 {
            return vec![self.root.clone()];
        }
        let entries = fs::read_dir(&self.root).into_iter().flatten().flatten();
        // Controllers that share a hierarchy are links to one folder.
        entries
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
            .map(|entry| entry.path())
            .collect()
    }

    fn make(&self, path: &Path) {
        match self.hierarchy {
            Hierarchy::V1 => {
                for controller in CONTROLLERS {
                    let folder = self.root.join(controller);
                    if folder.exists() {
                        self.note(&folder.join(path), fs::create_dir_all(folder.join(path)));
                    }
                }
            }
            Hierarchy::V2 => {
                let folder = self.root.join(path);
                self.note(&folder, fs::create_dir_all(&folder));
                // A controller works in a group when all groups above pass it on.
                let mut above = self.root.clone();
                for part in path {
                    for controller in DELEGATED {
                        // A kernel without the controller, and nothing else, refuses here.
                        let _ = fs::write(above.join("cgroup.subtree_control"), format!("+{controller}"));
                    }
                    above.push(part);
                }
                for controller in DELEGATED {
                    let _ = fs::write(above.join("cgroup.subtree_control"), format!("+{controller}"));
                }
            }
        }
    }

    fn limit(&self, path: &Path, limits: &Resources) {
        for (controller, file, value) in files(limits, self.hierarchy) {
            let folder = match self.hierarchy {
                Hierarchy::V1 => self.root.join(controller).join(path),
                Hierarchy::V2 => self.root.join(path),
            };
            if folder.exists() {
                let file = folder.join(file);
                self.note(&file, fs::write(&file, value));
            }
        }
    }

    /// Says once that something is not permitted.
    fn note(&self, path: &Path, result: io::Result<()>) {
        if let Err(error) = result
            && !self.refused.swap(true, Ordering::Relaxed)
        {
            warn!(path = %path.display(), %error, "cgroups cannot be limited here; pods run without these limits");
        }
    }
}

/// The files that hold these limits: controller, file, value.
fn files(limits: &Resources, hierarchy: Hierarchy) -> Vec<(&'static str, &'static str, String)> {
    let mut files = Vec::new();
    let period = limits.cpu_period_us.unwrap_or(100_000);
    match hierarchy {
        Hierarchy::V1 => {
            let mut add = |controller, file, value: Option<String>| {
                files.extend(value.map(|value| (controller, file, value)));
            };
            add("cpu", "cpu.shares", limits.cpu_shares.map(|v| v.to_string()));
            add("cpu", "cpu.cfs_period_us", limits.cpu_quota_us.map(|_| period.to_string()));
            add("cpu", "cpu.cfs_quota_us", limits.cpu_quota_us.map(|v| v.to_string()));
            add("memory", "memory.limit_in_bytes", limits.memory_limit.map(|v| v.to_string()));
            add("pids", "pids.max", limits.pids_limit.map(maximum));
        }
        Hierarchy::V2 => {
            let mut add = |controller, file, value: Option<String>| {
                files.extend(value.map(|value| (controller, file, value)));
            };
            add("cpu", "cpu.weight", limits.cpu_shares.map(|v| weight(v).to_string()));
            add("cpu", "cpu.max", limits.cpu_quota_us.map(|quota| format!("{} {period}", maximum(quota))));
            add("memory", "memory.max", limits.memory_limit.map(maximum));
            add("pids", "pids.max", limits.pids_limit.map(maximum));
        }
    }
    files
}

fn maximum(value: i64) -> String {
    if value < 0 { "max".to_owned() } else { value.to_string() }
}

/// `cpu.weight` (1 to 10000) for `cpu.shares` (2 to 262144), as upstream maps them.
fn weight(shares: u64) -> u64 {
    1 + (shares.clamp(2, 262_144) - 2) * 9999 / 262_142
}

/// Removes a cgroup and all below it.
fn remove(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove(&entry.path())?;
        }
    }
    match fs::remove_dir(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn kill_all(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            kill_all(&entry.path());
        }
    }
    let processes = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
    for pid in processes.lines().filter_map(|line| line.parse().ok()) {
        // It may have ended by itself.
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod() -> Pod {
        let limits = json!({"cpu": "500m", "memory": "64Mi"});
        serde_json::from_value(json!({"metadata": {"uid": "u"}, "spec": {"containers": [
            {"name": "c", "resources": {"limits": limits}}]}}))
        .unwrap()
    }

    #[test]
    fn shares_become_weights() {
        for (shares, expected) in [(2, 1), (1024, 39), (262_144, 10_000), (1, 1)] {
            assert_eq!(weight(shares), expected);
        }
    }

    #[tokio::test]
    async fn a_pod_has_its_limits_in_every_hierarchy_until_it_is_removed() {
        let read = |path: PathBuf| fs::read_to_string(path).unwrap_or_default();
        let folder = tempfile::tempdir().unwrap();
        for controller in ["cpu", "memory", "freezer"] {
            fs::create_dir(folder.path().join(controller)).unwrap();
        }
        let cgroups = Cgroups::open(folder.path(), Path::new("/kubepods"));
        cgroups.start(2);
        cgroups.ensure_pod(&pod());
        let of = |controller: &str| folder.path().join(controller).join("kubepods/podu");
        assert_eq!(read(of("cpu").join("cpu.cfs_quota_us")), "50000");
        assert_eq!(read(of("memory").join("memory.limit_in_bytes")), "67108864");
        assert_eq!(read(folder.path().join("cpu/kubepods/cpu.shares")), "2048");
        assert!(!folder.path().join("freezer/kubepods").exists());
        assert_eq!(cgroups.pods(), ["u"]);
        // The kernel's files vanish with their folder; these do not.
        for file in ["cpu/kubepods/podu", "memory/kubepods/podu"].map(|path| folder.path().join(path)) {
            fs::read_dir(file).unwrap().flatten().for_each(|entry| fs::remove_file(entry.path()).unwrap());
        }
        cgroups.remove_pod("u").await.unwrap();
        assert!(cgroups.pods().is_empty());

        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("cgroup.controllers"), "cpu memory pids").unwrap();
        let cgroups = Cgroups::open(folder.path(), Path::new("/kubepods"));
        cgroups.ensure_pod(&pod());
        assert_eq!(read(folder.path().join("kubepods/podu/cpu.max")), "50000 100000");
        assert_eq!(read(folder.path().join("kubepods/podu/memory.max")), "67108864");
    }
}
