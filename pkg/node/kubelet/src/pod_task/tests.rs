//! Tests of `pod_task`.

use std::convert::Infallible;
use std::path::Path;

use edgek_client::{Body, Client};
use edgek_control_runtime::Recorder;
use edgek_node_network::Network as _;
use edgek_node_network::fake::FakeNetwork;
use edgek_node_runtime::Signal;
use edgek_node_runtime::fake::FakeRuntime;
use http::{Method, Request, Response};
use http_body_util::{BodyExt as _, Full};
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::*;
use crate::cgroup::Cgroups;
use crate::image::Images;
use crate::node::facts::Facts;
use crate::node::status::Allocatable;
use crate::node::{Node, Parts};
use crate::objects::Objects;
use crate::sample;
use crate::static_pods::Mirrors;
use crate::volume::Volumes;

/// An API server with one pod; it takes events, has no other objects and never ends a watch.
#[derive(Default)]
struct Server {
    pod: Mutex<Option<Value>>,
    events: Mutex<Vec<String>>,
    changed: Notify,
}

impl Server {
    async fn answer(self: Arc<Self>, request: Request<Body>) -> Response<Body> {
        let (parts, body) = request.into_parts();
        let path = parts.uri.path().to_owned();
        if parts.uri.query().is_some_and(|query| query.contains("watch=true")) {
            return std::future::pending().await;
        }
        let body = body.collect().await.unwrap().to_bytes();
        let body: Value = serde_json::from_slice(&body).unwrap_or_default();
        let (code, answer) = self.act(&parts.method, &path, &body);
        self.changed.notify_one();
        let body = Full::new(answer.to_string().into()).map_err(|never| match never {});
        Response::builder().status(code).body(Body::new(body)).unwrap()
    }

    fn act(&self, method: &Method, path: &str, body: &Value) -> (u16, Value) {
        let failure = |code: u16, reason: &str| {
            (code, json!({"kind": "Status", "code": code, "reason": reason, "message": reason}))
        };
        if path.ends_with("/events") {
            let text = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
            self.events.lock().push(text("reason"));
            return (201, body.clone());
        }
        if !path.contains("/pods/web") {
            return (200, json!({"metadata": {"resourceVersion": "1"}, "items": []}));
        }
        let mut held = self.pod.lock();
        let Some(pod) = held.as_mut() else { return failure(404, "NotFound") };
        match *method {
            Method::PATCH => {
                let meta = &body["metadata"];
                if meta["resourceVersion"] != pod["metadata"]["resourceVersion"] {
                    return failure(409, "Conflict");
                }
                merge(&mut pod["status"], &body["status"]);
                bump(pod);
            }
            Method::DELETE => {
                assert_eq!(body["preconditions"]["uid"], "u1");
                return (200, held.take().unwrap());
            }
            _ => {}
        }
        (200, pod.clone())
    }
}

fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else { return *target = patch.clone() };
    if !target.is_object() {
        *target = json!({});
    }
    for (key, value) in patch {
        if value.is_null() {
            target.as_object_mut().unwrap().remove(key);
        } else {
            merge(&mut target[key], value);
        }
    }
}

