//! Autoscalers: `autoscaling/v1` knows one metric, the use of CPU; what else `v2` has travels in annotations, metrics in
//! the shape they had in `v1`'s time.

use serde_json::{Map, Value, json};

use crate::object::{get, items, metadata_mut, set, text};

const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
const CURRENT_METRICS: &str = "autoscaling.alpha.kubernetes.io/current-metrics";
const CONDITIONS: &str = "autoscaling.alpha.kubernetes.io/conditions";
const BEHAVIOR: &str = "autoscaling.alpha.kubernetes.io/behavior";

/// The target where nothing else is said.
const DEFAULT_CPU: u8 = 80;

/// A metric's source, and its paths in the shapes of `v1` and `v2`.
type Paths = (&'static str, &'static [(&'static str, &'static str)]);

const SPECS: [Paths; 5] = [
    (
        "containerResource",
        &[
            ("container", "container"),
            ("name", "name"),
            ("targetAverageUtilization", "target.averageUtilization"),
            ("targetAverageValue", "target.averageValue"),
        ],
    ),
    (
        "external",
        &[
            ("metricName", "metric.name"),
            ("metricSelector", "metric.selector"),
            ("targetAverageValue", "target.averageValue"),
            ("targetValue", "target.value"),
        ],
    ),
    (
        "object",
        &[
            ("averageValue", "target.averageValue"),
            ("metricName", "metric.name"),
            ("selector", "metric.selector"),
            ("target", "describedObject"),
            ("targetValue", "target.value"),
        ],
    ),
    (
        "pods",
        &[
            ("metricName", "metric.name"),
            ("selector", "metric.selector"),
            ("targetAverageValue", "target.averageValue"),
        ],
    ),
    (
        "resource",
        &[
            ("name", "name"),
            ("targetAverageUtilization", "target.averageUtilization"),
            ("targetAverageValue", "target.averageValue"),
        ],
    ),
];

const STATUSES: [Paths; 5] = [
    (
        "containerResource",
        &[
            ("container", "container"),
            ("currentAverageUtilization", "current.averageUtilization"),
            ("currentAverageValue", "current.averageValue"),
            ("name", "name"),
        ],
    ),
    (
        "external",
        &[
            ("currentAverageValue", "current.averageValue"),
            ("currentValue", "current.value"),
            ("metricName", "metric.name"),
            ("metricSelector", "metric.selector"),
        ],
    ),
    (
        "object",
        &[
            ("averageValue", "current.averageValue"),
            ("currentValue", "current.value"),
            ("metricName", "metric.name"),
            ("selector", "metric.selector"),
            ("target", "describedObject"),
        ],
    ),
    (
        "pods",
        &[
            ("currentAverageValue", "current.averageValue"),
            ("metricName", "metric.name"),
            ("selector", "metric.selector"),
        ],
    ),
    (
        "resource",
        &[
            ("currentAverageUtilization", "current.averageUtilization"),
            ("currentAverageValue", "current.averageValue"),
            ("name", "name"),
        ],
    ),
];

pub(super) fn to_v1(autoscaler: &mut Value) {
    let (cpu, others): (Vec<_>, Vec<_>) =
        items(autoscaler, "spec.metrics").iter().partition(|metric| cpu_use(metric, "target").is_some());
    let target = cpu.first().and_then(|metric| cpu_use(metric, "target")).cloned();
    let others: Vec<_> = others.into_iter().map(|metric| reshape(metric, &SPECS, Way::Back)).collect();
    let statuses = items(autoscaler, "status.currentMetrics");
    let used = statuses.iter().find_map(|status| cpu_use(status, "current")).cloned();
    let statuses: Vec<_> = statuses.iter().map(|status| reshape(status, &STATUSES, Way::Back)).collect();
    let conditions = items(autoscaler, "status.conditions").to_vec();
    let behavior = get(autoscaler, "spec.behavior").cloned();

    for (path, value) in
        [("spec.targetCPUUtilizationPercentage", target), ("status.currentCPUUtilizationPercentage", used)]
    {
        if let Some(value) = value {
            set(autoscaler, path, value);
        }
    }
    for (name, list) in [(METRICS, others), (CURRENT_METRICS, statuses), (CONDITIONS, conditions)] {
        if !list.is_empty() {
            annotate(autoscaler, name, &Value::from(list));
        }
    }
    if let Some(behavior) = behavior {
        annotate(autoscaler, BEHAVIOR, &behavior);
    }
}

