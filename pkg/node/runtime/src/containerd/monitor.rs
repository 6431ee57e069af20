//! Keeps the table of containers true: adopts what runs when edgek starts, and hears of every container that ends,
//! also of those that ended while edgek or containerd was away.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use containerd_client::events::TaskExit;
use containerd_client::services::v1 as api;
use containerd_client::services::v1::snapshots as snapshot_api;
use containerd_client::tonic::{Code, Streaming};
use containerd_client::types::Envelope;
use containerd_client::types::v1::{Process, Status};
use edgek_base_lifecycle::Backoff;
use jiff::Timestamp;
use prost::Message as _;
use prost_types::Any;
use tokio::sync::watch;
use tracing::{debug, info, warn};

use super::calls::{MANAGED, timestamp};
use super::client::{NAMESPACE, failed};
use super::containers::{Containers, Entry};
use super::images::SNAPSHOTTER;
use super::record::{EXTENSION, Record};
use crate::{ContainerId, Error, Result};

/// A process in a container has ended.
const EXIT: &str = "/tasks/exit";

/// An event of our own: hearing it shows that the subscription is in place.
const HELLO: &str = "/edgek/hello";

const HELLO_EVERY: Duration = Duration::from_millis(20);

/// Runs until the scope ends. `ready` becomes true once the table has been filled, and false while containerd is away.
pub(super) async fn run(containers: Arc<Containers>, ready: watch::Sender<bool>) {
    let mut backoff = Backoff::new(Duration::from_millis(10), Duration::from_secs(2));
    let mut adopted = false;
    loop {
        match connect(&containers, adopted).await {
            Ok(mut events) => {
                adopted = true;
                backoff.reset();
                info!(containers = containers.list().len(), "connected to containerd");
                ready.send_replace(true);
                containers.notify_resync();
                listen(&containers, &mut events).await;
                warn!("connection to containerd lost");
            }
            Err(error @ Error::Unavailable(_)) => debug!(%error, "waiting for containerd"),
            Err(error) => warn!(%error, "cannot work with containerd"),
        }
        ready.send_replace(false);
        backoff.wait().await;
    }
}

async fn connect(containers: &Arc<Containers>, adopted: bool) -> Result<Streaming<Envelope>> {
    let events = subscribe(containers).await?;
    if !adopted {
        create_namespace(containers).await?;
        adopt_all(containers).await?;
    }
    end_stopped(containers).await?;
    Ok(events)
}

/// Subscribes to the ends of processes, and returns when it is certain that none will be missed from now on.
async fn subscribe(containers: &Containers) -> Result<Streaming<Envelope>> {
    let filters = [EXIT, HELLO].map(|topic| format!("topic==\"{topic}\"")).to_vec();
    let mut client = containers.client.events();
    let subscribe = client.subscribe(api::SubscribeRequest { filters });
    // containerd answers with the first event, not before.
    let hello = async {
        loop {
            let event = Any { type_url: "google.protobuf.Empty".to_owned(), value: Vec::new() };
            let request = api::PublishRequest { topic: HELLO.to_owned(), event: Some(event) };
            if let Err(status) = containers.client.events().publish(request).await {
                return failed("publish event")(status);
            }
            edgek_base_lifecycle::sleep(HELLO_EVERY).await;
        }
    };
    tokio::select! {
        answer = subscribe => Ok(answer.map_err(failed("subscribe to events"))?.into_inner()),
        error = hello => Err(error),
    }
}

async fn listen(containers: &Arc<Containers>, events: &mut Streaming<Envelope>) {
    while let Ok(Some(envelope)) = events.message().await {
        let exit = envelope.event.filter(|_| envelope.topic == EXIT);
        let Some(exit) = exit.and_then(|any| TaskExit::decode(any.value.as_slice()).ok()) else { continue };
        // Commands run by exec are waited for by their sessions.
        if exit.id == exit.container_id
            && let Some(entry) = containers.find(&ContainerId::from(exit.container_id))
        {
            finish(containers, entry, (exit.exit_status, timestamp(exit.exited_at.as_ref())));
        }
    }
}

