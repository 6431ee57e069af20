//! Ends one container: preStop hook, SIGTERM, the grace period, SIGKILL.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use edgek_node_runtime::{Container as Run, Signal};
use k8s_openapi::api::core::v1::Container;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::context::Context;
use crate::events::PodEvents;
use crate::probe::check::{HOOK_LIMIT, Handler, Outcome, Target, run};

/// A container gets at least this long between the signal and SIGKILL, whatever is left of the grace period.
const LEAST: Duration = Duration::from_secs(2);

/// What the end of a container needs to know.
#[derive(Clone)]
pub struct Stopper {
    /// What pod tasks share.
    pub context: Arc<Context>,
    /// Events about the pod.
    pub events: PodEvents,
    /// The pod's address.
    pub ip: IpAddr,
    /// When it is killed; it may come closer.
    pub deadline: watch::Receiver<Instant>,
}

impl Stopper {
    /// Ends a running container; the text is for an event. Its hook runs at once, the signal waits for its `turn`.
    /// Returns once it has ended or cannot be reached.
    pub async fn stop(
        &self,
        run: &Run,
        container: Option<&Container>,
        why: &str,
        turn: impl Future<Output = ()>,
    ) {
        let runtime = &self.context.runtime;
        let mut events = runtime.events();
        if !self.is_running(run).await {
            return;
        }
        self.events.container_normal(&run.name, "Killing", why);
        let ended = async { while self.is_running(run).await && events.next().await.is_some() {} };
        let end = async {
            let hook = async {
                if let Some(container) = container {
                    self.pre_stop(run, container).await;
                }
                turn.await;
            };
            // A hook that hangs is left to itself at the deadline.
            tokio::select! {
                () = hook => {}
                () = self.reached() => {}
            }
            let signal = container.and_then(stop_signal).unwrap_or(run.stop_signal);
            self.send(run, signal).await;
            tokio::join!(self.reached(), edgek_base_lifecycle::sleep(LEAST));
            self.send(run, Signal::KILL).await;
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = ended => {}
            () = end => {}
        }
    }

    async fn is_running(&self, run: &Run) -> bool {
        self.context.runtime.container(&run.id).await.is_ok_and(|run| run.state.is_running())
    }

    async fn send(&self, run: &Run, signal: Signal) {
        if let Err(error) = self.context.runtime.signal_container(&run.id, signal).await {
            tracing::warn!(container = %run.id, %error, "signal {} not sent", signal.0);
        }
    }

    /// Resolves when the deadline is reached, wherever it has moved.
    async fn reached(&self) {
        let mut deadline = self.deadline.clone();
        loop {
            let at = *deadline.borrow_and_update();
            tokio::select! {
                () = edgek_base_lifecycle::sleep(at.saturating_duration_since(Instant::now())) => return,
                Ok(()) = deadline.changed() => {}
            }
        }
    }

    async fn pre_stop(&self, run_: &Run, container: &Container) {
        let hook = container.lifecycle.as_ref().and_then(|lifecycle| lifecycle.pre_stop.as_ref());
        let Some(hook) = hook else { return };
        let target = Target {
            runtime: &*self.context.runtime,
            id: &run_.id,
            container,
            ip: self.ip,
            timeout: HOOK_LIMIT,
        };
        if let Outcome::Failure(text) | Outcome::Unknown(text) = run(&Handler::of_hook(hook), &target).await {
            tracing::warn!(container = container.name, text, "preStop hook failed");
            self.events.container_warning(&container.name, "FailedPreStopHook", "PreStopHook failed");
        }
    }
}

/// The signal a container's specification asks for (`lifecycle.stopSignal`).
fn stop_signal(container: &Container) -> Option<Signal> {
    let name = container.lifecycle.as_ref()?.stop_signal.as_deref()?;
    name.parse::<nix::sys::signal::Signal>().ok().map(|signal| Signal(signal as i32))
}
