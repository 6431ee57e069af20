//! `/metrics/resource`: CPU and memory of the node, its pods and their containers in the text format of Prometheus, as
//! metrics-server reads it.

use std::fmt::Write as _;

use jiff::Timestamp;

use super::NodeStats;

/// The statistics as upstream's resource metrics.
pub fn resource(stats: &NodeStats) -> String {
    let mut text = String::new();
    let mut family = |name: &str, kind: &str, help: &str, samples: Vec<(String, String, Timestamp)>| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "# HELP {name} [STABLE] {help}\n# TYPE {name} {kind}");
        for (labels, value, at) in samples {
            let _ = writeln!(text, "{name}{labels} {value} {}", at.as_millisecond());
        }
    };
    let containers = || {
        stats.pods.iter().flat_map(|pod| {
            pod.containers.iter().map(move |one| {
                let (name, namespace) = names(&pod.pod);
                (format!("{{container=\"{}\",namespace=\"{namespace}\",pod=\"{name}\"}}", one.name), one)
            })
        })
    };
    let pods = || {
        stats.pods.iter().filter(|pod| !pod.containers.is_empty()).map(|pod| {
            let (name, namespace) = names(&pod.pod);
            (format!("{{namespace=\"{namespace}\",pod=\"{name}\"}}"), pod)
        })
    };
    family(
        "container_cpu_usage_seconds_total",
        "counter",
        "Cumulative cpu time consumed by the container in core-seconds",
        containers().map(|(labels, one)| (labels, seconds(one.cpu.total_ns), one.usage.at)).collect(),
    );
    family(
        "container_memory_working_set_bytes",
        "gauge",
        "Current working set of the container in bytes",
        containers()
            .map(|(labels, one)| (labels, one.usage.memory_working_set.to_string(), one.usage.at))
            .collect(),
    );
    family(
        "container_start_time_seconds",
        "gauge",
        "Start time of the container since unix epoch in seconds",
        containers()
            .map(|(labels, one)| {
                let started = u64::try_from(one.started.as_nanosecond()).unwrap_or(0);
                (labels, seconds(started), one.usage.at)
            })
            .collect(),
    );
    family(
        "node_cpu_usage_seconds_total",
        "counter",
        "Cumulative cpu time consumed by the node in core-seconds",
        vec![(String::new(), seconds(stats.cpu.total_ns), stats.at)],
    );
    family(
        "node_memory_working_set_bytes",
        "gauge",
        "Current working set of the node in bytes",
        vec![(String::new(), stats.memory.working_set().to_string(), stats.at)],
    );
    family(
        "pod_cpu_usage_seconds_total",
        "counter",
        "Cumulative cpu time consumed by the pod in core-seconds",
        pods().map(|(labels, pod)| (labels, seconds(pod.cpu.total_ns), stats.at)).collect(),
    );
    family(
        "pod_memory_working_set_bytes",
        "gauge",
        "Current working set of the pod in bytes",
        pods().map(|(labels, pod)| (labels, pod.working_set().to_string(), stats.at)).collect(),
    );
    text.push_str(
        "# HELP resource_scrape_error [STABLE] 1 if there was an error while getting container metrics, 0 otherwise\n\
         # TYPE resource_scrape_error gauge\nresource_scrape_error 0\n",
    );
    text
}

fn names(pod: &k8s_openapi::api::core::v1::Pod) -> (&str, &str) {
    let meta = &pod.metadata;
    (meta.name.as_deref().unwrap_or_default(), meta.namespace.as_deref().unwrap_or_default())
}

/// Nanoseconds as seconds.
fn seconds(nanoseconds: u64) -> String {
    format!("{}.{:09}", nanoseconds / 1_000_000_000, nanoseconds % 1_000_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::facts::Memory;
    use crate::stats::{ContainerStats, Cpu, PodStats};
    use edgek_node_runtime::{Stats, Usage};
    use std::sync::Arc;

    #[test]
    fn metrics_server_reads_names_values_and_times() {
        let at = Timestamp::from_millisecond(5_500).unwrap();
        let usage = Stats {
            at,
            cpu_usage_ns: 0,
            memory_usage: 0,
            memory_working_set: 4096,
            memory_rss: 0,
            page_faults: 0,
            major_page_faults: 0,
            processes: 1,
            writable_layer: Usage::default(),
        };
        let cpu = Cpu { total_ns: 1_500_000_000, nanocores: 0 };
        let container = ContainerStats {
            name: "c".to_owned(),
            started: Timestamp::from_second(3).unwrap(),
            cpu,
            usage,
            log_bytes: 0,
        };
        let pod = Arc::new(crate::sample::pod(&serde_json::json!({"containers": []})));
        let stats = NodeStats {
            at,
            name: "n".to_owned(),
            booted: Timestamp::UNIX_EPOCH,
            cpu,
            memory: Memory { total: 10, free: 4, available: 5, inactive_file: 2, anonymous: 1 },
            tasks: None,
            disk: None,
            image_disk: None,
            pods: vec![PodStats { pod, cpu, containers: vec![container] }],
        };
        let text = resource(&stats);
        for line in [
            "container_cpu_usage_seconds_total{container=\"c\",namespace=\"default\",pod=\"web\"} 1.500000000 5500",
            "container_memory_working_set_bytes{container=\"c\",namespace=\"default\",pod=\"web\"} 4096 5500",
            "container_start_time_seconds{container=\"c\",namespace=\"default\",pod=\"web\"} 3.000000000 5500",
            "node_cpu_usage_seconds_total 1.500000000 5500",
            "node_memory_working_set_bytes 4 5500",
            "pod_memory_working_set_bytes{namespace=\"default\",pod=\"web\"} 4096 5500",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
        }
    }
}
