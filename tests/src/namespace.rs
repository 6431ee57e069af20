//! [`Namespace`]: a Kubernetes namespace of its own for a test, on a [`Host`] that the tests of a file share.

use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use crate::Host;

/// The host of the tests that run now; it ends with the last of them.
static SHARED: Mutex<Weak<Host>> = Mutex::new(Weak::new());
static NAMESPACES: AtomicU32 = AtomicU32::new(0);

/// A namespace on a node that other tests use too.
pub struct Namespace {
    /// The machine; its kubectl reaches all namespaces.
    pub host: Arc<Host>,
    name: String,
}

impl Default for Namespace {
    fn default() -> Self {
        Self::new()
    }
}

impl Namespace {
    /// An empty namespace in which pods can be made.
    pub fn new() -> Self {
        Self::on(shared_host())
    }

    /// An empty namespace on a host that the test has started itself.
    pub fn on(host: Arc<Host>) -> Self {
        let name = format!("test-{}", NAMESPACES.fetch_add(1, Ordering::Relaxed));
        host.kubectl(&["create", "namespace", &name]);
        let namespace = Self { host, name };
        namespace.kubectl(&["wait", "--for=create", "serviceaccount/default", "--timeout=60s"]);
        namespace
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    fn arguments<'a>(&'a self, arguments: &[&'a str]) -> Vec<&'a str> {
        [&["--namespace", self.name.as_str()], arguments].concat()
    }

    /// kubectl in this namespace, not run yet.
    pub fn kubectl_command(&self, arguments: &[&str]) -> Command {
        self.host.kubectl_command(&self.arguments(arguments))
    }

    /// kubectl in this namespace: what it printed, or how it failed.
    ///
    /// # Errors
    /// What kubectl wrote to standard error.
    pub fn try_kubectl(&self, arguments: &[&str]) -> Result<String, String> {
        self.host.try_kubectl(&self.arguments(arguments))
    }

    /// kubectl in this namespace, which must succeed: what it printed.
    pub fn kubectl(&self, arguments: &[&str]) -> String {
        self.host.kubectl(&self.arguments(arguments))
    }

    /// kubectl in this namespace, with `input` on its standard input.
    pub fn kubectl_with_input(&self, arguments: &[&str], input: &str) -> String {
        self.host.kubectl_with_input(&self.arguments(arguments), input)
    }

    /// `kubectl apply` of a manifest: what it printed.
    pub fn apply(&self, manifest: &str) -> String {
        self.kubectl_with_input(&["apply", "-f", "-"], manifest)
    }

    /// Makes a pod; `spec` is YAML on one line.
    pub fn pod(&self, name: &str, spec: &str) {
        self.apply(&format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec: {spec}\n"));
    }

    /// Makes a pod and waits until it is ready.
    pub fn ready_pod(&self, name: &str, spec: &str) {
        self.pod(name, spec);
        self.wait(&format!("pod/{name}"), "condition=Ready");
    }

    /// Makes a pod and waits until it has succeeded: what its only container wrote.
    pub fn finished_pod(&self, name: &str, spec: &str) -> String {
        self.pod(name, spec);
        self.wait(&format!("pod/{name}"), "jsonpath={.status.phase}=Succeeded");
        self.kubectl(&["logs", name])
    }

    /// `kubectl wait --for=<what>`; on failure the test ends with what there is to know of the object.
    pub fn wait(&self, object: &str, what: &str) {
        if let Err(error) = self.try_kubectl(&["wait", object, &format!("--for={what}"), "--timeout=60s"]) {
            let described = self.try_kubectl(&["describe", object]).unwrap_or_else(|error| error);
            self.host.fail(&format!("{object} never got {what}: {error}\n{described}"));
        }
    }

    /// One field of an object, by its JSON path.
    pub fn field(&self, object: &str, path: &str) -> String {
        self.kubectl(&["get", object, "-o", &format!("jsonpath={{{path}}}")])
    }

    /// A command in the only container of a pod: what it printed.
    pub fn exec(&self, pod: &str, command: &[&str]) -> String {
        self.kubectl(&[&["exec", pod, "--"], command].concat())
    }
}

fn shared_host() -> Arc<Host> {
    let mut shared = SHARED.lock();
    if let Some(host) = shared.upgrade() {
        return host;
    }
    let host = Arc::new(Host::started());
    *shared = Arc::downgrade(&host);
    host
}
