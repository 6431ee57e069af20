//! The OCI runtime specification of a container: what `ContainerSpec`, the image's config and the node give, turned
//! into `config.json`. Pure, except that seccomp profiles and device numbers are read from files.
//!
//! Defaults follow containerd's CRI plugin, so that a pod sees the same world as on an upstream node.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::host::Host;
use super::seccomp;
use crate::{
    ContainerSpec, Error, Mount, MountSource, NetworkNamespace, ProcMount, Propagation, Resources, Result,
    Security, User,
};

/// Groups the containers of a pod under one shim process.
const SHIM_GROUP: &str = "io.containerd.runc.v2.group";

const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

const DEFAULT_CAPABILITIES: [&str; 14] = [
    "CAP_AUDIT_WRITE",
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_MKNOD",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_RAW",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
];

const MASKED_PATHS: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

const READ_ONLY_PATHS: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// What of an image's config decides how its containers run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct ImageConfig {
    pub(super) user: String,
    #[serde(deserialize_with = "null_is_empty")]
    pub(super) env: Vec<String>,
    #[serde(deserialize_with = "null_is_empty")]
    pub(super) entrypoint: Vec<String>,
    #[serde(deserialize_with = "null_is_empty")]
    pub(super) cmd: Vec<String>,
    pub(super) working_dir: String,
    pub(super) stop_signal: String,
}

fn null_is_empty<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// The namespaces a container joins, as paths the runtime has prepared.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Joined {
    /// The IPC namespace; `None` for the host's.
    pub(super) ipc: Option<PathBuf>,
    /// The directory to bind to `/dev/shm`.
    pub(super) shm: PathBuf,
    /// The PID namespace.
    pub(super) pid: Pid,
}

/// The PID namespace a container gets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) enum Pid {
    #[default]
    New,
    Host,
    Path(PathBuf),
}

/// Everything `config.json` is made from.
pub(super) struct Input<'a> {
    pub(super) spec: &'a ContainerSpec,
    pub(super) image: &'a ImageConfig,
    pub(super) user: &'a User,
    pub(super) joined: &'a Joined,
    pub(super) host: &'a Host,
}

/// The whole `config.json`.
pub(super) fn build(input: &Input<'_>) -> Result<Value> {
    let Input { spec, .. } = input;
    let mut root = json!({
        "ociVersion": "1.2.0",
        "process": process(input)?,
        "root": {"path": "rootfs", "readonly": spec.security.read_only_rootfs},
        "mounts": mounts(input)?,
        "annotations": {SHIM_GROUP: spec.pod.uid},
        "linux": linux(input)?,
    });
    if spec.network != NetworkNamespace::Host {
        root["hostname"] = json!(spec.hostname);
    }
    Ok(root)
}

/// Where the container's cgroup is, from the root of each hierarchy.
pub(super) fn cgroup_path(spec: &ContainerSpec) -> String {
    format!("{}/{}", spec.cgroup_parent.trim_end_matches('/'), spec.id)
}

fn process(input: &Input<'_>) -> Result<Value> {
    let Input { spec, image, user, host, .. } = input;
    let capabilities = capabilities(&spec.security, host);
    let mut process = json!({
        "terminal": spec.tty,
        "user": {"uid": user.uid, "gid": user.gid, "additionalGids": user.groups},
        "args": args(spec, image)?,
        "env": env(spec, image, host),
        "cwd": working_dir(spec, image),
        "capabilities": {"bounding": capabilities, "effective": capabilities, "permitted": capabilities},
        "noNewPrivileges": spec.security.no_new_privileges,
        "oomScoreAdj": spec.oom_score_adj.max(host.min_oom_score_adj),
    });
    let rlimits: Vec<_> = spec
        .rlimits
        .iter()
        .map(|limit| json!({"type": limit.kind, "soft": limit.soft, "hard": limit.hard}))
        .collect();
    if !rlimits.is_empty() {
        process["rlimits"] = json!(rlimits);
    }
    Ok(process)
}

/// `command` replaces the image's entrypoint and command, `args` its command.
fn args(spec: &ContainerSpec, image: &ImageConfig) -> Result<Vec<String>> {
    let (command, args) = match (spec.command.is_empty(), spec.args.is_empty()) {
        (false, _) => (&spec.command, &spec.args),
        (true, false) => (&image.entrypoint, &spec.args),
        (true, true) => (&image.entrypoint, &image.cmd),
    };
    let all: Vec<String> = command.iter().chain(args).cloned().collect();
    if all.is_empty() { Err(Error::InvalidSpec("no command specified".to_owned())) } else { Ok(all) }
}

