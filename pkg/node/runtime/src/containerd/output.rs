//! `Hub`: one container's output on its way from the pipes to its log and to whoever is attached.

use std::sync::Arc;
use std::time::Duration;

use edgek_base_lifecycle::Scope;
use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};

use super::log::LogFile;
use super::pipes::Outputs;
use crate::Output;

/// Pieces an attached client may lag behind before the container's output waits for it.
const QUEUE: usize = 64;

/// How long a container's output waits for an attached client that does not read, before the client is detached.
const PATIENCE: Duration = Duration::from_secs(1);

/// The output of a running container.
#[derive(Debug)]
pub(super) struct Hub {
    attached: Mutex<Vec<mpsc::Sender<Output>>>,
    ended: watch::Sender<bool>,
}

impl Hub {
    /// Starts reading; ends when the container has closed its output.
    pub(super) fn start(scope: &Scope, outputs: Outputs, log: Option<LogFile>) -> Arc<Self> {
        let hub = Arc::new(Self { attached: Mutex::default(), ended: watch::Sender::new(false) });
        scope.spawn_draining("container output", pump(hub.clone(), scope.clone(), outputs, log));
        hub
    }

    /// A hub without output: of a container whose pipes are gone.
    pub(super) fn ended() -> Arc<Self> {
        Arc::new(Self { attached: Mutex::default(), ended: watch::Sender::new(true) })
    }

    /// The output from now on; ends with the container's.
    pub(super) fn attach(&self) -> mpsc::Receiver<Output> {
        let (sender, receiver) = mpsc::channel(QUEUE);
        if !*self.ended.borrow() {
            self.attached.lock().push(sender);
        }
        receiver
    }

    /// Resolves when all output has been read and written.
    pub(super) async fn wait_ended(&self) {
        // The sender lives in `self`.
        let _ = self.ended.subscribe().wait_for(|ended| *ended).await;
    }

    async fn send(&self, batch: &[Output]) {
        let attached = self.attached.lock().clone();
        for client in attached {
            for output in batch {
                let sent = tokio::time::timeout(PATIENCE, client.send(output.clone())).await;
                if !matches!(sent, Ok(Ok(()))) {
                    self.attached.lock().retain(|other| !other.same_channel(&client));
                    break;
                }
            }
        }
    }
}

async fn pump(hub: Arc<Hub>, scope: Scope, mut outputs: Outputs, mut log: Option<LogFile>) {
    loop {
        let batch = tokio::select! {
            batch = outputs.read() => batch,
            () = scope.cancelled() => None,
        };
        let Some(batch) = batch else { break };
        let written = batch.clone();
        log = with_log(log, move |log| log.append(&written, Timestamp::now())).await;
        hub.send(&batch).await;
    }
    with_log(log, |log| log.flush(Timestamp::now())).await;
    hub.attached.lock().clear();
    hub.ended.send_replace(true);
}

/// Writes on a thread that may wait for the disk.
async fn with_log(
    log: Option<LogFile>,
    write: impl FnOnce(&mut LogFile) + Send + 'static,
) -> Option<LogFile> {
    let mut log = log?;
    let written = tokio::task::spawn_blocking(move || {
        write(&mut log);
        log
    });
    written.await.ok()
}
