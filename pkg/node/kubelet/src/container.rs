//! Turns a container of a pod into the `ContainerSpec` the runtime makes it from. Pure; the starter gathers the inputs.

use std::collections::BTreeMap;

use edgek_node_runtime::{
    Capabilities, ContainerId, ContainerSpec, GroupsPolicy, Image, IpcNamespace, Log, Mount,
    NetworkNamespace, PidNamespace, PodRef, ProcMount, Seccomp, Security, Stdin,
};
use k8s_openapi::api::core::v1::{
    Container, Pod, PodSecurityContext, PodSpec, SeccompProfile, SecurityContext,
};

use crate::config::Config;
use crate::{dns, env, resources};

/// The label that tells which of a pod's containers a run is; adoption needs no more than the runtime's own record.
pub const GENERATION_LABEL: &str = "io.edgek.pod.generation";
/// Processes per container when nothing else limits them.
const ROOT: &str = "runAsNonRoot";

/// Why a container cannot be made (`CreateContainerConfigError`).
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    /// It must not run as root but would.
    #[error("container has {ROOT} and image will run as root (pod: \"{pod}\", container: {container})")]
    Root {
        /// `name_namespace(uid)`.
        pod: String,
        /// The container's name.
        container: String,
    },
    /// It must not run as root, and a user given by name could be.
    #[error(
        "container has {ROOT} and image has non-numeric user ({user}), cannot verify user is non-root (pod: \"{pod}\", container: {container})"
    )]
    NamedUser {
        /// The image's user.
        user: String,
        /// `name_namespace(uid)`.
        pod: String,
        /// The container's name.
        container: String,
    },
}

/// What a container is made from, besides its specification.
#[derive(Debug)]
pub struct Inputs<'a> {
    /// The node.
    pub config: &'a Config,
    /// Its pod.
    pub pod: &'a Pod,
    /// The container.
    pub container: &'a Container,
    /// How often it was started before.
    pub attempt: u32,
    /// The image, which is on the node.
    pub image: &'a Image,
    /// Its environment, in full.
    pub env: BTreeMap<String, String>,
    /// Its volumes.
    pub volumes: Vec<Mount>,
    /// Its network.
    pub network: NetworkNamespace,
    /// The container whose processes it sees, for an ephemeral container with a target.
    pub target: Option<ContainerId>,
    /// The node's memory, in bytes.
    pub memory_capacity: u64,
}

/// The runtime's specification of a container.
///
/// # Errors
/// See [`Error`].
pub fn spec(inputs: Inputs<'_>) -> Result<ContainerSpec, Error> {
    let (pod, container, config) = (inputs.pod, inputs.container, inputs.config);
    let default = PodSpec::default();
    let pod_spec = pod.spec.as_ref().unwrap_or(&default);
    verify_non_root(pod, container, inputs.image)?;
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let reference = PodRef {
        uid: text(&pod.metadata.uid),
        namespace: text(&pod.metadata.namespace),
        name: text(&pod.metadata.name),
    };
    let lookup = |name: &str| inputs.env.get(name).cloned();
    let expanded =
        |list: &Option<Vec<String>>| list.iter().flatten().map(|t| env::expand(t, lookup)).collect();
    let (command, args) = (expanded(&container.command), expanded(&container.args));
    let mut mounts = own_mounts(&inputs, pod_spec);
    mounts.extend(inputs.volumes);
    let image_name = container.image.clone().unwrap_or_default();
    let context = pod_spec.security_context.as_ref();
    Ok(ContainerSpec {
        attempt: inputs.attempt,
        labels: labels(pod),
        command,
        args,
        env: inputs.env.into_iter().collect(),
        working_dir: container.working_dir.clone().filter(|dir| !dir.is_empty()).map(Into::into),
        mounts,
        hostname: dns::hostname(pod, &config.cluster_domain).0,
        network: inputs.network,
        ipc: if pod_spec.host_ipc == Some(true) { IpcNamespace::Host } else { IpcNamespace::Pod },
        pid: pid_namespace(pod_spec, inputs.target),
        sysctls: context
            .iter()
            .flat_map(|c| c.sysctls.iter().flatten())
            .map(|sysctl| (sysctl.name.clone(), sysctl.value.clone()))
            .collect(),
        security: security(config, context, container.security_context.as_ref()),
        cgroup_parent: config.pod_cgroup(pod).to_string_lossy().into_owned(),
        resources: resources::of_container(container),
        oom_score_adj: resources::oom_score_adj(pod_spec, container, inputs.memory_capacity),
        tty: container.tty.unwrap_or(false),
        stdin: match (container.stdin, container.stdin_once) {
            (Some(true), Some(true)) => Stdin::Once,
            (Some(true), _) => Stdin::Open,
            _ => Stdin::Closed,
        },
        log: Some(Log {
            path: config.container_logs(pod, &container.name).join(format!("{}.log", inputs.attempt)),
        }),
        ..ContainerSpec::new(reference, &container.name, image_name)
    })
}

