//! `Scope`: a node of the task tree.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error};

/// A handle to a spawned task. Dropping it does not stop the task: its scope owns it.
#[derive(Debug)]
pub struct Task<T = ()>(tokio::task::JoinHandle<Option<T>>);

impl<T> Task<T> {
    /// Waits for the task and returns its value; `None` when it was cancelled with its scope or panicked.
    pub async fn join(self) -> Option<T> {
        self.0.await.ok().flatten()
    }

    /// Stops the task at its next await point.
    pub fn abort(&self) {
        self.0.abort();
    }

    /// Whether the task has ended.
    pub fn is_finished(&self) -> bool {
        self.0.is_finished()
    }
}

/// The names of the tasks that did not end within the grace period of [`Scope::close`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StillRunning(pub Vec<String>);

impl std::fmt::Display for StillRunning {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "tasks still running: {}", self.0.join(", "))
    }
}

impl std::error::Error for StillRunning {}

/// An owner of tasks. Clones share the same owner; children end when their parent ends.
#[derive(Debug, Clone)]
pub struct Scope {
    token: CancellationToken,
    tasks: Arc<Tasks>,
}

#[derive(Debug)]
struct Tasks {
    running: Mutex<Running>,
    changed: Notify,
    parent: Option<Arc<Tasks>>,
    /// Cancelled by the first panic anywhere in the tree; the process then ends (see `Scope::failed`).
    failed: CancellationToken,
}

#[derive(Debug, Default)]
struct Running {
    next_id: u64,
    names: BTreeMap<u64, Cow<'static, str>>,
}

impl Scope {
    /// The root of a process's (or a test's) task tree.
    pub fn root() -> Self {
        let tasks = Tasks {
            running: Mutex::default(),
            changed: Notify::new(),
            parent: None,
            failed: CancellationToken::new(),
        };
        Self { token: CancellationToken::new(), tasks: Arc::new(tasks) }
    }

    /// A scope that ends with this one and can be ended before it.
    pub fn child(&self) -> Self {
        let tasks = Tasks {
            running: Mutex::default(),
            changed: Notify::new(),
            parent: Some(self.tasks.clone()),
            failed: self.tasks.failed.clone(),
        };
        Self { token: self.token.child_token(), tasks: Arc::new(tasks) }
    }

    /// Runs `future` as a task owned by this scope. When the scope is cancelled the future is dropped at its next
    /// await point. A panic is logged with the task's name and fails the whole tree (see [`Self::failed`]).
    pub fn spawn<F>(&self, name: impl Into<Cow<'static, str>>, future: F) -> Task<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let token = self.token.clone();
        self.start(name.into(), async move { token.run_until_cancelled(future).await })
    }

    /// Like [`Self::spawn`], but the future is not dropped when the scope is cancelled: it watches
    /// [`Self::cancelled`] itself and cleans up before it returns.
    pub fn spawn_draining<F>(&self, name: impl Into<Cow<'static, str>>, future: F) -> Task<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.start(name.into(), async move { Some(future.await) })
    }

    #[expect(clippy::disallowed_methods, reason = "the one place that may spawn")]
    fn start<F, T>(&self, name: Cow<'static, str>, future: F) -> Task<T>
    where
        F: Future<Output = Option<T>> + Send + 'static,
        T: Send + 'static,
    {
        let entry = self.enter(name);
        Task(tokio::spawn(async move {
            let outcome = AssertUnwindSafe(future).catch_unwind().await;
            if outcome.is_err() {
                entry.panicked();
            }
            outcome.ok().flatten()
        }))
    }

    fn enter(&self, name: Cow<'static, str>) -> Entry {
        let mut ids = Vec::new();
        let mut owner = Some(&self.tasks);
        while let Some(tasks) = owner {
            let mut running = tasks.running.lock();
            running.next_id += 1;
            let id = running.next_id;
            running.names.insert(id, name.clone());
            drop(running);
            ids.push((tasks.clone(), id));
            owner = tasks.parent.as_ref();
        }
        Entry { name, ids }
    }

    /// Resolves when the scope is being closed.
    pub async fn cancelled(&self) {
        self.token.cancelled().await;
    }

    /// Whether the scope is being closed.
    pub fn is_cancelled(&self) -> bool {
        self.token.is_cancelled()
    }

    /// Asks every task of this scope and its children to end, without waiting.
    pub fn cancel(&self) {
        self.token.cancel();
    }

    /// Resolves when any task of the tree has panicked: the owner of the root ends the process.
    pub async fn failed(&self) {
        self.tasks.failed.cancelled().await;
    }

    /// Cancels the scope and waits until all tasks of it and of its children have ended.
    ///
    /// # Errors
    /// [`StillRunning`] names the tasks that had not ended after `grace`.
    pub async fn close(&self, grace: Duration) -> Result<(), StillRunning> {
        self.token.cancel();
        let idle = tokio::time::timeout(grace, self.idle()).await;
        idle.map_err(|_| StillRunning(self.running()))
    }

    /// Resolves when no task of this scope or its children is running.
    pub async fn idle(&self) {
        loop {
            let changed = self.tasks.changed.notified();
            if self.tasks.running.lock().names.is_empty() {
                return;
            }
            changed.await;
        }
    }

    /// The names of the running tasks of this scope and its children, for messages and the debug endpoint.
    pub fn running(&self) -> Vec<String> {
        self.tasks.running.lock().names.values().map(ToString::to_string).collect()
    }
}

/// A task's registration with its scope and all scopes above; leaves them on drop, however the task ended.
struct Entry {
    name: Cow<'static, str>,
    ids: Vec<(Arc<Tasks>, u64)>,
}

impl Entry {
    fn panicked(&self) {
        error!(task = %self.name, "task panicked");
        if let Some((tasks, _)) = self.ids.first() {
            tasks.failed.cancel();
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        debug!(task = %self.name, "task ended");
        for (tasks, id) in self.ids.drain(..) {
            let mut running = tasks.running.lock();
            running.names.remove(&id);
            if running.names.is_empty() {
                tasks.changed.notify_waiters();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn closing_a_scope_ends_its_tasks_and_those_of_its_children() {
        let root = Scope::root();
        let child = root.child();
        let task = child.spawn("waits", std::future::pending::<()>());
        assert_eq!(root.running(), ["waits"]);
        root.close(Duration::from_secs(5)).await.unwrap();
        assert_eq!(task.join().await, None);
        assert!(root.running().is_empty());
    }

    #[tokio::test]
    async fn closing_a_child_leaves_its_parent_running() {
        let root = Scope::root();
        let kept = root.spawn("kept", std::future::pending::<()>());
        let child = root.child();
        child.spawn("ended", std::future::pending::<()>());
        child.close(Duration::from_secs(5)).await.unwrap();
        assert_eq!(root.running(), ["kept"]);
        assert!(!kept.is_finished());
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_outlives_the_grace_period_is_named() {
        let root = Scope::root();
        root.spawn_draining("stubborn", std::future::pending::<()>());
        let error = root.close(Duration::from_secs(1)).await.unwrap_err();
        assert_eq!(error.to_string(), "tasks still running: stubborn");
    }

    #[tokio::test]
    async fn a_panic_fails_the_whole_tree() {
        let root = Scope::root();
        root.child().spawn("broken", async { panic!("on purpose") });
        root.failed().await;
    }
}
