//! Starts one container of a pod: image, environment, specification, process, postStart hook.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use edgek_base_lifecycle::Scope;
use edgek_node_runtime::{Container as Run, ContainerId, State};
use k8s_openapi::api::core::v1::{Container, Pod};

use crate::container::{Inputs, spec};
use crate::context::Context;
use crate::env::{self, Facts};
use crate::events::PodEvents;
use crate::plan::Start;
use crate::probe::check::{HOOK_LIMIT, Handler, Outcome, Target, run};
use crate::sandbox::{self, Sandbox};
use crate::view::Waiting;
use crate::volume::container_mounts;

/// When to try again what the node or its objects prevented.
const RETRY: Duration = Duration::from_secs(10);

/// What a start needs to know.
pub struct Starter {
    /// What pod tasks share.
    pub context: Arc<Context>,
    /// The pod.
    pub pod: Arc<Pod>,
    /// Its sandbox.
    pub sandbox: Sandbox,
    /// The container whose processes it sees, for an ephemeral one.
    pub target: Option<ContainerId>,
    /// Events about the pod.
    pub events: PodEvents,
    /// Cancelled when the pod is to end: nothing new begins then.
    pub scope: Scope,
    /// Tells that the container runs, before its hook.
    pub running: tokio::sync::mpsc::Sender<ContainerId>,
}

/// How a start went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Started {
    /// It runs and its hook has succeeded.
    Running(ContainerId),
    /// It runs, but its hook failed: it is to be killed.
    HookFailed(ContainerId),
    /// It was made but its process did not start; the runtime has it as exited.
    Exited,
    /// It waits.
    Waiting(Waiting, Duration),
    /// The pod ended meanwhile.
    Cancelled,
}

fn waiting(reason: &str, message: impl Into<String>) -> Started {
    Started::Waiting(Waiting::new(reason, message), RETRY)
}

impl Starter {
    /// Starts the container; `before` are its earlier runs, of which the last is kept.
    pub async fn start(&self, container: &Container, start: &Start, before: &[Run]) -> Started {
        let prepared = tokio::select! {
            prepared = self.prepare(container, start) => prepared,
            () = self.scope.cancelled() => return Started::Cancelled,
        };
        let spec = match prepared {
            Ok(spec) => spec,
            Err(started) => return started,
        };
        self.remove_old(start, before).await;
        let (name, runtime) = (&container.name, &self.context.runtime);
        if let Err(error) = runtime.create_container(&spec).await {
            self.events.container_warning(name, "Failed", format!("Error: {error}"));
            return waiting("CreateContainerError", error.to_string());
        }
        self.events.container_normal(name, "Created", "Container created");
        if let Err(error) = runtime.start_container(&spec.id).await {
            self.events.container_warning(name, "Failed", format!("Error: {error}"));
            return match error {
                edgek_node_runtime::Error::Start { .. } => Started::Exited,
                error => waiting("RunContainerError", error.to_string()),
            };
        }
        self.events.container_normal(name, "Started", "Container started");
        // The pod's task reads it or has ended.
        let _ = self.running.send(spec.id.clone()).await;
        self.hook(container, spec.id).await
    }

    async fn prepare(
        &self,
        container: &Container,
        start: &Start,
    ) -> Result<edgek_node_runtime::ContainerSpec, Started> {
        let (context, pod) = (&*self.context, &*self.pod);
        let image = context.images.ensure(pod, container, &self.events).await;
        let image = image.map_err(|missing| Started::Waiting(missing.waiting, missing.retry))?;
        let config_error = |message: String| {
            self.events.container_warning(&container.name, "Failed", format!("Error: {message}"));
            waiting("CreateContainerConfigError", message)
        };
        let pod_ips: Vec<String> = self.sandbox.ips.iter().map(ToString::to_string).collect();
        let host_ips: Vec<String> = context.config.node_ips.iter().map(ToString::to_string).collect();
        let facts = Facts {
            pod_ips: &pod_ips.iter().map(String::as_str).collect::<Vec<_>>(),
            host_ips: &host_ips.iter().map(String::as_str).collect::<Vec<_>>(),
            cpu_milli: context.allocatable.cpu_milli,
            memory_bytes: context.allocatable.memory,
            storage_bytes: context.allocatable.storage,
        };
        let env = env::resolve(&context.objects, pod, container, &facts).await;
        let env = env.map_err(|error| config_error(error.to_string()))?;
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        let volumes = container_mounts(container, &self.sandbox.volumes, &env);
        let volumes = volumes.map_err(|error| config_error(error.to_string()))?;
        let spec = spec(Inputs {
            config: &context.config,
            pod,
            container,
            attempt: start.attempt,
            image: &image,
            env,
            volumes,
            network: self.sandbox.network(),
            target: self.target.clone(),
            memory_capacity: context.memory,
        });
        let spec = spec.map_err(|error| config_error(error.to_string()))?;
        self.make_files(uid, container, start.attempt).map_err(|error| config_error(error.to_string()))?;
        Ok(spec)
    }

    fn make_files(&self, uid: &str, container: &Container, attempt: u32) -> Result<(), sandbox::Error> {
        let config = &self.context.config;
        sandbox::make_folder(&config.container_logs(&self.pod, &container.name))?;
        let message = config.termination_message(uid, &container.name, attempt);
        if let Some(folder) = message.parent() {
            sandbox::make_folder(folder)?;
        }
        sandbox::write(&message, "")?;
        // Any user of the container may write its last words.
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o666);
        std::fs::set_permissions(&message, mode).map_err(|source| sandbox::Error::File {
            action: "open to all",
            path: message.clone(),
            source,
        })
    }

    /// Removes runs before the last one, and one that was made but never started.
    async fn remove_old(&self, start: &Start, before: &[Run]) {
        let last = before.iter().filter(|run| run.state != State::Created).map(|run| run.attempt).max();
        for run in before {
            let keep =
                run.state != State::Created && Some(run.attempt) == last && run.attempt < start.attempt;
            if keep {
                continue;
            }
            match self.context.runtime.remove_container(&run.id).await {
                Ok(()) if run.attempt < start.attempt => {
                    if let Some(log) = &run.log {
                        remove_log(&log.path);
                    }
                }
                Ok(()) => {}
                Err(error) => tracing::warn!(container = %run.id, %error, "an old container is not removed"),
            }
        }
    }

    async fn hook(&self, container: &Container, id: ContainerId) -> Started {
        let hook = container.lifecycle.as_ref().and_then(|lifecycle| lifecycle.post_start.as_ref());
        let Some(hook) = hook else { return Started::Running(id) };
        let target = Target {
            runtime: &*self.context.runtime,
            id: &id,
            container,
            ip: self.context.probe_ip(&self.sandbox.ips),
            timeout: HOOK_LIMIT,
        };
        let handler = Handler::of_hook(hook);
        let outcome = tokio::select! {
            outcome = run(&handler, &target) => outcome,
            () = self.scope.cancelled() => return Started::Cancelled,
        };
        match outcome {
            Outcome::Success | Outcome::Warning(_) => Started::Running(id),
            Outcome::Failure(text) | Outcome::Unknown(text) => {
                tracing::warn!(container = container.name, text, "postStart hook failed");
                self.events.container_warning(&container.name, "FailedPostStartHook", "PostStartHook failed");
                Started::HookFailed(id)
            }
        }
    }
}

/// Removes a log with all that was rotated away from it. What is gone already is no loss.
fn remove_log(path: &Path) {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else { return };
    let rotated = format!("{}.", name.to_string_lossy());
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_name() == name || entry.file_name().to_string_lossy().starts_with(&rotated) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}
