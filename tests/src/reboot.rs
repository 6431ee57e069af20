//! Cutting the power of a [`Host`]: what only memory held is gone, what was on disk is there.

use std::fs;
use std::path::PathBuf;

use nix::mount::{MntFlags, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::{Host, run};

impl Host {
    /// Cuts the power and switches it on again; nothing runs then.
    pub fn reboot(&mut self) {
        self.kill_server();
        self.eventually("all processes are dead", || {
            let pids = self.processes();
            for pid in &pids {
                // It may have ended with another.
                let _ = kill(Pid::from_raw(*pid), Signal::SIGKILL);
            }
            pids.is_empty()
        });
        for mount in self.mounts().into_iter().rev() {
            umount2(&mount, MntFlags::MNT_DETACH).expect("unmounting");
        }
        fs::remove_dir_all(self.run_dir()).expect("the run directory");
        run("ip", &["netns", "del", &self.namespace]);
        self.boot();
        self.connect();
    }

    /// What runs in the machine's cgroups, and what names its folder: containerd and the shims.
    fn processes(&self) -> Vec<i32> {
        let folder = self.folder.path().as_os_str().as_encoded_bytes();
        let (cgroup, own) = (format!(":/{}/", self.namespace), std::process::id().cast_signed());
        let is_ours = |pid: &i32| {
            let read = |name: &str| fs::read(format!("/proc/{pid}/{name}")).unwrap_or_default();
            let cgroups = String::from_utf8_lossy(&read("cgroup")).into_owned();
            cgroups.contains(&cgroup) || read("cmdline").windows(folder.len()).any(|part| part == folder)
        };
        let entries = fs::read_dir("/proc").expect("/proc");
        let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        pids.filter(|pid| *pid != own).filter(is_ours).collect()
    }

    /// What is mounted below the machine's folder, in the order of its mounting.
    pub fn mounts(&self) -> Vec<PathBuf> {
        let mounts = fs::read_to_string("/proc/self/mounts").expect("/proc/self/mounts");
        let points = mounts.lines().filter_map(|line| line.split(' ').nth(1));
        points.map(PathBuf::from).filter(|point| point.starts_with(self.folder.path())).collect()
    }
}
