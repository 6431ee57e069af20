//! What makes pods: deployments, jobs, and what scales and protects them.

use serde_json::{Value, json};

use super::Printer;
use super::object::{Cells, Object, human, human_between, or};
use crate::object::{get, number, text};
use crate::time;

pub(super) const PRINTERS: &[Printer] = &[
    Printer::new(
        "apps",
        "Deployment",
        "@Name,Ready,Up-to-date,Available,Age,+Containers,+Images,+Selector",
        |o| {
            let [names, images] = o.containers(CONTAINERS);
            let selector = o.selector_text("spec.selector").unwrap_or_else(|| "<invalid>".to_owned());
            vec![
                o.name(),
                ready(o),
                o.cell("status.updatedReplicas"),
                o.cell("status.availableReplicas"),
                o.age(),
                names,
                images,
                json!(selector),
            ]
        },
    ),
    Printer::new("apps", "ReplicaSet", REPLICAS, |o| replicas(o, o.selector("spec.selector"))),
    Printer::new("", "ReplicationController", REPLICAS, |o| replicas(o, o.labels("spec.selector"))),
    Printer::new("apps", "StatefulSet", "@Name,Ready,Age,+Containers,+Images", |o| {
        let [names, images] = o.containers(CONTAINERS);
        vec![o.name(), ready(o), o.age(), names, images]
    }),
    Printer::new("apps", "DaemonSet", DAEMONS, daemon_set),
    Printer::new("apps", "ControllerRevision", "@Name,Controller,Revision,Age", |o| {
        vec![o.name(), json!(controller(o)), o.cell("revision"), o.age()]
    }),
    Printer::new(
        "batch",
        "Job",
        "@Name,Status,Completions,Duration,Age,+Containers,+Images,+Selector",
        |o| {
            let [names, images] = o.containers(CONTAINERS);
            let [status, completions, duration] = [job_status(o).to_owned(), completions(o), job_duration(o)];
            vec![
                o.name(),
                json!(status),
                json!(completions),
                json!(duration),
                o.age(),
                names,
                images,
                o.selector("spec.selector"),
            ]
        },
    ),
    Printer::new("batch", "CronJob", CRON_JOBS, cron_job),
    Printer::new("autoscaling", "HorizontalPodAutoscaler", AUTOSCALERS, autoscaler),
    Printer::new("autoscaling", "Scale", "Name,#Desired,#Available,Age", |o| {
        vec![o.name(), o.cell("spec.replicas"), o.cell("status.replicas"), o.age()]
    }),
    Printer::new("policy", "PodDisruptionBudget", BUDGETS, |o| {
        let bound = |path: &str| o.get(path).map_or_else(|| json!("N/A"), |bound| json!(plain(bound)));
        vec![
            o.name(),
            bound("spec.minAvailable"),
            bound("spec.maxUnavailable"),
            o.cell("status.disruptionsAllowed"),
            o.age(),
        ]
    }),
];

const CONTAINERS: &str = "spec.template.spec.containers";
const REPLICAS: &str = "@Name,#Desired,#Current,#Ready,Age,+Containers,+Images,+Selector";
const DAEMONS: &str =
    "@Name,#Desired,#Current,#Ready,#Up-to-date,#Available,Node Selector,Age,+Containers,+Images,+Selector";
const CRON_JOBS: &str =
    "@Name,Schedule,Timezone,?Suspend,#Active,Last Schedule,Age,+Containers,+Images,+Selector";
const AUTOSCALERS: &str = "@Name,Reference,Targets,MinPods,MaxPods,Replicas,Age";
const BUDGETS: &str = "@Name,Min Available,Max Unavailable,#Allowed Disruptions,Age";

fn ready(o: &Object<'_>) -> Value {
    json!(format!("{}/{}", o.number("status.readyReplicas"), o.number("spec.replicas")))
}

fn replicas(o: &Object<'_>, selector: Value) -> Cells {
    let [names, images] = o.containers(CONTAINERS);
    let [desired, current, ready] =
        ["spec.replicas", "status.replicas", "status.readyReplicas"].map(|p| o.cell(p));
    vec![o.name(), desired, current, ready, o.age(), names, images, selector]
}

fn daemon_set(o: &Object<'_>) -> Cells {
    let [names, images] = o.containers(CONTAINERS);
    vec![
        o.name(),
        o.cell("status.desiredNumberScheduled"),
        o.cell("status.currentNumberScheduled"),
        o.cell("status.numberReady"),
        o.cell("status.updatedNumberScheduled"),
        o.cell("status.numberAvailable"),
        o.labels("spec.template.spec.nodeSelector"),
        o.age(),
        names,
        images,
        o.selector("spec.selector"),
    ]
}

fn controller(o: &Object<'_>) -> String {
    let Some(owner) = o.items("metadata.ownerReferences").iter().find(|owner| owner["controller"] == true)
    else {
        return "<none>".to_owned();
    };
    let group =
        text(owner, "apiVersion").split_once('/').map(|(group, _)| format!(".{group}")).unwrap_or_default();
    format!("{}{group}/{}", text(owner, "kind").to_lowercase(), text(owner, "name"))
}

