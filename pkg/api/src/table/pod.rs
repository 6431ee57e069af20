//! Pods and pod templates.

use std::time::SystemTime;

use serde_json::{Value, json};

use super::Printer;
use super::object::{Cells, Object};
use crate::object::{get, number, text};
use crate::time;

pub(super) const PRINTERS: &[Printer] = &[
    Printer {
        group: "",
        kind: "Pod",
        columns: "@Name,Ready,Status,Restarts,Age,+IP,+Node,+Nominated Node,+Readiness Gates",
        cells: pod,
        conditions: completed,
    },
    Printer::new("", "PodTemplate", "@Name,Containers,Images,Pod Labels", |o| {
        let [names, images] = o.containers("template.spec.containers");
        vec![o.name(), names, images, o.labels("template.metadata.labels")]
    }),
];

fn pod(o: &Object<'_>) -> Cells {
    let summary = Summary::of(o);
    let restarts = match (summary.restarts.count, summary.restarts.last) {
        (count @ 1.., Some(last)) => format!("{count} ({} ago)", o.ago(Some(last))),
        (count, _) => count.to_string(),
    };
    vec![
        o.name(),
        json!(format!("{}/{}", summary.ready, summary.total)),
        json!(summary.reason),
        json!(restarts),
        o.age(),
        json!(
            o.items("status.podIPs")
                .first()
                .map(|ip| text(ip, "ip"))
                .filter(|ip| !ip.is_empty())
                .unwrap_or("<none>")
        ),
        json!(o.text_or("spec.nodeName", "<none>")),
        json!(o.text_or("status.nominatedNodeName", "<none>")),
        json!(readiness_gates(o)),
    ]
}

fn completed(o: &Object<'_>) -> Option<Value> {
    let (reason, message) = match o.text("status.phase") {
        "Succeeded" => ("Succeeded", "The pod has completed successfully."),
        "Failed" => ("Failed", "The pod failed."),
        _ => return None,
    };
    Some(json!([{ "type": "Completed", "status": "True", "reason": reason, "message": message }]))
}

fn readiness_gates(o: &Object<'_>) -> String {
    let gates = o.items("spec.readinessGates");
    if gates.is_empty() {
        return "<none>".to_owned();
    }
    let open = gates.iter().filter(|gate| o.is_true(text(gate, "conditionType"))).count();
    format!("{open}/{}", gates.len())
}

/// How often containers were started again.
#[derive(Clone, Copy, Default)]
struct Restarts {
    count: i64,
    last: Option<SystemTime>,
}

impl Restarts {
    fn add(&mut self, status: &Value) {
        self.count += number(status, "restartCount").unwrap_or_default();
        self.last = self.last.max(time::parse(text(status, "lastState.terminated.finishedAt")));
    }
}

/// What the states of a pod's containers come to.
struct Summary {
    ready: usize,
    total: usize,
    reason: String,
    restarts: Restarts,
}

impl Summary {
    fn of(o: &Object<'_>) -> Self {
        let sidecars: Vec<&str> = o
            .items("spec.initContainers")
            .iter()
            .filter(|c| is_sidecar(c))
            .map(|c| text(c, "name"))
            .collect();
        let mut summary = Self {
            ready: 0,
            total: o.items("spec.containers").len() + sidecars.len(),
            reason: o.text_or("status.reason", o.text("status.phase")).to_owned(),
            restarts: Restarts::default(),
        };
        let scheduled = o.items("status.conditions").iter().filter(|c| text(c, "type") == "PodScheduled");
        if scheduled.into_iter().any(|c| text(c, "reason") == "SchedulingGated") {
            "SchedulingGated".clone_into(&mut summary.reason);
        }
        let (initializing, sidecar_restarts) = summary.initialize(o, &sidecars);
        if !initializing || o.is_true("Initialized") {
            summary.restarts = sidecar_restarts;
            summary.run(o);
        }
        let phase = o.text("status.phase");
        if o.is_deleting() && o.text("status.reason") == "NodeLost" {
            "Unknown".clone_into(&mut summary.reason);
        } else if o.is_deleting() && !matches!(phase, "Failed" | "Succeeded") {
            "Terminating".clone_into(&mut summary.reason);
        }
        summary
    }

    /// Takes in the init containers up to the one that is not done. Says whether there is one, and the restarts of
    /// those that go on running.
    fn initialize(&mut self, o: &Object<'_>, sidecars: &[&str]) -> (bool, Restarts) {
        let mut sidecar_restarts = Restarts::default();
        for (index, status) in o.items("status.initContainerStatuses").iter().enumerate() {
            self.restarts.add(status);
            let sidecar = sidecars.contains(&text(status, "name"));
            if sidecar {
                sidecar_restarts.add(status);
            }
            let terminated = get(status, "state.terminated");
            if terminated.is_some_and(|t| number(t, "exitCode").unwrap_or_default() == 0) {
                continue;
            }
            if sidecar && status["started"] == true {
                self.ready += usize::from(status["ready"] == true);
                continue;
            }
            let waiting = text(status, "state.waiting.reason");
            self.reason = match (terminated, waiting) {
                (Some(terminated), _) => format!("Init:{}", how_it_ended(terminated)),
                (None, "" | "PodInitializing") => {
                    format!("Init:{index}/{}", o.items("spec.initContainers").len())
                }
                (None, waiting) => format!("Init:{waiting}"),
            };
            return (true, sidecar_restarts);
        }
        (false, sidecar_restarts)
    }

    /// Takes in the containers; of several reasons that of the first container counts.
    fn run(&mut self, o: &Object<'_>) {
        let (mut running, mut error) = (false, String::new());
        for status in o.items("status.containerStatuses").iter().rev() {
            self.restarts.add(status);
            let waiting = text(status, "state.waiting.reason");
            if !waiting.is_empty() {
                waiting.clone_into(&mut self.reason);
            } else if let Some(terminated) = get(status, "state.terminated") {
                self.reason = how_it_ended(terminated);
                if number(terminated, "exitCode").unwrap_or_default() != 0 {
                    self.reason.clone_into(&mut error);
                }
            } else if status["ready"] == true && get(status, "state.running").is_some() {
                running = true;
                self.ready += 1;
            }
        }
        if self.reason == "Completed" {
            if running && o.is_true("Ready") {
                "Running".clone_into(&mut self.reason);
            } else if !error.is_empty() {
                self.reason = error;
            } else if running {
                "NotReady".clone_into(&mut self.reason);
            }
        }
    }
}

fn is_sidecar(container: &Value) -> bool {
    text(container, "restartPolicy") == "Always"
}

fn how_it_ended(terminated: &Value) -> String {
    let field = |name: &str| number(terminated, name).unwrap_or_default();
    match (text(terminated, "reason"), field("signal")) {
        ("", 0) => format!("ExitCode:{}", field("exitCode")),
        ("", signal) => format!("Signal:{signal}"),
        (reason, _) => reason.to_owned(),
    }
}
