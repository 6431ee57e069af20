//! The holder of a shared PID namespace (`shareProcessNamespace`): a container of the pod that only reaps orphans.
//! The kubelet does not see it. Called by `containers`.

use std::path::Path;

use containerd_client::services::v1 as api;
use containerd_client::types::Mount;
use containerd_client::types::v1::Status;
use prost_types::Any;

use super::Config;
use super::calls::SPEC_TYPE;
use super::client::{Client, failed, found};

use super::host::Host;
use super::runc;
use super::spec::{self, ImageConfig, Joined};
use crate::{
    Capabilities, ContainerId, ContainerSpec, Error, Mount as SpecMount, PidNamespace, Result, Security, User,
};

/// The holder of a pod.
pub(super) struct Holder<'a> {
    pub(super) client: &'a Client,
    pub(super) config: &'a Config,
    pub(super) host: &'a Host,
}

impl Holder<'_> {
    /// The holder's process, started unless it runs. `dir` is the pod's own directory.
    pub(super) async fn ensure(&self, spec: &ContainerSpec, joined: &Joined, dir: &Path) -> Result<u32> {
        let id = id(&spec.pod.uid);
        let request = api::GetRequest { container_id: id.to_string(), exec_id: String::new() };
        let task =
            found("get task", self.client.tasks().get(request).await)?.and_then(|answer| answer.process);
        if let Some(task) = task.filter(|task| task.status() == Status::Running) {
            return Ok(task.pid);
        }
        remove(self.client, &spec.pod.uid).await?;
        self.create(&id, spec, joined, dir).await?;
        let request = api::StartRequest { container_id: id.to_string(), exec_id: String::new() };
        let started =
            self.client.tasks().start(request).await.map_err(failed("start PID namespace holder"))?;
        Ok(started.into_inner().pid)
    }

    async fn create(
        &self,
        id: &ContainerId,
        spec: &ContainerSpec,
        joined: &Joined,
        dir: &Path,
    ) -> Result<()> {
        let root = dir.join("root");
        std::fs::create_dir_all(&root).map_err(|source| Error::io("create", &root, source))?;
        let holder = self.spec(id, spec);
        let image = ImageConfig::default();
        let input =
            spec::Input { spec: &holder, image: &image, user: &User::default(), joined, host: self.host };
        let container = api::Container {
            id: id.to_string(),
            runtime: Some(runc::runtime(self.config)),
            spec: Some(Any {
                type_url: SPEC_TYPE.to_owned(),
                value: spec::build(&input)?.to_string().into_bytes(),
            }),
            ..api::Container::default()
        };
        let request = api::CreateContainerRequest { container: Some(container) };
        self.client.containers().create(request).await.map_err(failed("create PID namespace holder"))?;
        let rootfs = Mount {
            r#type: "bind".to_owned(),
            source: root.to_string_lossy().into_owned(),
            options: vec!["rbind".to_owned(), "rw".to_owned()],
            ..Mount::default()
        };
        let request = api::CreateTaskRequest {
            container_id: id.to_string(),
            rootfs: vec![rootfs],
            options: Some(runc::options(self.config)),
            ..api::CreateTaskRequest::default()
        };
        self.client.tasks().create(request).await.map(drop).map_err(failed("create PID namespace holder"))
    }

    /// A process without rights in the pod's namespaces.
    fn spec(&self, id: &ContainerId, pod: &ContainerSpec) -> ContainerSpec {
        let program = &self.config.holder;
        let path = format!("/{}", program.program.file_name().unwrap_or_default().to_string_lossy());
        let mut spec = ContainerSpec::new(pod.pod.clone(), "pause", "");
        spec.id = id.clone();
        spec.command = std::iter::once(path.clone()).chain(program.args.iter().cloned()).collect();
        spec.mounts = vec![SpecMount::bind(&program.program, path).read_only()];
        spec.network = pod.network.clone();
        spec.ipc = pod.ipc;
        spec.pid = PidNamespace::Container;
        spec.hostname.clone_from(&pod.hostname);
        spec.cgroup_parent.clone_from(&pod.cgroup_parent);
        let drop = vec!["ALL".to_owned()];
        let capabilities = Capabilities { add: Vec::new(), drop };
        spec.security = Security { no_new_privileges: true, capabilities, ..Security::default() };
        spec
    }
}

/// Ends the holder of a pod, if it has one.
pub(super) async fn remove(client: &Client, pod_uid: &str) -> Result<()> {
    let id = id(pod_uid);
    let request = api::GetContainerRequest { id: id.to_string() };
    if found("get PID namespace holder", client.containers().get(request).await)?.is_none() {
        return Ok(());
    }
    let (container_id, exec_id) = (id.to_string(), String::new());
    let kill = api::KillRequest { container_id: container_id.clone(), exec_id, signal: 9, all: true };
    if client.tasks().kill(kill).await.is_ok() {
        let wait = api::WaitRequest { container_id: container_id.clone(), exec_id: String::new() };
        found("wait for PID namespace holder", client.tasks().wait(wait).await)?;
    }
    let task = api::DeleteTaskRequest { container_id: container_id.clone() };
    found("delete PID namespace holder", client.tasks().delete(task).await)?;
    let container = api::DeleteContainerRequest { id: container_id };
    found("delete PID namespace holder", client.containers().delete(container).await).map(drop)
}

fn id(pod_uid: &str) -> ContainerId {
    ContainerId::from(format!("pause-{pod_uid}"))
}
