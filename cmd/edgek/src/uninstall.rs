//! `edgek uninstall`: ends everything edgek runs on this machine and takes every trace of it away: processes, mounts,
//! interfaces, rules, cgroups, files.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::ArgMatches;
use edgek_base_config::Config;
use edgek_node_network::RoutedNetwork;
use nix::mount::{MntFlags, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::time::Instant;

use crate::exit::{Code, Failure};
use crate::{names, node, service, sources};

/// How long killed processes may take to go.
const PATIENCE: Duration = Duration::from_secs(20);
/// Where install.sh puts the program and its unit.
const PROGRAM: &str = "/usr/local/bin/edgek";
const UNIT: &str = "/etc/systemd/system/edgek.service";

pub(crate) fn run(flags: &ArgMatches) -> Result<(), Failure> {
    if !nix::unistd::geteuid().is_root() {
        return Err(Failure::new(Code::Environment, anyhow::anyhow!("not root; use sudo")));
    }
    let config = sources::config(flags)?;
    let installed = std::env::current_exe().is_ok_and(|program| program == Path::new(PROGRAM));
    if installed {
        stop_unit()?;
    }
    service::stop_quietly(&config)?;
    kill_processes(&config)?;
    unmount_below(&[&config.data_dir, &config.run_dir])?;
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        // No packets flow any more: their length does not matter.
        let network = node::network_config(&config, 0)?;
        RoutedNetwork::remove(&network).await.context("removing the pod network")?;
        edgek_node_proxy::remove(node::PROXY_TABLE).await.context("removing the rules of services")?;
        names::remove(&config).await
    })?;
    remove_cgroups(Path::new("/sys/fs/cgroup"), &node::pods_cgroup(&config));
    remove_files(&config, installed)?;
    Ok(())
}

fn stop_unit() -> Result<()> {
    if Path::new(UNIT).exists() {
        systemctl(&["disable", "--quiet", "--now", "edgek.service"])?;
        fs::remove_file(UNIT)?;
        systemctl(&["daemon-reload"])?;
        // A unit that has failed is remembered; one that has not is unknown now, which is not worth a message.
        let mut forget = Command::new("systemctl");
        forget.args(["reset-failed", "edgek.service"]).stderr(Stdio::null());
        forget.status().context("running systemctl")?;
    }
    Ok(())
}

fn systemctl(arguments: &[&str]) -> Result<()> {
    let status = Command::new("systemctl").args(arguments).status().context("running systemctl")?;
    if !status.success() {
        bail!("systemctl {} failed ({status})", arguments.join(" "));
    }
    Ok(())
}

/// A process as /proc shows it.
struct Process {
    pid: i32,
    parent: i32,
    command: String,
    program: PathBuf,
    /// Its cgroups, a line each.
    cgroups: String,
}

fn processes() -> Vec<Process> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| read_process(entry.file_name().to_str()?.parse().ok()?)).collect()
}

fn read_process(pid: i32) -> Option<Process> {
    let folder = PathBuf::from(format!("/proc/{pid}"));
    let stat = fs::read_to_string(folder.join("stat")).ok()?;
    // The name in parentheses may hold anything; the fields after it are fixed.
    let parent = stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()?;
    let command = fs::read(folder.join("cmdline")).ok()?;
    let command = String::from_utf8_lossy(&command).replace('\0', " ");
    let program = fs::read_link(folder.join("exe")).unwrap_or_default();
    let cgroups = fs::read_to_string(folder.join("cgroup")).unwrap_or_default();
    Some(Process { pid, parent, command, program, cgroups })
}