fn labels(pod: &Pod) -> BTreeMap<String, String> {
    let generation = pod.metadata.generation.unwrap_or(0).to_string();
    BTreeMap::from([(GENERATION_LABEL.to_owned(), generation)])
}

fn pid_namespace(spec: &PodSpec, target: Option<ContainerId>) -> PidNamespace {
    match target {
        _ if spec.host_pid == Some(true) => PidNamespace::Host,
        _ if spec.share_process_namespace == Some(true) => PidNamespace::Pod,
        Some(id) => PidNamespace::Target(id),
        None => PidNamespace::Container,
    }
}

/// The files the kubelet gives every container. Volumes of the user at the same place come instead.
fn own_mounts(inputs: &Inputs<'_>, spec: &PodSpec) -> Vec<Mount> {
    let (config, container) = (inputs.config, inputs.container);
    let uid = inputs.pod.metadata.uid.as_deref().unwrap_or_default();
    let message = container.termination_message_path.as_deref().unwrap_or("/dev/termination-log");
    let mut files =
        vec![(config.hosts_file(uid), "/etc/hosts"), (config.resolv_file(uid), "/etc/resolv.conf")];
    if spec.host_network != Some(true) {
        files.push((config.hostname_file(uid), "/etc/hostname"));
    }
    files.push((config.termination_message(uid, &container.name, inputs.attempt), message));
    let taken = |target: &str| inputs.volumes.iter().any(|mount| mount.target.as_os_str() == target);
    files.into_iter().filter(|(_, target)| !taken(target)).map(|(from, to)| Mount::bind(from, to)).collect()
}

fn security(
    config: &Config,
    pod: Option<&PodSecurityContext>,
    container: Option<&SecurityContext>,
) -> Security {
    let number = |id: Option<i64>| id.and_then(|id| u32::try_from(id).ok());
    let groups = pod
        .iter()
        .flat_map(|p| p.fs_group.into_iter().chain(p.supplemental_groups.iter().flatten().copied()));
    let changes = container.and_then(|c| c.capabilities.clone()).unwrap_or_default();
    let profile = container
        .and_then(|c| c.seccomp_profile.as_ref())
        .or_else(|| pod.and_then(|p| p.seccomp_profile.as_ref()));
    let privileged = container.and_then(|c| c.privileged).unwrap_or(false);
    Security {
        uid: number(container.and_then(|c| c.run_as_user).or_else(|| pod.and_then(|p| p.run_as_user))),
        gid: number(container.and_then(|c| c.run_as_group).or_else(|| pod.and_then(|p| p.run_as_group))),
        supplemental_groups: groups.filter_map(|group| number(Some(group))).collect(),
        groups_policy: match pod.and_then(|p| p.supplemental_groups_policy.as_deref()) {
            Some("Strict") => GroupsPolicy::Strict,
            _ => GroupsPolicy::Merge,
        },
        privileged,
        read_only_rootfs: container.and_then(|c| c.read_only_root_filesystem).unwrap_or(false),
        no_new_privileges: container.and_then(|c| c.allow_privilege_escalation) == Some(false),
        capabilities: Capabilities {
            add: changes.add.unwrap_or_default(),
            drop: changes.drop.unwrap_or_default(),
        },
        seccomp: seccomp(config, profile),
        proc_mount: match container.and_then(|c| c.proc_mount.as_deref()) {
            Some("Unmasked") => ProcMount::Unmasked,
            _ => ProcMount::Default,
        },
    }
}

