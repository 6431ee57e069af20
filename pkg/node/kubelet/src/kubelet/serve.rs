//! What the kubelet's HTTP API is told about the pods of this node.

use std::path::PathBuf;

use async_trait::async_trait;
use edgek_node_runtime::{Container as Run, ContainerId, State};
use k8s_openapi::api::core::v1::{Container, Pod};
use serde_json::{Value, json};

use super::Kubelet;
use crate::record::Record;
use crate::server::{ContainerInfo, NotHere, Pods};
use crate::stats;
use crate::view::ephemeral_containers;

#[async_trait]
impl Pods for Kubelet {
    fn container(&self, namespace: &str, pod: &str, container: &str) -> Result<ContainerInfo, NotHere> {
        let record = self.record(namespace, pod)?;
        let runs = runs_of(&record, pod, container)?;
        let started = runs.iter().rev().find(|run| run.state != State::Created);
        started.map(|run| self.info(&record.pod, run)).ok_or_else(|| {
            let reason = waiting_reason(&record.pod, container);
            NotHere::bad_request(match reason.as_str() {
                "ImagePullBackOff" => {
                    format!("container {container:?} in pod {pod:?} is waiting to start: trying and failing to pull image")
                }
                "ErrImagePull" => {
                    format!("container {container:?} in pod {pod:?} is waiting to start: image can't be pulled")
                }
                reason => format!("container {container:?} in pod {pod:?} is waiting to start: {reason}"),
            })
        })
    }

    fn previous(&self, namespace: &str, pod: &str, container: &str) -> Result<ContainerInfo, NotHere> {
        let record = self.record(namespace, pod)?;
        let runs = runs_of(&record, pod, container)?;
        let mut ended = runs.iter().rev().filter(|run| run.state.is_exited());
        // In the back-off after a crash the last run is the previous one.
        let waits = waiting_reason(&record.pod, container) == "CrashLoopBackOff";
        let newest = runs.last().filter(|_| !waits).map(|run| run.id.clone());
        let found = ended.find(|run| Some(&run.id) != newest.as_ref());
        found.map(|run| self.info(&record.pod, run)).ok_or_else(|| {
            NotHere::bad_request(format!(
                "previous terminated container {container:?} in pod {pod:?} not found"
            ))
        })
    }

    fn netns(&self, namespace: &str, pod: &str) -> Result<Option<PathBuf>, NotHere> {
        let sandbox = self.record(namespace, pod)?.sandbox;
        let missing =
            || NotHere::bad_request(format!("pod {pod:?} in namespace {namespace:?} has no network"));
        sandbox.map(|sandbox| sandbox.netns).ok_or_else(missing)
    }

    fn is_running(&self, id: &ContainerId) -> bool {
        let records = self.records.all();
        records.iter().flat_map(|record| &record.runs).any(|run| run.id == *id && run.state.is_running())
    }

    fn pod_list(&self) -> Value {
        let pods: Vec<_> = self.records.all().into_iter().map(|record| record.pod).collect();
        json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": pods})
    }

    async fn summary(&self) -> Value {
        stats::summary::summary(&self.stats.now().await)
    }

    async fn resource_metrics(&self) -> String {
        stats::metrics::resource(&self.stats.now().await)
    }
}

impl Kubelet {
    fn record(&self, namespace: &str, pod: &str) -> Result<Record, NotHere> {
        let missing = || NotHere::not_found(format!("pod \"{pod}_{namespace}\" not found"));
        self.records.find(namespace, pod).ok_or_else(missing)
    }

    fn info(&self, pod: &Pod, run: &Run) -> ContainerInfo {
        let log = run.log.as_ref().map(|log| log.path.clone());
        let path = || self.context.config.container_logs(pod, &run.name).join(format!("{}.log", run.attempt));
        let tty =
            containers(pod).into_iter().find(|c| c.name == run.name).and_then(|c| c.tty).unwrap_or(false);
        ContainerInfo { id: run.id.clone(), log: log.unwrap_or_else(path), tty }
    }
}

/// The pod's containers of all kinds.
fn containers(pod: &Pod) -> Vec<Container> {
    let Some(spec) = &pod.spec else { return Vec::new() };
    let mut all = ephemeral_containers(spec);
    all.extend(spec.init_containers.iter().flatten().chain(&spec.containers).cloned());
    all
}

/// The runs of a container from the first to the last.
fn runs_of(record: &Record, pod: &str, container: &str) -> Result<Vec<Run>, NotHere> {
    if !containers(&record.pod).iter().any(|c| c.name == container) {
        return Err(NotHere::bad_request(format!("container {container} is not valid for pod {pod}")));
    }
    let mut runs: Vec<Run> = record.runs.iter().filter(|run| run.name == container).cloned().collect();
    runs.sort_by_key(|run| (run.attempt, run.created_at));
    Ok(runs)
}

/// Why a container waits, as its status says.
fn waiting_reason(pod: &Pod, container: &str) -> String {
    let status = pod.status.iter();
    let all = status.flat_map(|s| {
        let lists = s.init_container_statuses.iter().chain(&s.container_statuses);
        lists.chain(&s.ephemeral_container_statuses).flatten()
    });
    let waiting =
        all.filter(|status| status.name == container).find_map(|s| s.state.as_ref()?.waiting.clone());
    waiting.and_then(|waiting| waiting.reason).unwrap_or_else(|| "ContainerCreating".to_owned())
}
