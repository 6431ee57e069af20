//! `Images`: makes sure that a container's image is on the node, by its pull policy, with back-off and the pod's pull
//! secrets. The rules and texts are those of upstream's image manager.

pub mod credentials;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use edgek_node_runtime::{Credentials, Image, Reference, Runtime};
use k8s_openapi::api::core::v1::{Container, Pod};
use parking_lot::Mutex;
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;

use crate::events::PodEvents;
use crate::objects::Objects;
use crate::view::Waiting;

/// Pulls at the same time: more only make each slower on a small node.
const PARALLEL_PULLS: usize = 3;
/// The first delay after a failed pull.
const FIRST_DELAY: Duration = Duration::from_secs(10);
/// The longest.
const LAST_DELAY: Duration = Duration::from_secs(300);
/// How long `ErrImagePull` shows before the container goes over to `ImagePullBackOff`.
const SHOW_ERROR: Duration = Duration::from_secs(2);
/// Failures that are remembered.
const REMEMBERED: usize = 1024;

/// Why a container's image is not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// What the container's status shows.
    pub waiting: Waiting,
    /// When to ask again.
    pub retry: Duration,
}

/// Brings images to the node.
pub struct Images {
    runtime: Arc<dyn Runtime>,
    objects: Objects,
    /// Whether the archives on the node are imported; so are they when nobody can say any more.
    imported: watch::Receiver<bool>,
    pulls: Semaphore,
    failures: Mutex<HashMap<(String, String), Failure>>,
}

#[derive(Debug, Clone)]
struct Failure {
    delay: Duration,
    at: Instant,
    message: String,
}

/// `imagePullPolicy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Policy {
    Always,
    IfNotPresent,
    Never,
}

impl Images {
    /// Over this runtime, with pull secrets from these objects. An image that is missing is waited for until the
    /// archives are imported.
    pub fn new(runtime: Arc<dyn Runtime>, objects: Objects, imported: watch::Receiver<bool>) -> Self {
        Self { runtime, objects, imported, pulls: Semaphore::new(PARALLEL_PULLS), failures: Mutex::default() }
    }

    /// The image of a container, pulled if its policy asks for it.
    ///
    /// # Errors
    /// What the container's status shows, and when to ask again.
    pub async fn ensure(
        &self,
        pod: &Pod,
        container: &Container,
        events: &PodEvents,
    ) -> Result<Image, Missing> {
        let found = self.find_or_pull(pod, container, events).await;
        if let Err(missing) = &found {
            let message = format!("Error: {}", missing.waiting.reason);
            events.container_warning(&container.name, "Failed", message);
        }
        found
    }

    async fn find_or_pull(
        &self,
        pod: &Pod,
        container: &Container,
        events: &PodEvents,
    ) -> Result<Image, Missing> {
        let wanted = container.image.as_deref().unwrap_or_default();
        let name = &container.name;
        let reference = Reference::parse(wanted).map_err(|error| {
            let message = format!("Failed to apply default image tag {wanted:?}: {error}");
            events.container_warning(name, "InspectFailed", &*message);
            missing("InvalidImageName", message, LAST_DELAY)
        })?;
        let policy = policy(container);
        if policy != Policy::Always {
            let found = self.find(wanted).await.map_err(|error| {
                let message = format!("Failed to inspect image {wanted:?}: {error}");
                events.container_warning(name, "InspectFailed", &*message);
                missing("ImageInspectError", message, FIRST_DELAY)
            })?;
            if let Some(image) = found {
                let message = format!(
                    "Container image {wanted:?} already present on machine and can be accessed by the pod"
                );
                events.container_normal(name, "Pulled", message);
                return Ok(image);
            }
        }
        if policy == Policy::Never {
            let message = format!("Container image {wanted:?} is not present with pull policy of Never");
            events.container_warning(name, "ErrImageNeverPull", &*message);
            return Err(missing("ErrImageNeverPull", message, FIRST_DELAY));
        }
        self.pull_unless_backing_off(pod, container, &reference, events).await
    }

    /// An image on the node. Without a network, asking a registry for one that is about to be imported takes a minute.
    async fn find(&self, wanted: &str) -> Result<Option<Image>, edgek_node_runtime::Error> {
        if let Some(image) = self.runtime.image(wanted).await? {
            return Ok(Some(image));
        }
        let mut imported = self.imported.clone();
        if *imported.borrow() {
            return Ok(None);
        }
        // An error says that nothing imports any more.
        let _ = imported.wait_for(|imported| *imported).await;
        self.runtime.image(wanted).await
    }