/// The image's environment, then `HOSTNAME` and `TERM`, then the spec's; the last of a name wins, in the first's place.
fn env(spec: &ContainerSpec, image: &ImageConfig, host: &Host) -> Vec<String> {
    let hostname = if spec.network == NetworkNamespace::Host { &host.name } else { &spec.hostname };
    let mut entries: Vec<String> = Vec::new();
    let mut places = BTreeMap::new();
    let own = [DEFAULT_PATH.to_owned(), format!("HOSTNAME={hostname}")];
    let term = spec.tty.then(|| "TERM=xterm".to_owned());
    let given = spec.env.iter().map(|(name, value)| format!("{name}={value}"));
    for entry in own.into_iter().chain(term).chain(image.env.iter().cloned()).chain(given) {
        let name = entry.split('=').next().unwrap_or_default().to_owned();
        match places.get(&name) {
            Some(&place) => entries[place] = entry,
            None => {
                places.insert(name, entries.len());
                entries.push(entry);
            }
        }
    }
    entries
}

fn working_dir<'a>(spec: &'a ContainerSpec, image: &'a ImageConfig) -> &'a Path {
    let image_dir = Path::new(&image.working_dir);
    match &spec.working_dir {
        Some(dir) => dir,
        None if image_dir.as_os_str().is_empty() => Path::new("/"),
        None => image_dir,
    }
}

/// The runtime's default set with the spec's changes; a privileged container gets all that this process may pass on.
fn capabilities(security: &Security, host: &Host) -> BTreeSet<String> {
    let full = |name: &String| {
        let name = name.to_ascii_uppercase();
        if name == "ALL" || name.starts_with("CAP_") { name } else { format!("CAP_{name}") }
    };
    let add: Vec<String> = security.capabilities.add.iter().map(full).collect();
    let drop: Vec<String> = security.capabilities.drop.iter().map(full).collect();
    let all = |names: &[String]| names.iter().any(|name| name == "ALL");
    if security.privileged {
        return host.capabilities.clone();
    }
    let mut set: BTreeSet<String> = match (all(&add), all(&drop)) {
        (true, _) => host.capabilities.clone(),
        (false, true) => BTreeSet::new(),
        (false, false) => DEFAULT_CAPABILITIES.iter().map(ToString::to_string).collect(),
    };
    set.extend(add.into_iter().filter(|name| name != "ALL"));
    set.retain(|name| host.capabilities.contains(name) && !drop.contains(name));
    set
}

fn linux(input: &Input<'_>) -> Result<Value> {
    let Input { spec, host, .. } = input;
    let security = &spec.security;
    let unmasked = security.privileged || security.proc_mount == ProcMount::Unmasked;
    let mut linux = json!({
        "cgroupsPath": cgroup_path(spec),
        "namespaces": namespaces(input),
        "resources": resources(&spec.resources),
        "sysctl": sysctls(spec),
        "devices": devices(input)?,
        "maskedPaths": if unmasked { &[][..] } else { &MASKED_PATHS[..] },
        "readonlyPaths": if unmasked { &[][..] } else { &READ_ONLY_PATHS[..] },
    });
    linux["resources"]["devices"] = device_rules(spec, &linux["devices"]);
    if !security.privileged
        && let Some(profile) = seccomp::profile(&security.seccomp, &capabilities(security, host))?
    {
        linux["seccomp"] = profile;
    }
    if let Some(propagation) = rootfs_propagation(&spec.mounts) {
        linux["rootfsPropagation"] = json!(propagation);
    }
    Ok(linux)
}

fn namespaces(input: &Input<'_>) -> Vec<Value> {
    let Input { spec, joined, host, .. } = input;
    let mut namespaces = vec![json!({"type": "mount"})];
    if let NetworkNamespace::Path(path) = &spec.network {
        namespaces.push(json!({"type": "network", "path": path}));
        namespaces.push(json!({"type": "uts"}));
    }
    if let Some(path) = &joined.ipc {
        namespaces.push(json!({"type": "ipc", "path": path}));
    }
    match &joined.pid {
        Pid::New => namespaces.push(json!({"type": "pid"})),
        Pid::Path(path) => namespaces.push(json!({"type": "pid", "path": path})),
        Pid::Host => {}
    }
    if host.unified_cgroup && !spec.security.privileged {
        namespaces.push(json!({"type": "cgroup"}));
    }
    namespaces
}

/// Unprivileged ports and ping work in a pod's own network unless the pod says otherwise.
fn sysctls(spec: &ContainerSpec) -> BTreeMap<String, String> {
    let mut sysctls = BTreeMap::new();
    if spec.network != NetworkNamespace::Host {
        sysctls.insert("net.ipv4.ip_unprivileged_port_start".to_owned(), "0".to_owned());
        sysctls.insert("net.ipv4.ping_group_range".to_owned(), "0 2147483647".to_owned());
    }
    sysctls.extend(spec.sysctls.clone());
    sysctls
}

