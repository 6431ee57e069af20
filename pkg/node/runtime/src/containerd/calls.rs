//! `Calls`: what containerd is asked to do for one container: its snapshot, its record and its task. Each call stands
//! alone; `containers` puts them in order.

use std::collections::HashMap;
use std::path::PathBuf;

use containerd_client::services::v1 as api;
use containerd_client::services::v1::snapshots as snapshot_api;
use containerd_client::tonic::{Code, Status};
use containerd_client::types::Mount;
use jiff::Timestamp;
use prost_types::{Any, FieldMask};
use serde_json::Value;

use super::client::{Client, failed, found};
use super::images::SNAPSHOTTER;
use super::pipes::PipePaths;
use super::record::{EXTENSION, Record};
use super::{Config, runc, spec};
use crate::{ContainerId, Error, Resources, Result, Signal, Usage};

/// Marks edgek's containers and their snapshots among those of the namespace.
pub(super) const MANAGED: &str = "edgek.io/managed";

/// How containerd names the specification of a container.
pub(super) const SPEC_TYPE: &str = "types.containerd.io/opencontainers/runtime-spec/1/Spec";

const RESOURCES_TYPE: &str = "types.containerd.io/opencontainers/runtime-spec/1/LinuxResources";

/// What containerd is asked to do for one container.
pub(super) struct Calls {
    client: Client,
    config: Config,
}

impl Calls {
    pub(super) fn new(client: Client, config: Config) -> Self {
        Self { client, config }
    }

    /// A writable layer over the image; returns how to mount it.
    pub(super) async fn prepare_snapshot(&self, id: &ContainerId, parent: &str) -> Result<Vec<Mount>> {
        // A root of its own until the container refers to it, so that a collection in between spares it.
        let labels = HashMap::from([
            ("containerd.io/gc.root".to_owned(), Timestamp::now().to_string()),
            (MANAGED.to_owned(), "true".to_owned()),
        ]);
        let request = snapshot_api::PrepareSnapshotRequest {
            snapshotter: SNAPSHOTTER.to_owned(),
            key: id.to_string(),
            parent: parent.to_owned(),
            labels,
        };
        let prepared = self.client.snapshots().prepare(request).await;
        Ok(prepared.map_err(failed("prepare snapshot"))?.into_inner().mounts)
    }

    /// What the container uses of its writable layer.
    pub(super) async fn snapshot_usage(&self, id: &ContainerId) -> Result<Usage> {
        let request = snapshot_api::UsageRequest { snapshotter: SNAPSHOTTER.to_owned(), key: id.to_string() };
        let answer = self.client.snapshots().usage(request).await.map_err(failed("read snapshot usage"))?;
        let usage = answer.into_inner();
        Ok(Usage { bytes: usage.size.unsigned_abs(), inodes: usage.inodes.unsigned_abs() })
    }

    pub(super) async fn remove_snapshot(&self, id: &ContainerId) -> Result<()> {
        let request =
            snapshot_api::RemoveSnapshotRequest { snapshotter: SNAPSHOTTER.to_owned(), key: id.to_string() };
        found("remove snapshot", self.client.snapshots().remove(request).await).map(drop)
    }

    /// The record of the container: what survives it.
    pub(super) async fn store(&self, id: &ContainerId, record: &Record, oci: &Value) -> Result<()> {
        let label = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let container = api::Container {
            id: id.to_string(),
            labels: HashMap::from([
                label(MANAGED, "true"),
                label("io.kubernetes.pod.uid", &record.pod.uid),
                label("io.kubernetes.pod.namespace", &record.pod.namespace),
                label("io.kubernetes.pod.name", &record.pod.name),
                label("io.kubernetes.container.name", &record.name),
            ]),
            image: record.image.clone(),
            runtime: Some(runc::runtime(&self.config)),
            spec: Some(Any { type_url: SPEC_TYPE.to_owned(), value: oci.to_string().into_bytes() }),
            snapshotter: SNAPSHOTTER.to_owned(),
            snapshot_key: id.to_string(),
            extensions: HashMap::from([(EXTENSION.to_owned(), record.to_any())]),
            ..api::Container::default()
        };
        let request = api::CreateContainerRequest { container: Some(container) };
        self.client.containers().create(request).await.map(drop).map_err(failed("create container"))
    }

    /// Replaces what the record says beside the specification.
    pub(super) async fn update_record(&self, id: &ContainerId, record: &Record) -> Result<()> {
        let container = api::Container {
            id: id.to_string(),
            extensions: HashMap::from([(EXTENSION.to_owned(), record.to_any())]),
            ..api::Container::default()
        };
        let mask = FieldMask { paths: vec!["extensions".to_owned()] };
        let request = api::UpdateContainerRequest { container: Some(container), update_mask: Some(mask) };
        found("update container", self.client.containers().update(request).await).map(drop)
    }