fn completions(o: &Object<'_>) -> String {
    let succeeded = o.number("status.succeeded");
    match (o.get("spec.completions"), o.number("spec.parallelism")) {
        (Some(completions), _) => format!("{succeeded}/{completions}"),
        (None, parallelism @ 2..) => format!("{succeeded}/1 of {parallelism}"),
        _ => format!("{succeeded}/1"),
    }
}

fn job_duration(o: &Object<'_>) -> String {
    let Some(start) = time::parse(o.text("status.startTime")) else { return String::new() };
    match time::parse(o.text("status.completionTime")) {
        Some(end) => human_between(start, end),
        None => o.ago(Some(start)),
    }
}

fn job_status(o: &Object<'_>) -> &'static str {
    if o.is_true("Complete") {
        "Complete"
    } else if o.is_true("Failed") {
        "Failed"
    } else if o.is_deleting() {
        "Terminating"
    } else if o.is_true("Suspended") {
        "Suspended"
    } else if o.is_true("FailureTarget") {
        "FailureTarget"
    } else if o.is_true("SuccessCriteriaMet") {
        "SuccessCriteriaMet"
    } else {
        "Running"
    }
}

fn cron_job(o: &Object<'_>) -> Cells {
    let [names, images] = o.containers("spec.jobTemplate.spec.template.spec.containers");
    let suspend = match o.get("spec.suspend").and_then(Value::as_bool) {
        Some(true) => "True",
        Some(false) => "False",
        None => "<unset>",
    };
    let last = match o.get("status.lastScheduleTime") {
        Some(_) => o.since("status.lastScheduleTime"),
        None => "<none>".to_owned(),
    };
    vec![
        o.name(),
        json!(o.text("spec.schedule")),
        json!(o.text_or("spec.timeZone", "<none>")),
        json!(suspend),
        json!(o.count("status.active")),
        json!(last),
        o.age(),
        names,
        images,
        o.selector("spec.jobTemplate.spec.selector"),
    ]
}

fn autoscaler(o: &Object<'_>) -> Cells {
    let target = format!("{}/{}", o.text("spec.scaleTargetRef.kind"), o.text("spec.scaleTargetRef.name"));
    let min = o.get("spec.minReplicas").map_or_else(|| "<unset>".to_owned(), Value::to_string);
    vec![
        o.name(),
        json!(target),
        json!(metrics(o.items("spec.metrics"), o.items("status.currentMetrics"))),
        json!(min),
        o.cell("spec.maxReplicas"),
        o.cell("status.currentReplicas"),
        o.age(),
    ]
}

fn metrics(specs: &[Value], statuses: &[Value]) -> String {
    let status = |index: usize| statuses.get(index).unwrap_or(&Value::Null);
    let shown: Vec<_> = specs.iter().enumerate().map(|(index, spec)| metric(spec, status(index))).collect();
    match &*shown {
        [] => "<none>".to_owned(),
        [a, b, _, ..] => format!("{a}, {b} + {} more...", shown.len() - 2),
        few => few.join(", "),
    }
}

/// One metric: what it is and what it should be.
fn metric(spec: &Value, status: &Value) -> String {
    let (field, named) = match text(spec, "type") {
        "External" => ("external", false),
        "Pods" => ("pods", false),
        "Object" => ("object", false),
        "Resource" => ("resource", true),
        "ContainerResource" => ("containerResource", true),
        _ => return "<unknown type>".to_owned(),
    };
    let target = |value: &str| get(spec, &format!("{field}.target.{value}"));
    let current = |value: &str| {
        get(status, &format!("{field}.current.{value}")).map_or_else(|| "<unknown>".to_owned(), plain)
    };
    let percent = |number: Option<&Value>, nothing: &str| {
        or(number.map(|number| format!("{number}%")).unwrap_or_default(), nothing)
    };
    let average = target("averageValue");
    let shown = match (average, named) {
        (Some(average), _) => format!("{}/{}", current("averageValue"), plain(average)),
        (None, true) => {
            let used = get(status, &format!("{field}.current.averageUtilization"));
            format!("{}/{}", percent(used, "<unknown>"), percent(target("averageUtilization"), "<auto>"))
        }
        (None, false) => {
            format!("{}/{}", current("value"), target("value").map_or_else(|| "<nil>".to_owned(), plain))
        }
    };
    match (named, average.is_some() && field != "pods") {
        (true, _) => format!("{}: {shown}", text(spec, &format!("{field}.name"))),
        (false, true) => format!("{shown} (avg)"),
        (false, false) => shown,
    }
}

/// A text without quotes, a number as it is.
fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// A number of seconds as a duration for people.
pub(super) fn human_seconds(value: &Value, path: &str) -> Option<String> {
    let seconds = number(value, path).and_then(|seconds| u64::try_from(seconds).ok())?;
    Some(human(std::time::Duration::from_secs(seconds)))
}