fn bump(pod: &mut Value) {
    let revision: u64 = pod["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap();
    pod["metadata"]["resourceVersion"] = json!((revision + 1).to_string());
}

/// A pod's task with everything around it.
struct Bench {
    server: Arc<Server>,
    runtime: Arc<FakeRuntime>,
    network: Arc<FakeNetwork>,
    updates: watch::Sender<Update>,
    scope: Scope,
    folder: tempfile::TempDir,
}

impl Bench {
    fn start(spec: &Value) -> Self {
        Self::start_with(FakeRuntime::with_images(&["busybox"]), spec)
    }

    fn start_with(runtime: Arc<FakeRuntime>, spec: &Value) -> Self {
        Self::resume(runtime, sample::pod(spec))
    }

    /// A kubelet that begins with a pod as the API has it.
    fn resume(runtime: Arc<FakeRuntime>, pod: Pod) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let server = Arc::new(Server::default());
        *server.pod.lock() = Some(serde_json::to_value(&pod).unwrap());
        let service = server.clone();
        let client = Client::in_process(tower::service_fn(move |request| {
            let server = service.clone();
            async move { Ok::<_, Infallible>(server.answer(request).await) }
        }));
        let scope = Scope::root();
        let network = Arc::new(FakeNetwork::default());
        let context = context(&scope, folder.path(), client, runtime.clone(), network.clone());
        let (updates, receiver) = watch::channel(Update { pod: Arc::new(pod), gone: false, evicted: None });
        let wake = Arc::new(Notify::new());
        let task = PodTask::new(context, Records::default(), &scope, receiver, wake.clone());
        let mut events = edgek_node_runtime::Runtime::events(&*runtime);
        scope.spawn("wake", async move {
            while events.next().await.is_some() {
                wake.notify_one();
            }
        });
        scope.spawn("pod", task.run());
        Self { server, runtime, network, updates, scope, folder }
    }

    /// Waits until the pod in the API is as wanted.
    async fn until(&self, what: &str, is_so: impl Fn(&Value) -> bool) {
        let wait = async {
            while !self.server.pod.lock().as_ref().is_some_and(&is_so) {
                self.server.changed.notified().await;
            }
        };
        let limit = Duration::from_secs(600);
        if tokio::time::timeout(limit, wait).await.is_err() {
            panic!("{what}: {:#?}", self.server.pod.lock());
        }
    }

    async fn until_phase(&self, phase: &str) {
        self.until(phase, |pod| pod["status"]["phase"] == phase).await;
    }

    async fn until_waiting(&self, reason: &str) {
        let reason = reason.to_owned();
        self.until(&reason, |pod| state(pod)["waiting"]["reason"] == reason.as_str()).await;
    }

    /// Asks for the pod's deletion, as the API server does, and waits until it is gone.
    async fn delete(&self, grace: i64) {
        let pod = {
            let mut held = self.server.pod.lock();
            let pod = held.as_mut().unwrap();
            pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
            pod["metadata"]["deletionGracePeriodSeconds"] = json!(grace);
            bump(pod);
            serde_json::from_value(pod.clone()).unwrap()
        };
        self.updates.send_replace(Update { pod: Arc::new(pod), gone: false, evicted: None });
        while self.server.pod.lock().is_some() {
            self.server.changed.notified().await;
        }
    }

    fn id(&self, container: &str) -> ContainerId {
        self.runtime.spec("web", container).unwrap().id
    }
}

fn context(
    scope: &Scope,
    root: &Path,
    client: Client,
    runtime: Arc<FakeRuntime>,
    network: Arc<FakeNetwork>,
) -> Arc<Context> {
    let config = Arc::new(sample::config(root));
    let objects = Objects::start(scope, client.clone());
    let allocatable = Allocatable { cpu_milli: 2000, memory: 1 << 30, storage: 1 << 30 };
    let parts = Parts {
        config: config.clone(),
        facts: Arc::new(Facts::read(root)),
        client: client.clone(),
        runtime: runtime.clone(),
        network: network.ready(),
        collector: Arc::default(),
    };
    Arc::new(Context {
        images: Images::new(runtime.clone(), objects.clone(), tokio::sync::watch::channel(true).1),
        volumes: Volumes::new(scope, config.clone(), client.clone(), objects.clone(), allocatable),
        objects,
        mirrors: Mirrors::new(client.clone(), scope.clone()),
        cgroups: Cgroups::open(&root.join("cgroup"), Path::new("/kubepods")),
        recorder: Recorder::start(scope, client.clone(), "kubelet", "edge"),
        node: Node::start(scope, &parts),
        allocatable,
        memory: 1 << 30,
        config,
        client,
        runtime,
        network,
    })
}

fn state(pod: &Value) -> &Value {
    &pod["status"]["containerStatuses"][0]["state"]
}

fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
    conditions.into_iter().any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

#[tokio::test(start_paused = true)]
async fn a_pod_runs_and_leaves_nothing_when_it_is_deleted() {
    let bench = Bench::start(&json!({"containers": [{"name": "a", "image": "busybox"}]}));
    bench.until("ready", is_ready).await;
    let pod = bench.server.pod.lock().clone().unwrap();
    assert_eq!(pod["status"]["podIP"], "10.42.0.2");
    assert_eq!(pod["status"]["hostIP"], "192.0.2.1");
    assert_eq!(pod["status"]["qosClass"], "BestEffort");
    let id = bench.id("a");
    bench.delete(30).await;
    assert_eq!(bench.runtime.signals(), [(id, Signal::TERM)]);
    assert_eq!(bench.network.pods(), Vec::<String>::new());
    assert!(!bench.folder.path().join("kubelet/pods/u1").exists());
    let calls = bench.runtime.calls();
    assert_eq!(calls, ["create web/a", "start web/a", "remove web/a", "remove-pod u1"]);
}

