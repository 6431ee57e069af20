//! What is left of pods that ended while no kubelet ran: containers, networks, cgroups and folders without a pod.
//! Containers of pods that are still there are adopted by their tasks, which find them by the pod's uid.

use std::collections::BTreeSet;
use std::time::Duration;

use edgek_base_lifecycle::Backoff;
use edgek_node_runtime::{Container as Run, ContainerId, Signal};
use tracing::{info, warn};

use crate::context::Context;
use crate::sandbox;

/// How long containers without a pod get to end.
const GRACE: Duration = Duration::from_secs(30);

/// What is left of a pod that is no more.
#[derive(Debug, Default)]
pub(super) struct Orphan {
    uid: String,
    runs: Vec<Run>,
}

/// All that is left of pods other than `known`.
pub(super) async fn orphans(
    context: &Context,
    known: &BTreeSet<String>,
) -> edgek_node_runtime::Result<Vec<Orphan>> {
    let runs = context.runtime.containers().await?;
    let folders = std::fs::read_dir(context.config.root.join("pods")).into_iter().flatten().flatten();
    let folders = folders.filter_map(|entry| entry.file_name().into_string().ok());
    let mut uids: BTreeSet<String> = runs.iter().map(|run| run.pod.uid.clone()).collect();
    uids.extend(context.network.pods());
    uids.extend(context.cgroups.pods());
    uids.extend(folders);
    let orphan = |uid: &String| Orphan {
        uid: uid.clone(),
        runs: runs.iter().filter(|run| run.pod.uid == *uid).cloned().collect(),
    };
    Ok(uids.difference(known).map(orphan).collect())
}

/// Takes it away, trying again until it is gone.
pub(super) async fn end(context: &Context, orphan: Orphan) {
    info!(uid = orphan.uid, containers = orphan.runs.len(), "what is left of a pod is removed");
    let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));
    while let Err(problem) = try_to_end(context, &orphan).await {
        warn!(uid = orphan.uid, problem, "removing what is left of a pod is tried again");
        backoff.wait().await;
    }
}

async fn try_to_end(context: &Context, orphan: &Orphan) -> Result<(), String> {
    for run in orphan.runs.iter().filter(|run| run.state.is_running()) {
        let signal = context.runtime.signal_container(&run.id, run.stop_signal);
        signal.await.map_err(|error| error.to_string())?;
    }
    let all = futures::future::join_all(orphan.runs.iter().map(|run| ended(context, &run.id)));
    if tokio::time::timeout(GRACE, all).await.is_err() {
        for run in &orphan.runs {
            let kill = context.runtime.signal_container(&run.id, Signal::KILL);
            kill.await.map_err(|error| error.to_string())?;
        }
    }
    for run in &orphan.runs {
        context.runtime.remove_container(&run.id).await.map_err(|error| error.to_string())?;
        if let Some(log) = run.log.as_ref().and_then(|log| log.path.parent()).and_then(|dir| dir.parent()) {
            sandbox::remove_files(log).map_err(|error| error.to_string())?;
        }
    }
    sandbox::tear_down(context, &orphan.uid).await.map_err(|error| error.to_string())?;
    context.volumes.unmount(&orphan.uid).await.map_err(|error| error.to_string())
}

async fn ended(context: &Context, id: &ContainerId) {
    let mut events = context.runtime.events();
    while context.runtime.container(id).await.is_ok_and(|run| run.state.is_running()) {
        if events.next().await.is_none() {
            return;
        }
    }
}