/// Makes the namespace known before anything is in it: containerd's garbage collection closes the streams of imports
/// into a namespace it does not know.
async fn create_namespace(containers: &Containers) -> Result<()> {
    let namespace = api::Namespace { name: NAMESPACE.to_owned(), ..api::Namespace::default() };
    let request = api::CreateNamespaceRequest { namespace: Some(namespace) };
    match containers.client.namespaces().create(request).await {
        Err(status) if status.code() != Code::AlreadyExists => Err(failed("create namespace")(status)),
        _ => Ok(()),
    }
}

/// Takes over the containers of an earlier edgek, at start only: later ones are all our own.
async fn adopt_all(containers: &Containers) -> Result<()> {
    let filters = vec![format!("labels.\"{MANAGED}\"==true")];
    let listed = containers.client.containers().list(api::ListContainersRequest { filters }).await;
    let listed = listed.map_err(failed("list containers"))?.into_inner().containers;
    let tasks = tasks(containers).await?;
    for container in &listed {
        if let Some(record) = container.extensions.get(EXTENSION).and_then(Record::from_any) {
            let id = ContainerId::from(container.id.as_str());
            let task = tasks.get(&container.id).filter(|task| task.status() != Status::Created);
            let state = containers.state_of(&id, &record, task.map(|task| task.pid));
            containers.adopt(id, record, state);
        }
    }
    let known: HashSet<_> = listed.into_iter().map(|container| container.id).collect();
    containers.remove_unknown_pipes(&known);
    remove_orphaned_snapshots(containers, &known).await
}

/// Records the ends that nobody has heard of.
async fn end_stopped(containers: &Arc<Containers>) -> Result<()> {
    // The table first: what is in it had a task before the tasks are listed.
    let entries = containers.entries();
    let tasks = tasks(containers).await?;
    let ended = entries.into_iter().filter_map(|entry| {
        let task = tasks.get(entry.id.as_str());
        let exit = task.map(|task| (task.exit_status, timestamp(task.exited_at.as_ref())));
        let stopped = task.is_none_or(|task| task.status() == Status::Stopped);
        (stopped && entry.state.borrow().is_running()).then_some((entry.clone(), exit))
    });
    let ends = ended.map(|(entry, exit)| async move { containers.finish(&entry, exit).await });
    futures::future::try_join_all(ends.collect::<Vec<_>>()).await.map(drop)
}

async fn tasks(containers: &Containers) -> Result<BTreeMap<String, Process>> {
    let listed = containers.client.tasks().list(api::ListTasksRequest { filter: String::new() }).await;
    let tasks = listed.map_err(failed("list tasks"))?.into_inner().tasks;
    Ok(tasks.into_iter().map(|task| (task.id.clone(), task)).collect())
}

fn finish(containers: &Arc<Containers>, entry: Arc<Entry>, exit: (u32, Timestamp)) {
    let owner = containers.clone();
    containers.scope.spawn("container exit", async move {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(30));
        loop {
            match owner.finish(&entry, Some(exit)).await {
                // The next connection to containerd finds it again.
                Ok(()) | Err(Error::Unavailable(_)) => return,
                Err(error) => warn!(container = %entry.id, %error, "cannot record the container's end"),
            }
            backoff.wait().await;
        }
    });
}

/// Snapshots of containers whose creation was cut short.
async fn remove_orphaned_snapshots(containers: &Containers, known: &HashSet<String>) -> Result<()> {
    let request = snapshot_api::ListSnapshotsRequest {
        snapshotter: SNAPSHOTTER.to_owned(),
        filters: vec![format!("labels.\"{MANAGED}\"==true")],
    };
    let listed = containers.client.snapshots().list(request).await;
    let mut parts = listed.map_err(failed("list snapshots"))?.into_inner();
    let mut orphans = Vec::new();
    while let Some(part) = parts.message().await.map_err(failed("list snapshots"))? {
        orphans.extend(part.info.into_iter().map(|info| info.name).filter(|name| !known.contains(name)));
    }
    for name in orphans {
        containers.calls.remove_snapshot(&ContainerId::from(name)).await?;
    }
    Ok(())
}
