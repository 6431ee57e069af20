//! `edgek check`: whether this machine can run edgek, one line a question.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;

use clap::ArgMatches;
use edgek_base_config::{Component, Config};
use nix::sys::statvfs::statvfs;

use crate::exit::{Code, Failure};
use crate::sources;

/// The oldest kernel whose overlayfs, nftables and cgroups do all that is asked of them.
const KERNEL: (u32, u32) = (4, 19);
/// What the bundle, images and the datastore need at least.
const DISK: u64 = 512 << 20;

/// The answer to one question.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Finding {
    Ok(String),
    Warn(String),
    Fail(String),
}

use Finding::{Fail, Ok as Good, Warn};

pub(crate) fn run(flags: &ArgMatches) -> Result<(), Failure> {
    let config = sources::config(flags)?;
    let findings = findings(&config);
    for (question, finding) in &findings {
        print(question, finding);
    }
    if findings.iter().any(|(_, finding)| matches!(finding, Fail(_))) {
        return Err(Failure::new(
            Code::Environment,
            anyhow::anyhow!("this machine cannot run edgek as it is"),
        ));
    }
    Ok(())
}

#[expect(clippy::print_stdout, reason = "the answer to whoever typed the command")]
fn print(question: &str, finding: &Finding) {
    let (mark, text) = match finding {
        Good(text) => ("ok  ", text),
        Warn(text) => ("warn", text),
        Fail(text) => ("fail", text),
    };
    println!("{mark}  {question}: {text}");
}

fn findings(config: &Config) -> Vec<(&'static str, Finding)> {
    let filesystems = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    let mut findings = vec![
        ("user", user()),
        ("kernel", kernel(&fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default())),
        ("cgroups", cgroups(&fs::read_to_string("/proc/mounts").unwrap_or_default())),
        ("overlayfs", filesystem(&filesystems, "overlay", Path::new("/lib/modules"))),
        ("data directory", disk(&config.data_dir)),
        ("clock", clock()),
        ("default route", default_route(&fs::read_to_string("/proc/net/route").unwrap_or_default())),
    ];
    if !config.disable.contains(&Component::Node) {
        findings.push(("pod network", pod_network()));
        findings.push(("firewall", firewall(&config.cluster_cidr.to_string())));
    }
    // An agent serves no API.
    if config.server.is_none() {
        let address = SocketAddr::new(config.bind_address, config.https_listen_port);
        findings.push(("API port", port(address)));
    }
    findings
}

fn user() -> Finding {
    if nix::unistd::geteuid().is_root() {
        Good("root".to_owned())
    } else {
        Fail("not root; use sudo".to_owned())
    }
}

fn kernel(release: &str) -> Finding {
    let release = release.trim();
    let mut parts = release.split(['.', '-']).map(|part| part.parse().unwrap_or(0));
    let version = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    if version >= KERNEL {
        return Good(release.to_owned());
    }
    Warn(format!("{release} is older than {}.{}; some pods may not start", KERNEL.0, KERNEL.1))
}

/// Whether the kernel has what pods and Services need.
fn pod_network() -> Finding {
    let missing = ask(|| {
        // What is made to find out goes with the namespace.
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET)?;
        Ok(runtime()?.block_on(edgek_node_network::features::missing())?)
    });
    match missing {
        Ok(missing) if missing.is_empty() => Good("the kernel has what it needs".to_owned()),
        Ok(missing) => Fail(format!("the kernel lacks CONFIG_{}", missing.join(", CONFIG_"))),
        Err(error) => Fail(format!("{error:#}")),
    }
}

/// Whether a firewall may drop what pods say to each other.
fn firewall(pods: &str) -> Finding {
    match ask(|| Ok(runtime()?.block_on(edgek_node_network::firewall::forwarding_dropped())?)) {
        Ok(chains) if chains.is_empty() => Good("forwards what pods say".to_owned()),
        Ok(chains) => {
            let rules: Vec<String> = chains
                .iter()
                .flat_map(|chain| {
                    ["saddr", "daddr"].map(|of| format!("`nft insert rule {chain} ip {of} {pods} accept`"))
                })
                .collect();
            Warn(format!("drops what no rule accepts; pods need {}", rules.join(" and ")))
        }
        Err(error) => Warn(format!("{error:#}")),
    }
}