/// The processes that edgek has started with these folders, all that those have started, and those of its pods: what
/// runc was making when it was killed has no parent of ours any more.
fn ours(all: &[Process], config: &Config) -> BTreeSet<i32> {
    let programs = config.data_dir.join("bin");
    let sockets = config.run_dir.join("containerd");
    let sockets = sockets.to_string_lossy();
    let pods = pods(config);
    let starts = all.iter().filter(|process| {
        let started = process.program.starts_with(&programs) && process.command.contains(&*sockets);
        started || pods.iter().any(|uid| process.cgroups.contains(&format!("/pod{uid}/")))
    });
    let mut found: BTreeSet<i32> = starts.map(|process| process.pid).collect();
    let mut children: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
    for process in all {
        children.entry(process.parent).or_default().push(process.pid);
    }
    let mut open: Vec<i32> = found.iter().copied().collect();
    while let Some(pid) = open.pop() {
        for child in children.get(&pid).into_iter().flatten() {
            if found.insert(*child) {
                open.push(*child);
            }
        }
    }
    found
}

fn kill_processes(config: &Config) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    let mut told = BTreeSet::new();
    loop {
        let pids = ours(&processes(), config);
        // A container whose shim has ended is known no more, but keeps its cgroup until it has ended too.
        told.extend(&pids);
        told.retain(|pid| runs(*pid));
        if told.is_empty() {
            return Ok(());
        }
        if Instant::now() > deadline {
            bail!("processes {told:?} do not end; a reboot ends them");
        }
        for pid in pids {
            // It may have ended by itself.
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

/// Whether a process is there and more than a zombie, which holds nothing.
fn runs(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

/// Unmounts everything below these folders, the deepest first.
fn unmount_below(folders: &[&Path]) -> Result<()> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").context("reading the mounts")?;
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(4));
    let mut below: Vec<PathBuf> = points
        .map(|point| PathBuf::from(point.replace("\\040", " ")))
        .filter(|point| folders.iter().any(|folder| point.starts_with(folder)))
        .collect();
    below.sort();
    for point in below.iter().rev() {
        umount2(point, MntFlags::MNT_DETACH).with_context(|| format!("unmounting {}", point.display()))?;
    }
    Ok(())
}

/// Removes the pods' cgroups, in every hierarchy. Those of another node on this machine are busy and stay.
fn remove_cgroups(root: &Path, pods: &Path) {
    let pods = pods.strip_prefix("/").unwrap_or(pods);
    let mut roots = vec![root.join(pods)];
    let hierarchies = fs::read_dir(root).into_iter().flatten().flatten();
    roots.extend(hierarchies.map(|entry| entry.path().join(pods)));
    for folder in roots {
        remove_cgroup(&folder);
        // Made for the pods, unless it is the root; others may be in it.
        if pods.parent().is_some_and(|above| !above.as_os_str().is_empty()) {
            let _ = folder.parent().map(fs::remove_dir);
        }
    }
}

fn remove_cgroup(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_cgroup(&entry.path());
        }
    }
    // Busy, or never there.
    let _ = fs::remove_dir(folder);
}

fn remove_files(config: &Config, installed: bool) -> Result<()> {
    remove_pod_logs(config);
    let mut paths = vec![config.run_dir.clone(), config.data_dir.clone(), config.write_kubeconfig.clone()];
    if installed {
        paths
            .extend(["/etc/edgek", "/var/log/edgek.log", "/var/log/edgek.log.1", PROGRAM].map(PathBuf::from));
    }
    for path in paths {
        let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        match removed {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("removing {}", path.display()));
            }
            _ => {}
        }
    }
    Ok(())
}

/// The uids of this node's pods.
fn pods(config: &Config) -> Vec<String> {
    let pods = fs::read_dir(config.data_dir.join("agent/kubelet/pods")).into_iter().flatten().flatten();
    pods.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

/// The folders of logs carry the uids of their pods; those of other kubelets stay.
fn remove_pod_logs(config: &Config) {
    let uids = pods(config);
    for entry in fs::read_dir(&config.pod_logs_dir).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if uids.iter().any(|uid| name.ends_with(uid.as_str())) {
            // What is left over harms nobody.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
    // Only when it is empty.
    let _ = fs::remove_dir(&config.pod_logs_dir);
}