pub(super) fn to_v2(autoscaler: &mut Value) {
    let mut metrics: Vec<_> =
        annotated_list(autoscaler, METRICS).iter().map(|m| reshape(m, &SPECS, Way::Forth)).collect();
    let target = get(autoscaler, "spec.targetCPUUtilizationPercentage").cloned();
    let target = target.or_else(|| metrics.is_empty().then(|| json!(DEFAULT_CPU)));
    metrics.extend(target.map(|target| {
        let target = json!({ "type": "Utilization", "averageUtilization": target });
        json!({ "type": "Resource", "resource": { "name": "cpu", "target": target } })
    }));
    set(autoscaler, "spec.metrics", metrics);

    let statuses = annotated_list(autoscaler, CURRENT_METRICS);
    let mut statuses: Vec<_> = statuses.iter().map(|s| reshape(s, &STATUSES, Way::Forth)).collect();
    if let Some(used) =
        get(autoscaler, "status.currentCPUUtilizationPercentage").filter(|_| statuses.is_empty())
    {
        let current = json!({ "averageUtilization": used });
        statuses.push(json!({ "type": "Resource", "resource": { "name": "cpu", "current": current } }));
    }
    let conditions = annotated_list(autoscaler, CONDITIONS);
    for (path, list) in [("status.currentMetrics", statuses), ("status.conditions", conditions)] {
        if !list.is_empty() {
            set(autoscaler, path, list);
        }
    }
    if let Some(behavior) = annotated(autoscaler, BEHAVIOR) {
        set(autoscaler, "spec.behavior", behavior);
    }
    if let Some(annotations) = metadata_mut(autoscaler).get_mut("annotations").and_then(Value::as_object_mut)
    {
        annotations
            .retain(|name, _| ![METRICS, CURRENT_METRICS, CONDITIONS, BEHAVIOR].contains(&name.as_str()));
    }
}

/// How much of its CPU a `v2` metric wants used or finds used, when that is what it is about.
fn cpu_use<'a>(metric: &'a Value, what: &str) -> Option<&'a Value> {
    let is_cpu = text(metric, "type") == "Resource" && text(metric, "resource.name") == "cpu";
    get(metric, &format!("resource.{what}.averageUtilization")).filter(|_| is_cpu)
}

/// Between the shapes of metrics.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Forth,
    Back,
}

fn reshape(metric: &Value, sources: &[Paths], way: Way) -> Value {
    let mut reshaped = json!({ "type": text(metric, "type") });
    for (source, paths) in sources {
        let Some(from) = metric.get(source).filter(|source| source.is_object()) else { continue };
        let mut to = Value::Object(Map::new());
        for (v1, v2) in *paths {
            let (read, write) = if way == Way::Forth { (v1, v2) } else { (v2, v1) };
            if let Some(value) = get(from, read) {
                set(&mut to, write, value.clone());
            }
        }
        if way == Way::Forth && get(&to, "target").is_some() {
            let kind = target_type(&to);
            set(&mut to, "target.type", kind);
        }
        reshaped[source] = to;
    }
    reshaped
}

fn target_type(source: &Value) -> &'static str {
    let has = |value: &str| get(source, &format!("target.{value}")).is_some();
    if has("averageUtilization") {
        "Utilization"
    } else if has("averageValue") {
        "AverageValue"
    } else {
        "Value"
    }
}

fn annotate(autoscaler: &mut Value, name: &str, value: &Value) {
    let annotations = metadata_mut(autoscaler).entry("annotations").or_insert_with(|| json!({}));
    annotations[name] = value.to_string().into();
}

/// The JSON in an annotation; as upstream, what is not JSON says nothing.
fn annotated(autoscaler: &Value, name: &str) -> Option<Value> {
    let annotations = get(autoscaler, "metadata.annotations")?;
    serde_json::from_str(annotations.get(name)?.as_str()?).ok()
}

fn annotated_list(autoscaler: &Value, name: &str) -> Vec<Value> {
    match annotated(autoscaler, name) {
        Some(Value::Array(items)) => items,
        _ => Vec::new(),
    }
}
