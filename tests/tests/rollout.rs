//! What a user does with a Deployment: create, scale, update, undo, delete.

use std::collections::BTreeMap;
use std::process::{Child, ChildStdout, Stdio};

use edgek_tests::{AGNHOST, Namespace};
use serde_json::{Deserializer, StreamDeserializer, Value, de::IoRead};

/// Another name of the same image.
const OTHER: &str = "registry.k8s.io/e2e-test-images/agnhost:2.55";

/// A Deployment of three pods that are ready as soon as they serve; by default none of them may be missing during an
/// update and one may be surplus.
fn deploy(namespace: &Namespace) {
    namespace.apply(&format!(
        "apiVersion: apps/v1
kind: Deployment
metadata: {{name: web}}
spec:
  replicas: 3
  selector: {{matchLabels: {{app: web}}}}
  template:
    metadata: {{labels: {{app: web}}}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: web
        image: {AGNHOST}
        args: [netexec]
        readinessProbe: {{httpGet: {{path: /healthz, port: 8080}}, periodSeconds: 1}}
"
    ));
    rolled_out(namespace);
}

fn rolled_out(namespace: &Namespace) {
    let status = namespace.kubectl(&["rollout", "status", "deployment/web", "--timeout=60s"]);
    assert!(status.ends_with("deployment \"web\" successfully rolled out\n"), "{status}");
}

fn image(namespace: &Namespace) -> String {
    namespace.field("deployment/web", ".spec.template.spec.containers[0].image")
}

fn pods(namespace: &Namespace) -> usize {
    namespace.kubectl(&["get", "pods", "-l", "app=web", "-o", "name"]).lines().count()
}

/// `kubectl get pods --watch` and what it has shown so far.
struct Watch {
    kubectl: Child,
    events: StreamDeserializer<'static, IoRead<ChildStdout>, Value>,
    pods: BTreeMap<String, Value>,
}

impl Watch {
    fn start(namespace: &Namespace) -> Self {
        let arguments = ["get", "pods", "-l", "app=web", "--watch", "--output-watch-events", "-o", "json"];
        let mut kubectl =
            namespace.kubectl_command(&arguments).stdout(Stdio::piped()).spawn().expect("kubectl");
        let stdout = kubectl.stdout.take().expect("a pipe");
        Self { kubectl, events: Deserializer::from_reader(stdout).into_iter(), pods: BTreeMap::new() }
    }

    fn next(&mut self) {
        let mut event = self.events.next().expect("a watch that lasts").expect("an event in JSON");
        let pod = event["object"].take();
        let name = pod["metadata"]["name"].as_str().expect("a name").to_owned();
        if event["type"] == "DELETED" {
            self.pods.remove(&name);
        } else {
            self.pods.insert(name, pod);
        }
    }

    /// The pods that nobody has asked to end.
    fn active(&self) -> impl Iterator<Item = &Value> {
        self.pods.values().filter(|pod| pod["metadata"]["deletionTimestamp"].is_null())
    }

    fn ready(&self) -> usize {
        let is_ready = |pod: &Value| {
            let conditions = pod["status"]["conditions"].as_array();
            conditions.is_some_and(|all| all.iter().any(|c| c["type"] == "Ready" && c["status"] == "True"))
        };
        self.active().filter(|pod| is_ready(pod)).count()
    }

    fn of_image(&self, image: &str) -> usize {
        self.active().filter(|pod| pod["spec"]["containers"][0]["image"] == image).count()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // kubectl has no reason to end by itself.
        let _ = self.kubectl.kill();
        let _ = self.kubectl.wait();
    }
}

#[test]
fn an_update_never_has_fewer_ready_pods_than_allowed() {
    let namespace = Namespace::new();
    deploy(&namespace);
    let mut watch = Watch::start(&namespace);
    while watch.pods.len() < 3 {
        watch.next();
    }
    namespace.kubectl(&["set", "image", "deployment/web", &format!("web={OTHER}")]);
    while watch.of_image(OTHER) < 3 || watch.pods.len() > 3 {
        watch.next();
        assert!(watch.ready() >= 3, "{} pods are ready: {:#?}", watch.ready(), watch.pods);
        assert!(watch.active().count() <= 4, "more pods than allowed: {:#?}", watch.pods);
    }
    rolled_out(&namespace);
    assert_eq!(image(&namespace), OTHER);
    let deployment = namespace.kubectl(&["get", "deployment", "web"]);
    assert!(deployment.contains("3/3     3            3"), "{deployment}");
}

#[test]
fn undo_goes_back_to_any_revision_of_the_history() {
    let namespace = Namespace::new();
    deploy(&namespace);
    namespace.kubectl(&["annotate", "deployment/web", "kubernetes.io/change-cause=first"]);
    namespace.kubectl(&["set", "image", "deployment/web", &format!("web={OTHER}")]);
    namespace.kubectl(&["annotate", "deployment/web", "kubernetes.io/change-cause=second"]);
    rolled_out(&namespace);
    let history = namespace.kubectl(&["rollout", "history", "deployment/web"]);
    let lines: Vec<_> = history.lines().filter(|line| !line.is_empty()).collect();
    assert_eq!(
        lines,
        ["deployment.apps/web ", "REVISION  CHANGE-CAUSE", "1         first", "2         second"]
    );
    let detail = namespace.kubectl(&["rollout", "history", "deployment/web", "--revision=1"]);
    assert!(detail.contains(AGNHOST) && detail.contains("deployment.apps/web with revision #1"), "{detail}");

    let undone = namespace.kubectl(&["rollout", "undo", "deployment/web"]);
    assert_eq!(undone, "deployment.apps/web rolled back\n");
    rolled_out(&namespace);
    assert_eq!(image(&namespace), AGNHOST);
    let history = namespace.kubectl(&["rollout", "history", "deployment/web"]);
    assert!(history.contains("2         second\n3         first\n"), "{history}");
    namespace.kubectl(&["rollout", "undo", "deployment/web", "--to-revision=2"]);
    rolled_out(&namespace);
    assert_eq!(image(&namespace), OTHER);
}

#[test]
fn an_update_to_a_bad_image_stalls_and_undo_rescues_it() {
    let namespace = Namespace::new();
    deploy(&namespace);
    let patch = r#"{"spec": {"progressDeadlineSeconds": 3, "template": {"spec": {"containers": [{"name": "web", "image": "127.0.0.1:1/none:v1"}]}}}}"#;
    namespace.kubectl(&["patch", "deployment", "web", "-p", patch]);
    let stalled = namespace
        .try_kubectl(&["rollout", "status", "deployment/web", "--timeout=60s"])
        .expect_err("an image that nobody has");
    assert!(stalled.contains("exceeded its progress deadline"), "{stalled}");
    assert_eq!(namespace.field("deployment/web", ".status.availableReplicas"), "3");
    assert_eq!(namespace.field("deployment/web", ".status.unavailableReplicas"), "1");
    let bad = namespace.kubectl(&["get", "pods", "-l", "app=web"]);
    assert!(bad.contains("ErrImagePull") || bad.contains("ImagePullBackOff"), "{bad}");
    namespace.kubectl(&["rollout", "undo", "deployment/web"]);
    rolled_out(&namespace);
    namespace.host.eventually("the pod with the bad image is gone", || pods(&namespace) == 3);
    assert_eq!(image(&namespace), AGNHOST);
}

#[test]
fn scaling_restarting_pausing_and_deleting() {
    let namespace = Namespace::new();
    deploy(&namespace);
    namespace.kubectl(&["scale", "deployment/web", "--replicas=5"]);
    rolled_out(&namespace);
    assert_eq!(namespace.field("deployment/web", ".status.readyReplicas"), "5");
    let wrong = namespace.try_kubectl(&["scale", "deployment/web", "--current-replicas=3", "--replicas=1"]);
    assert!(wrong.is_err_and(|error| error.contains("Expected replicas to be 3, was 5")));
    namespace.kubectl(&["scale", "deployment/web", "--replicas=1"]);
    namespace.host.eventually("one pod", || pods(&namespace) == 1);

    let before = namespace.kubectl(&["get", "pods", "-l", "app=web", "-o", "name"]);
    namespace.kubectl(&["rollout", "pause", "deployment/web"]);
    namespace.kubectl(&["set", "env", "deployment/web", "A=b"]);
    let changed = namespace.field("deployment/web", ".metadata.generation");
    namespace.wait("deployment/web", &format!("jsonpath={{.status.observedGeneration}}={changed}"));
    assert_eq!(namespace.kubectl(&["get", "rs", "-l", "app=web", "-o", "name"]).lines().count(), 1);
    namespace.kubectl(&["rollout", "resume", "deployment/web"]);
    rolled_out(&namespace);
    namespace.wait(before.trim(), "delete");
    let resumed = namespace.kubectl(&["get", "pods", "-l", "app=web", "-o", "name"]);
    namespace.kubectl(&["rollout", "restart", "deployment/web"]);
    rolled_out(&namespace);
    namespace.wait(resumed.trim(), "delete");

    namespace.kubectl(&["delete", "deployment", "web"]);
    namespace.host.eventually("nothing is left of it", || {
        namespace.kubectl(&["get", "rs,pods", "-l", "app=web", "-o", "name"]).is_empty()
    });
}