    pub(super) async fn remove_record(&self, id: &ContainerId) -> Result<()> {
        let request = api::DeleteContainerRequest { id: id.to_string() };
        found("remove container", self.client.containers().delete(request).await).map(drop)
    }

    /// The `process` of the container's specification.
    pub(super) async fn process_spec(&self, id: &ContainerId) -> Result<Value> {
        let request = api::GetContainerRequest { id: id.to_string() };
        let answer = found("get container", self.client.containers().get(request).await)?;
        let stored = answer.and_then(|response| response.container).and_then(|container| container.spec);
        let spec: Option<Value> = stored.and_then(|any| serde_json::from_slice(&any.value).ok());
        Ok(spec.ok_or_else(|| Error::ContainerNotFound(id.clone()))?["process"].take())
    }

    /// The container's process, waiting to be started.
    pub(super) async fn create_task(&self, id: &ContainerId, tty: bool, pipes: &PipePaths) -> Result<()> {
        let key = snapshot_api::MountsRequest { snapshotter: SNAPSHOTTER.to_owned(), key: id.to_string() };
        let mounts =
            self.client.snapshots().mounts(key).await.map_err(failed("mount snapshot"))?.into_inner().mounts;
        let text =
            |path: Option<&PathBuf>| path.map(|p| p.to_string_lossy().into_owned()).unwrap_or_default();
        let request = api::CreateTaskRequest {
            container_id: id.to_string(),
            rootfs: mounts,
            stdin: text(pipes.stdin.as_ref()),
            stdout: text(Some(&pipes.stdout)),
            stderr: text(pipes.stderr.as_ref()),
            terminal: tty,
            options: Some(runc::options(&self.config)),
            ..api::CreateTaskRequest::default()
        };
        let mut created = self.client.tasks().create(request.clone()).await;
        if matches!(&created, Err(status) if status.code() == Code::AlreadyExists) {
            // An earlier start was cut short.
            self.delete_task(id).await?;
            created = self.client.tasks().create(request).await;
        }
        created.map(drop).map_err(not_started(id, "create"))
    }

    /// Lets the process run; returns its number.
    pub(super) async fn start_task(&self, id: &ContainerId) -> Result<u32> {
        let request = api::StartRequest { container_id: id.to_string(), exec_id: String::new() };
        let started = self.client.tasks().start(request).await;
        started.map(|response| response.into_inner().pid).map_err(not_started(id, "start"))
    }

    pub(super) async fn update_task(&self, id: &ContainerId, resources: &Resources) -> Result<()> {
        let value = spec::resources(resources).to_string().into_bytes();
        let request = api::UpdateTaskRequest {
            container_id: id.to_string(),
            resources: Some(Any { type_url: RESOURCES_TYPE.to_owned(), value }),
            ..api::UpdateTaskRequest::default()
        };
        let updated = self.client.tasks().update(request).await;
        let problem = |status: Status| status.message().to_owned();
        updated.map(drop).map_err(|status| Error::Container {
            step: "update",
            id: id.clone(),
            problem: problem(status),
        })
    }

    /// Signals the process; SIGKILL goes to all of the container's.
    pub(super) async fn kill(&self, id: &ContainerId, signal: Signal) -> Result<()> {
        let request = api::KillRequest {
            container_id: id.to_string(),
            exec_id: String::new(),
            signal: signal.0.unsigned_abs(),
            all: signal == Signal::KILL,
        };
        match self.client.tasks().kill(request).await {
            Err(status) if !matches!(status.code(), Code::NotFound | Code::FailedPrecondition) => {
                Err(failed("signal container")(status))
            }
            _ => Ok(()),
        }
    }

    /// Ends the shim's part of a container; tells how its process ended.
    pub(super) async fn delete_task(&self, id: &ContainerId) -> Result<Option<(u32, Timestamp)>> {
        let request = api::DeleteTaskRequest { container_id: id.to_string() };
        let answer = found("delete task", self.client.tasks().delete(request).await)?;
        Ok(answer.map(|exit| (exit.exit_status, timestamp(exit.exited_at.as_ref()))))
    }
}

/// Tells why a container's process does not run; without containerd it may still come to run.
fn not_started(id: &ContainerId, step: &'static str) -> impl Fn(Status) -> Error {
    move |status| match status.code() {
        Code::Unavailable => Error::Unavailable(status.message().to_owned()),
        _ => {
            let problem = format!("failed to {step} containerd task: {}", status.message());
            Error::Start { id: id.clone(), problem }
        }
    }
}

/// A protobuf time; now for none.
pub(super) fn timestamp(time: Option<&prost_types::Timestamp>) -> Timestamp {
    let read = time.and_then(|time| Timestamp::new(time.seconds, time.nanos).ok());
    read.filter(|time| time.as_second() > 0).unwrap_or_else(Timestamp::now)
}