    async fn pull_unless_backing_off(
        &self,
        pod: &Pod,
        container: &Container,
        reference: &Reference,
        events: &PodEvents,
    ) -> Result<Image, Missing> {
        let wanted = container.image.as_deref().unwrap_or_default();
        let key = (pod.metadata.uid.clone().unwrap_or_default(), wanted.to_owned());
        let failure = self.failures.lock().get(&key).cloned();
        if let Some(failure) = &failure
            && let Some(left) = failure.delay.checked_sub(failure.at.elapsed()).filter(|left| !left.is_zero())
        {
            let message = format!("Back-off pulling image {wanted:?}");
            events.container_normal(&container.name, "BackOff", &*message);
            let message = format!("{message}: {}", failure.message);
            return Err(missing("ImagePullBackOff", message, left));
        }
        events.container_normal(&container.name, "Pulling", format!("Pulling image {wanted:?}"));
        let asked = Instant::now();
        match self.pull(pod, wanted, reference).await {
            Ok((image, took)) => {
                self.failures.lock().remove(&key);
                let message = format!(
                    "Successfully pulled image {wanted:?} in {} ({} including waiting). Image size: {} bytes.",
                    go_millis(took),
                    go_millis(asked.elapsed()),
                    image.size
                );
                events.container_normal(&container.name, "Pulled", message);
                Ok(image)
            }
            Err(error) => {
                let message = format!("Failed to pull image {wanted:?}: {error}");
                events.container_warning(&container.name, "Failed", message);
                let message = error.to_string();
                self.note_failure(key, format!("ErrImagePull: {message}"));
                Err(missing("ErrImagePull", message, SHOW_ERROR))
            }
        }
    }

    fn note_failure(&self, key: (String, String), message: String) {
        let mut failures = self.failures.lock();
        if failures.len() >= REMEMBERED {
            failures.retain(|_, failure| failure.at.elapsed() < LAST_DELAY * 2);
        }
        let before = failures.get(&key).filter(|failure| failure.at.elapsed() < LAST_DELAY * 2);
        let delay = before.map_or(FIRST_DELAY, |failure| (failure.delay * 2).min(LAST_DELAY));
        failures.insert(key, Failure { delay, at: Instant::now(), message });
    }

    /// Tries the pull secrets that fit one after the other, and without any when none does.
    async fn pull(
        &self,
        pod: &Pod,
        wanted: &str,
        reference: &Reference,
    ) -> Result<(Image, Duration), edgek_node_runtime::Error> {
        let mut credentials: Vec<Option<Credentials>> =
            self.credentials(pod, reference).await.into_iter().map(Some).collect();
        if credentials.is_empty() {
            credentials.push(None);
        }
        let _permit = self.pulls.acquire().await;
        let started = Instant::now();
        let mut last = None;
        for credential in &credentials {
            match self.runtime.pull_image(wanted, credential.as_ref()).await {
                Ok(image) => return Ok((image, started.elapsed())),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| edgek_node_runtime::Error::ImageNotFound(wanted.to_owned())))
    }

    async fn credentials(&self, pod: &Pod, reference: &Reference) -> Vec<Credentials> {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let names = pod.spec.iter().flat_map(|spec| spec.image_pull_secrets.iter().flatten());
        let mut secrets = Vec::new();
        for name in names.map(|secret| &secret.name).filter(|name| !name.is_empty()) {
            match self.objects.secret(namespace, name).await {
                Ok(Some(secret)) => secrets.push(secret),
                Ok(None) => tracing::warn!(namespace, secret = %name, "pull secret not found"),
                Err(error) => tracing::warn!(namespace, secret = %name, %error, "pull secret not readable"),
            }
        }
        credentials::matching(&secrets, reference)
    }
}

fn missing(reason: &str, message: String, retry: Duration) -> Missing {
    Missing { waiting: Waiting::new(reason, message), retry }
}

fn policy(container: &Container) -> Policy {
    match container.image_pull_policy.as_deref() {
        Some("Always") => Policy::Always,
        Some("Never") => Policy::Never,
        _ => Policy::IfNotPresent,
    }
}

/// A duration in whole milliseconds as Go prints it: `812ms`, `1.5s`, `1m2.25s`.
fn go_millis(duration: Duration) -> String {
    let millis = duration.as_millis();
    if millis < 1000 {
        return if millis == 0 { "0s".to_owned() } else { format!("{millis}ms") };
    }
    let minutes = millis / 60_000;
    let seconds = format!("{}.{:03}", millis % 60_000 / 1000, millis % 1000);
    let seconds = seconds.trim_end_matches('0').trim_end_matches('.');
    if minutes == 0 { format!("{seconds}s") } else { format!("{minutes}m{seconds}s") }
}

#[cfg(test)]
mod tests;