/// Asks the kernel from a thread of its own.
fn ask<T: Send + 'static>(
    question: impl FnOnce() -> anyhow::Result<T> + Send + 'static,
) -> anyhow::Result<T> {
    let asked = std::thread::Builder::new().name("check".into()).spawn(question)?;
    asked.join().map_err(|_| anyhow::anyhow!("the kernel could not be asked"))?
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

fn cgroups(mounts: &str) -> Finding {
    let kind = |line: &str| line.split(' ').nth(2).map(str::to_owned);
    let options = |line: &str| line.split(' ').nth(3).unwrap_or_default().to_owned();
    let v1: Vec<String> =
        mounts.lines().filter(|l| kind(l).as_deref() == Some("cgroup")).map(options).collect();
    let has = |controller: &str| v1.iter().any(|options| options.split(',').any(|o| o == controller));
    if v1.is_empty() {
        let v2 = mounts.lines().any(|line| kind(line).as_deref() == Some("cgroup2"));
        return if v2 { v2_controllers() } else { Fail("no cgroup file system is mounted".to_owned()) };
    }
    let missing: Vec<&str> = ["cpu", "memory", "pids"].into_iter().filter(|c| !has(c)).collect();
    if missing.is_empty() { Good("v1".to_owned()) } else { missing_controllers(&missing) }
}

fn v2_controllers() -> Finding {
    let there = fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap_or_default();
    let missing: Vec<&str> = ["cpu", "memory", "pids"]
        .into_iter()
        .filter(|c| !there.split_whitespace().any(|t| t == *c))
        .collect();
    if missing.is_empty() { Good("v2".to_owned()) } else { missing_controllers(&missing) }
}

fn missing_controllers(missing: &[&str]) -> Finding {
    let hint = "on a Raspberry Pi, add cgroup_memory=1 cgroup_enable=memory to the kernel's command line";
    Fail(format!("controllers missing: {}; {hint}", missing.join(", ")))
}

fn filesystem(filesystems: &str, name: &str, modules: &Path) -> Finding {
    if filesystems.lines().any(|line| line.split_whitespace().last() == Some(name)) {
        return Good("available".to_owned());
    }
    if modules.exists() {
        return Warn(format!("{name} is not loaded; the kernel loads it on demand if it has the module"));
    }
    Fail(format!("the kernel has no {name}"))
}

fn disk(data_dir: &Path) -> Finding {
    let there = data_dir.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    let Ok(stat) = statvfs(there) else { return Fail(format!("{} cannot be read", there.display())) };
    if stat.flags().contains(nix::sys::statvfs::FsFlags::ST_RDONLY) {
        return Fail(format!("{} is read-only; choose another --data-dir", there.display()));
    }
    let free = stat.blocks_available() * stat.fragment_size();
    let text = format!("{} MiB free in {}", free >> 20, there.display());
    if free < DISK { Fail(format!("{text}; {} MiB are needed", DISK >> 20)) } else { Good(text) }
}

fn clock() -> Finding {
    if edgek_base_pki::clock::is_wrong() {
        return Warn("shows a time before this release was made; set it, or start a time service".to_owned());
    }
    Good("plausible".to_owned())
}

fn default_route(routes: &str) -> Finding {
    if routes.lines().skip(1).any(|line| line.split_whitespace().nth(1) == Some("00000000")) {
        return Good("present".to_owned());
    }
    Warn("none; pods run, but reach only this machine, and images must be imported".to_owned())
}

fn port(address: SocketAddr) -> Finding {
    match TcpListener::bind(address) {
        Ok(_) => Good(format!("{address} is free")),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => Warn(format!(
            "{address} is in use; fine if that is edgek itself, else choose another --https-listen-port"
        )),
        Err(error) => Fail(format!("{address}: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_is_judged_by_what_its_files_say() {
        assert_eq!(kernel("6.18.44-x\n"), Good("6.18.44-x".into()));
        assert!(matches!(kernel("3.10.0-1160"), Warn(_)));
        let v1 = "cgroup /a cgroup rw,cpu 0 0\ncgroup /b cgroup rw,memory 0 0\n";
        assert!(matches!(cgroups(v1), Fail(text) if text.contains("controllers missing: pids")));
        assert_eq!(cgroups(&format!("{v1}cgroup /c cgroup rw,pids 0 0\n")), Good("v1".into()));
        assert_eq!(filesystem("nodev\toverlay\n", "overlay", Path::new("/none")), Good("available".into()));
        assert!(matches!(filesystem("ext4\n", "overlay", Path::new("/none")), Fail(_)));
        assert!(matches!(default_route("Iface Destination\neth0 0000A8C0 0\n"), Warn(_)));
    }
}