#[tokio::test(start_paused = true)]
async fn a_container_that_does_not_listen_is_killed_after_the_grace_period() {
    let bench = Bench::start(&json!({"containers": [{"name": "a", "image": "busybox"}]}));
    bench.runtime.ignore_term();
    bench.until("ready", is_ready).await;
    let (id, begun) = (bench.id("a"), Instant::now());
    bench.delete(7).await;
    assert_eq!(bench.runtime.signals(), [(id.clone(), Signal::TERM), (id, Signal::KILL)]);
    assert_eq!(begun.elapsed().as_secs(), 7);
}

#[tokio::test(start_paused = true)]
async fn a_container_that_ends_starts_again_and_then_waits() {
    let bench = Bench::start(&json!({"containers": [{"name": "a", "image": "busybox"}]}));
    bench.until("ready", is_ready).await;
    bench.runtime.exit(&bench.id("a"), 1);
    let restarts = |count: u32| {
        move |pod: &Value| is_ready(pod) && pod["status"]["containerStatuses"][0]["restartCount"] == count
    };
    bench.until("the first restart", restarts(1)).await;
    bench.runtime.exit(&bench.id("a"), 1);
    bench.until_waiting("CrashLoopBackOff").await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_is_not_restarted_ends_after_its_init_containers_and_itself() {
    let bench = Bench::start(&json!({
        "restartPolicy": "Never",
        "initContainers": [{"name": "i", "image": "busybox"}],
        "containers": [{"name": "a", "image": "busybox"}],
    }));
    let runs = |list: &'static str| move |pod: &Value| pod["status"][list][0]["state"]["running"].is_object();
    bench.until("init", runs("initContainerStatuses")).await;
    assert_eq!(bench.runtime.spec("web", "a"), None);
    bench.runtime.exit(&bench.id("i"), 0);
    bench.until("main", runs("containerStatuses")).await;
    let message = bench.folder.path().join("kubelet/pods/u1/containers/a/0.message");
    std::fs::write(message, "so long").unwrap();
    bench.runtime.exit(&bench.id("a"), 0);
    bench.until_phase("Succeeded").await;
    let pod = bench.server.pod.lock().clone().unwrap();
    assert_eq!(state(&pod)["terminated"]["message"], "so long");
    bench.delete(30).await;
}

#[tokio::test(start_paused = true)]
async fn an_image_that_cannot_be_pulled_is_tried_again() {
    let runtime = FakeRuntime::with_images(&[]);
    let bench = Bench::start_with(runtime, &json!({"containers": [{"name": "a", "image": "busybox"}]}));
    bench.until_waiting("ErrImagePull").await;
    bench.until_waiting("ImagePullBackOff").await;
    bench.runtime.add_pullable("busybox");
    bench.until("ready", is_ready).await;
    assert!(bench.server.events.lock().contains(&"Pulling".to_owned()));
    bench.scope.close(Duration::from_secs(1)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn probes_decide_about_readiness_and_life() {
    use std::sync::atomic::{AtomicBool, Ordering};
    let probe = |word: &str| json!({"exec": {"command": [word]}, "periodSeconds": 1});
    let runtime = FakeRuntime::with_images(&["busybox"]);
    let alive = Arc::new(AtomicBool::new(true));
    let answer = alive.clone();
    runtime.on_exec(move |_, exec| edgek_node_runtime::fake::FakeExec {
        code: i32::from(exec.command == ["alive"] && !answer.load(Ordering::Relaxed)),
        ..Default::default()
    });
    let container = json!({"name": "a", "image": "busybox", "readinessProbe": probe("ready"), "livenessProbe": probe("alive")});
    let bench = Bench::start_with(runtime, &json!({"containers": [container]}));
    bench.until("ready", is_ready).await;
    alive.store(false, Ordering::Relaxed);
    bench.until("killed", |pod| pod["status"]["containerStatuses"][0]["restartCount"] == 1).await;
    assert!(bench.server.events.lock().contains(&"Unhealthy".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn what_runs_is_adopted_by_a_new_kubelet_and_counts_its_restarts() {
    let spec = json!({"containers": [{"name": "a", "image": "busybox"}]});
    let first = Bench::start(&spec);
    first.until("ready", is_ready).await;
    first.runtime.exit(&first.id("a"), 1);
    first.until("restarted", |pod| pod["status"]["containerStatuses"][0]["restartCount"] == 1).await;
    first.until("ready again", is_ready).await;
    let before = first.runtime.calls();
    first.scope.close(Duration::from_secs(1)).await.unwrap();
    let second = Bench::start_with(first.runtime.clone(), &spec);
    second.until("adopted", is_ready).await;
    let pod = second.server.pod.lock().clone().unwrap();
    assert_eq!(pod["status"]["containerStatuses"][0]["restartCount"], 1);
    assert_eq!(second.runtime.calls(), before, "nothing was made or ended");
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_was_ready_stays_so_for_a_new_kubelet_until_its_probe_says_otherwise() {
    let probe = json!({"exec": {"command": ["ready"]}, "periodSeconds": 10, "failureThreshold": 3});
    let spec = json!({"containers": [{"name": "a", "image": "busybox", "readinessProbe": probe}]});
    let first = Bench::start(&spec);
    first.until("ready", is_ready).await;
    first.scope.close(Duration::from_secs(1)).await.unwrap();
    let runtime = first.runtime.clone();
    runtime.on_exec(|_, _| edgek_node_runtime::fake::FakeExec { code: 1, ..Default::default() });
    let pod = first.server.pod.lock().clone().unwrap();
    let second = Bench::resume(runtime, serde_json::from_value(pod).unwrap());
    let (begun, failures) = (Instant::now(), || second.server.events.lock().len());
    while failures() == 0 {
        second.server.changed.notified().await;
    }
    assert!(is_ready(second.server.pod.lock().as_ref().unwrap()), "one failure is not enough");
    second.until("not ready", |pod| !is_ready(pod)).await;
    assert_eq!(begun.elapsed().as_secs(), 20);
}

#[tokio::test(start_paused = true)]
async fn a_container_whose_hook_fails_is_killed_for_it() {
    let hook =
        json!({"postStart": {"exec": {"command": ["begin"]}}, "preStop": {"exec": {"command": ["end"]}}});
    let runtime = FakeRuntime::with_images(&["busybox"]);
    runtime.on_exec(|_, _| edgek_node_runtime::fake::FakeExec { code: 1, ..Default::default() });
    let container = json!({"name": "a", "image": "busybox", "lifecycle": hook});
    let bench = Bench::start_with(runtime, &json!({"containers": [container]}));
    bench.until("killed", |pod| pod["status"]["containerStatuses"][0]["restartCount"] == 1).await;
    let events = bench.server.events.lock().clone();
    let after = events.iter().skip_while(|reason| *reason != "FailedPostStartHook").take(3);
    assert_eq!(after.collect::<Vec<_>>(), ["FailedPostStartHook", "Killing", "FailedPreStopHook"]);
}

#[tokio::test(start_paused = true)]
async fn an_evicted_pod_fails_at_once_and_says_why() {
    let spec = json!({"containers": [{"name": "a", "image": "busybox"}]});
    let bench = Bench::start(&spec);
    bench.until("ready", is_ready).await;
    bench.runtime.ignore_term();
    let begun = Instant::now();
    bench.updates.send_modify(|update| update.evicted = Some("low on memory".to_owned()));
    bench.until_phase("Failed").await;
    assert_eq!(begun.elapsed().as_secs(), 2);
    let pod = bench.server.pod.lock().clone().unwrap();
    assert_eq!(
        (&pod["status"]["reason"], &pod["status"]["message"]),
        (&json!("Evicted"), &json!("low on memory"))
    );
    let conditions = pod["status"]["conditions"].as_array().unwrap();
    let target = conditions.iter().find(|condition| condition["type"] == "DisruptionTarget").unwrap();
    assert_eq!((&target["status"], &target["reason"]), (&json!("True"), &json!("TerminationByKubelet")));
    assert!(bench.server.events.lock().contains(&"Evicted".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn hooks_of_sidecars_run_at_once_and_they_end_after_the_main_containers() {
    let wait = |seconds: u32| json!({"preStop": {"sleep": {"seconds": seconds}}});
    let spec = json!({
        "initContainers": [
            {"name": "s1", "image": "busybox", "restartPolicy": "Always", "lifecycle": wait(6)},
            {"name": "s2", "image": "busybox", "restartPolicy": "Always"},
        ],
        "containers": [{"name": "a", "image": "busybox", "lifecycle": wait(5)}],
    });
    let bench = Bench::start(&spec);
    bench.until("ready", is_ready).await;
    let (ids, begun) = (["a", "s2", "s1"].map(|name| bench.id(name)), Instant::now());
    bench.delete(30).await;
    assert_eq!(bench.runtime.signals(), ids.map(|id| (id, Signal::TERM)));
    assert_eq!(begun.elapsed().as_secs(), 6, "the hooks ran beside each other");
}
