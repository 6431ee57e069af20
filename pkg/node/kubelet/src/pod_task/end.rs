//! The end of a pod: containers, sandbox, files, and at last the object.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::future::join_all;
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::warn;

use super::{PodTask, container_of};
use crate::events::full_name;
use crate::report;
use crate::sandbox;
use crate::status::Ending;
use crate::view::is_sidecar;

impl PodTask {
    /// Ends the pod and everything of it, trying again until it is done.
    pub(super) async fn end(&mut self) {
        while let Err(problem) = self.try_to_end().await {
            warn!(pod = full_name(&self.pod), problem, "the end of the pod is tried again");
            self.trouble.wait().await;
        }
    }

    async fn try_to_end(&mut self) -> Result<(), String> {
        // Starts that are under way go on to where nothing is left half made.
        self.observe().await?;
        self.stop_all(self.grace()).await;
        self.observe().await?;
        let gone = self.updates.borrow().gone;
        self.ending = Ending::Over;
        if !gone {
            self.send_status().await?;
        }
        for run in &self.runs {
            self.context.runtime.remove_container(&run.id).await.map_err(|error| error.to_string())?;
        }
        let text = |error: sandbox::Error| error.to_string();
        sandbox::tear_down(&self.context, &self.uid).await.map_err(text)?;
        self.sandbox = None;
        self.context.volumes.unmount(&self.uid).await.map_err(|error| error.to_string())?;
        sandbox::remove_files(&self.context.config.pod_logs(&self.pod)).map_err(text)?;
        if !gone {
            report::delete(&self.context.client, &self.pod).await.map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    /// Ends all containers: the main ones together, then sidecars from the last to the first; hooks run all at once. A
    /// deletion that is asked
    /// for again with a shorter grace period shortens it.
    pub(super) async fn stop_all(&mut self, grace: Duration) {
        self.scope.cancel();
        while !self.busy.is_empty() {
            // The task holds a sender itself, so this is never the end.
            tokio::select! {
                Some((name, _)) = self.work.1.recv() => drop(self.busy.remove(&name)),
                Some(_) = self.running.1.recv() => {}
            }
        }
        self.probers.clear();
        self.waiting.clear();
        if let Err(problem) = self.observe_runs().await {
            warn!(pod = full_name(&self.pod), problem, "containers are not known");
        }
        let begun = Instant::now();
        let (sender, deadline) = watch::channel(begun + grace);
        let stopper = self.stopper(deadline);
        let sidecars: Vec<&str> = self
            .spec
            .init_containers
            .iter()
            .flatten()
            .filter(|container| is_sidecar(container))
            .map(|container| container.name.as_str())
            .collect();
        // The steps that are done: the main containers, then one sidecar after the other. A sidecar may end before its turn.
        let (step, steps) = watch::channel(BTreeSet::new());
        let stop = |name: &str, turn: usize| {
            let runs: Vec<_> =
                self.runs.iter().filter(|run| run.name == name && run.state.is_running()).cloned().collect();
            let (stopper, container) = (stopper.clone(), container_of(&self.spec, name).cloned());
            let message = format!("Stopping container {name}");
            let steps = steps.clone();
            async move {
                for run in runs {
                    let mut steps = steps.clone();
                    // The steps are counted as long as anything is stopped.
                    let turn = async move {
                        drop(steps.wait_for(|done| (0..turn).all(|before| done.contains(&before))).await)
                    };
                    stopper.stop(&run, container.as_ref(), &message, turn).await;
                }
            }
        };
        let names: BTreeSet<&str> = self.runs.iter().map(|run| run.name.as_str()).collect();
        let main = async {
            join_all(names.iter().filter(|name| !sidecars.contains(name)).map(|name| stop(name, 0))).await;
            step.send_if_modified(|done| done.insert(0_usize));
        };
        let beside = sidecars.iter().rev().zip(1..).map(|(name, turn)| {
            let (stopped, step) = (stop(name, turn), &step);
            async move {
                stopped.await;
                step.send_if_modified(|done| done.insert(turn));
            }
        });
        let all = async { drop(tokio::join!(main, join_all(beside))) };
        let mut updates = self.updates.clone();
        let shorten = async {
            while updates.changed().await.is_ok() {
                let seconds = updates.borrow_and_update().pod.metadata.deletion_grace_period_seconds;
                let Some(wanted) = seconds.and_then(|s| u64::try_from(s).ok()) else { continue };
                let at = begun + Duration::from_secs(wanted.max(1));
                sender.send_if_modified(|deadline| {
                    let sooner = at < *deadline;
                    *deadline = at.min(*deadline);
                    sooner
                });
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = all => {}
            () = shorten => {}
        }
        // Probes and starts of a pod that goes on need an owner again.
        self.scope = self.owner.child();
    }

    async fn observe_runs(&mut self) -> Result<(), String> {
        self.runs = self.context.runs(&self.uid).await.map_err(|error| error.to_string())?;
        Ok(())
    }
}