fn seccomp(config: &Config, profile: Option<&SeccompProfile>) -> Seccomp {
    match profile.map(|p| (p.type_.as_str(), p.localhost_profile.as_deref())) {
        Some(("RuntimeDefault", _)) => Seccomp::RuntimeDefault,
        Some(("Localhost", Some(path))) => Seccomp::Localhost(config.root.join("seccomp").join(path)),
        _ => Seccomp::Unconfined,
    }
}

fn verify_non_root(pod: &Pod, container: &Container, image: &Image) -> Result<(), Error> {
    let of_pod = pod.spec.as_ref().and_then(|spec| spec.security_context.as_ref());
    let own = container.security_context.as_ref();
    let required = own.and_then(|c| c.run_as_non_root).or_else(|| of_pod.and_then(|p| p.run_as_non_root));
    if required != Some(true) {
        return Ok(());
    }
    let meta = &pod.metadata;
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let name = format!("{}_{}({})", text(&meta.name), text(&meta.namespace), text(&meta.uid));
    let root = || Error::Root { pod: name.clone(), container: container.name.clone() };
    let user = own.and_then(|c| c.run_as_user).or_else(|| of_pod.and_then(|p| p.run_as_user));
    if let Some(user) = user {
        return if user == 0 { Err(root()) } else { Ok(()) };
    }
    let user = image.user.split(':').next().unwrap_or_default();
    match user.parse::<u32>() {
        Ok(0) => Err(root()),
        Ok(_) => Ok(()),
        Err(_) if user.is_empty() => Err(root()),
        Err(_) => {
            Err(Error::NamedUser { user: user.to_owned(), pod: name, container: container.name.clone() })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;
    use serde_json::{Value, json};

    fn build(spec_json: &Value, user: &str) -> Result<ContainerSpec, Error> {
        let pod = sample::pod(spec_json);
        let config = sample::config(std::path::Path::new("/x"));
        let image = Image { user: user.to_owned(), ..sample::image() };
        spec(Inputs {
            config: &config,
            pod: &pod,
            container: &pod.spec.as_ref().unwrap().containers[0],
            attempt: 2,
            image: &image,
            env: BTreeMap::from([("A".to_owned(), "1".to_owned())]),
            volumes: vec![Mount::bind("/v", "/etc/hosts")],
            network: NetworkNamespace::Host,
            target: None,
            memory_capacity: 1 << 30,
        })
    }

    #[test]
    fn a_container_gets_its_files_limits_and_expanded_command() {
        let spec = json!({"containers": [{"name": "a", "image": "busybox", "command": ["echo", "$(A)", "$$(A)"],
            "resources": {"limits": {"memory": "1Mi"}}, "stdin": true, "securityContext": {"runAsUser": 5}}]});
        let made = build(&spec, "").unwrap();
        assert_eq!(made.command, ["echo", "1", "$(A)"]);
        assert_eq!(made.resources.memory_limit, Some(1 << 20));
        assert_eq!(made.cgroup_parent, "/kubepods/burstable/podu1");
        assert_eq!((made.stdin, made.security.uid), (Stdin::Open, Some(5)));
        let targets: Vec<_> = made.mounts.iter().map(|m| m.target.to_str().unwrap()).collect();
        assert_eq!(targets, ["/etc/resolv.conf", "/etc/hostname", "/dev/termination-log", "/etc/hosts"]);
        assert_eq!(made.log.unwrap().path, std::path::Path::new("/x/logs/default_web_u1/a/2.log"));
    }

    #[test]
    fn who_must_not_be_root_is_not() {
        let spec = |user: Value| json!({"securityContext": {"runAsNonRoot": true}, "containers": [{"name": "a", "securityContext": {"runAsUser": user}}]});
        let check = |user: Value, image: &str, allowed: bool| {
            assert_eq!(build(&spec(user), image).is_ok(), allowed);
        };
        check(json!(null), "", false);
        check(json!(null), "0:5", false);
        check(json!(null), "web", false);
        check(json!(null), "65532", true);
        check(json!(0), "65532", false);
        check(json!(1000), "", true);
    }
}