/// The limits in the specification's form, also for updates.
pub(super) fn resources(resources: &Resources) -> Value {
    let some = |entries: &[(&str, Option<Value>)]| {
        let set = entries.iter().filter_map(|(name, value)| Some(((*name).to_owned(), value.clone()?)));
        Value::Object(set.collect::<Map<_, _>>())
    };
    let hugepages: Vec<_> = resources
        .hugepage_limits
        .iter()
        .map(|(size, limit)| json!({"pageSize": size, "limit": limit}))
        .collect();
    some(&[
        (
            "cpu",
            Some(some(&[
                ("shares", resources.cpu_shares.map(Value::from)),
                ("quota", resources.cpu_quota_us.map(Value::from)),
                ("period", resources.cpu_period_us.map(Value::from)),
                ("cpus", resources.cpuset_cpus.clone().map(Value::from)),
                ("mems", resources.cpuset_mems.clone().map(Value::from)),
            ])),
        ),
        (
            "memory",
            Some(some(&[
                ("limit", resources.memory_limit.map(Value::from)),
                ("swap", resources.memory_swap_limit.map(Value::from)),
            ])),
        ),
        ("pids", resources.pids_limit.map(|limit| json!({"limit": limit}))),
        ("hugepageLimits", (!hugepages.is_empty()).then(|| json!(hugepages))),
        ("unified", (!resources.unified.is_empty()).then(|| json!(resources.unified))),
    ])
}

fn devices(input: &Input<'_>) -> Result<Vec<Value>> {
    let Input { spec, host, .. } = input;
    let wanted = spec.devices.iter().map(|device| (device.host_path.clone(), device.container_path.clone()));
    let all: Vec<_> = if spec.security.privileged {
        wanted.chain(host.devices().into_iter().map(|path| (path.clone(), path))).collect()
    } else {
        wanted.collect()
    };
    all.into_iter().map(|(from, to)| host.device(&from, &to)).collect()
}

fn device_rules(spec: &ContainerSpec, devices: &Value) -> Value {
    if spec.security.privileged {
        return json!([{"allow": true, "access": "rwm"}]);
    }
    let mut rules = vec![json!({"allow": false, "access": "rwm"})];
    for (device, wanted) in devices.as_array().into_iter().flatten().zip(&spec.devices) {
        rules.push(json!({
            "allow": true,
            "type": device["type"],
            "major": device["major"],
            "minor": device["minor"],
            "access": wanted.permissions,
        }));
    }
    json!(rules)
}

/// The runtime's mounts, without those the spec replaces, then the spec's with parents before children.
fn mounts(input: &Input<'_>) -> Result<Vec<Value>> {
    let Input { spec, joined, host, .. } = input;
    let privileged = spec.security.privileged;
    let access = if privileged { "rw" } else { "ro" };
    let mount = |target: &str, kind: &str, source: &str, options: &[&str]| json!({"destination": target, "type": kind, "source": source, "options": options});
    let mut all = vec![
        mount("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
        mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        mount(
            "/dev/pts",
            "devpts",
            "devpts",
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        ),
        mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
        mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", access]),
        mount("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", access]),
        mount("/dev/shm", "bind", &joined.shm.to_string_lossy(), &["rbind", "rprivate", "rw"]),
    ];
    if joined.ipc.is_none() {
        // A process in the host's IPC namespace sees the host's queues, through the host's mount if there is one.
        all.retain(|m| m["destination"] != "/dev/mqueue");
        if host.has_mqueue {
            all.push(mount("/dev/mqueue", "bind", "/dev/mqueue", &["rbind", "rprivate", "rw"]));
        }
    }
    let replaced: BTreeSet<_> = spec.mounts.iter().map(|m| m.target.to_string_lossy().into_owned()).collect();
    all.retain(|m| m["destination"].as_str().is_none_or(|target| !replaced.contains(target)));
    let mut own: Vec<&Mount> = spec.mounts.iter().collect();
    own.sort_by_key(|m| m.target.components().count());
    for m in own {
        all.push(user_mount(m)?);
    }
    Ok(all)
}

fn user_mount(mount: &Mount) -> Result<Value> {
    if !mount.target.is_absolute() {
        return Err(Error::InvalidSpec(format!("mount path {} is not absolute", mount.target.display())));
    }
    let access = match (mount.read_only, mount.recursive_read_only) {
        (_, true) => "rro",
        (true, false) => "ro",
        (false, false) => "rw",
    };
    let value = match &mount.source {
        MountSource::Bind(source) => {
            let propagation = match mount.propagation {
                Propagation::Private => "rprivate",
                Propagation::HostToContainer => "rslave",
                Propagation::Bidirectional => "rshared",
            };
            let options = ["rbind", propagation, access];
            json!({"destination": mount.target, "type": "bind", "source": source, "options": options})
        }
        MountSource::Tmpfs(size) => {
            let mut options =
                vec!["nosuid".to_owned(), "nodev".to_owned(), "mode=1777".to_owned(), access.to_owned()];
            options.extend(size.map(|bytes| format!("size={bytes}")));
            json!({"destination": mount.target, "type": "tmpfs", "source": "tmpfs", "options": options})
        }
    };
    Ok(value)
}

fn rootfs_propagation(mounts: &[Mount]) -> Option<&'static str> {
    let has = |propagation| mounts.iter().any(|m| m.propagation == propagation);
    match (has(Propagation::Bidirectional), has(Propagation::HostToContainer)) {
        (true, _) => Some("rshared"),
        (false, true) => Some("rslave"),
        (false, false) => None,
    }
}

#[cfg(test)]
#[path = "spec/tests.rs"]
mod tests;
