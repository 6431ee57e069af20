//! `Qos` and the limits that follow from a pod's requests: cgroup paths, CPU weight and quota, OOM score. Pure; the
//! pod task calls it when it makes a container.

use std::collections::BTreeMap;

use edgek_node_runtime::Resources;
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// The length of a CPU quota's period, in microseconds.
const CPU_PERIOD_US: u64 = 100_000;
/// The kernel takes no quota below a millisecond.
const MIN_QUOTA_US: i64 = 1_000;
/// The least `cpu.shares`, which is also what no request means.
const MIN_SHARES: u64 = 2;

type Quantities = Option<BTreeMap<String, Quantity>>;

/// The quality of service of a pod (`status.qosClass`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Qos {
    /// Every container has CPU and memory limits, and requests equal to them.
    Guaranteed,
    /// Something is requested or limited.
    Burstable,
    /// Nothing is.
    BestEffort,
}

impl Qos {
    /// The class of a pod, by the rules of upstream's `ComputePodQOS`: only CPU and memory count, zero counts as not set.
    pub fn of(spec: &PodSpec) -> Self {
        if let Some(resources) = &spec.resources {
            return Self::of_all(&[Some(resources)]);
        }
        let all: Vec<_> = all_containers(spec).map(|c| c.resources.as_ref()).collect();
        Self::of_all(&all)
    }

    fn of_all(all: &[Option<&ResourceRequirements>]) -> Self {
        let pairs = |name: &'static str| {
            all.iter().map(move |r| {
                let of = |q: fn(&ResourceRequirements) -> &Quantities| r.and_then(|r| milli(q(r), name));
                (of(|r| &r.requests).filter(|v| *v > 0), of(|r| &r.limits).filter(|v| *v > 0))
            })
        };
        let mut seen = pairs("cpu").chain(pairs("memory"));
        if seen.clone().all(|(request, limit)| request.is_none() && limit.is_none()) {
            return Self::BestEffort;
        }
        let equal = seen.all(|(request, limit)| limit.is_some() && (request.is_none() || request == limit));
        if equal { Self::Guaranteed } else { Self::Burstable }
    }

    /// The text in a pod's status.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Guaranteed => "Guaranteed",
            Self::Burstable => "Burstable",
            Self::BestEffort => "BestEffort",
        }
    }
}

/// The cgroup of a pod, below that of all pods, as upstream's cgroupfs driver names it.
pub fn pod_cgroup(pod: &Pod) -> String {
    let uid = pod.metadata.uid.as_deref().unwrap_or_default();
    match pod.spec.as_ref().map_or(Qos::BestEffort, Qos::of) {
        Qos::Guaranteed => format!("pod{uid}"),
        Qos::Burstable => format!("burstable/pod{uid}"),
        Qos::BestEffort => format!("besteffort/pod{uid}"),
    }
}

/// The limits of one container.
pub fn of_container(container: &Container) -> Resources {
    container.resources.as_ref().map_or_else(|| limits(None, None, None), of_requirements)
}

/// The limits of a whole pod: the sums over its containers, where every container has one.
pub fn of_pod(spec: &PodSpec) -> Resources {
    if let Some(resources) = &spec.resources {
        return of_requirements(resources);
    }
    let sum = |pick: fn(&ResourceRequirements) -> &Quantities, name: &str| -> Option<i64> {
        spec.containers.iter().map(|c| c.resources.as_ref().and_then(|r| milli(pick(r), name))).sum()
    };
    let requested: i64 = spec.containers.iter().filter_map(cpu_request).sum();
    limits(Some(requested), sum(|r| &r.limits, "cpu"), sum(|r| &r.limits, "memory").map(|value| value / 1000))
}

/// The OOM score adjustment of a container: what uses little of what it asked for is killed last.
pub fn oom_score_adj(spec: &PodSpec, container: &Container, memory_capacity: u64) -> i32 {
    const GUARANTEED: i32 = -997;
    const BEST_EFFORT: i32 = 1000;
    let critical = spec.priority.is_some_and(|priority| priority >= 2_000_000_000);
    match Qos::of(spec) {
        _ if critical => GUARANTEED,
        Qos::Guaranteed => GUARANTEED,
        Qos::BestEffort => BEST_EFFORT,
        Qos::Burstable => {
            let request =
                container.resources.as_ref().and_then(|r| bytes(&r.requests, "memory")).unwrap_or(0);
            let capacity = i64::try_from(memory_capacity).unwrap_or(i64::MAX).max(1);
            let share = 1000_i128 * i128::from(request) / i128::from(capacity);
            let adjust = 1000 - i32::try_from(share).unwrap_or(1000);
            adjust.clamp(1000 + GUARANTEED, BEST_EFFORT - 1)
        }
    }
}

/// A quantity in thousandths.
pub fn milli(quantities: &Quantities, name: &str) -> Option<i64> {
    parse(quantities, name).map(edgek_api::quantity::Quantity::milli_value)
}

/// A quantity in whole units, rounded up.
pub fn bytes(quantities: &Quantities, name: &str) -> Option<i64> {
    parse(quantities, name).map(edgek_api::quantity::Quantity::value)
}

fn parse(quantities: &Quantities, name: &str) -> Option<edgek_api::quantity::Quantity> {
    quantities.as_ref()?.get(name)?.0.parse().ok()
}

fn all_containers(spec: &PodSpec) -> impl Iterator<Item = &Container> {
    spec.init_containers.iter().flatten().chain(&spec.containers)
}

fn cpu_request(container: &Container) -> Option<i64> {
    container.resources.as_ref().and_then(|r| milli(&r.requests, "cpu").or_else(|| milli(&r.limits, "cpu")))
}

fn of_requirements(resources: &ResourceRequirements) -> Resources {
    let cpu_limit = milli(&resources.limits, "cpu");
    limits(milli(&resources.requests, "cpu").or(cpu_limit), cpu_limit, bytes(&resources.limits, "memory"))
}

fn limits(cpu_request: Option<i64>, cpu_limit: Option<i64>, memory: Option<i64>) -> Resources {
    let shares = cpu_request.map_or(0, |milli| u64::try_from(milli).unwrap_or(0) * 1024 / 1000);
    let cpu_limit = cpu_limit.filter(|milli| *milli > 0);
    Resources {
        cpu_shares: Some(shares.clamp(MIN_SHARES, 262_144)),
        cpu_quota_us: cpu_limit.map(|milli| (milli * (CPU_PERIOD_US as i64) / 1000).max(MIN_QUOTA_US)),
        cpu_period_us: cpu_limit.map(|_| CPU_PERIOD_US),
        memory_limit: memory.filter(|limit| *limit > 0),
        // Kubernetes gives no swap beyond the limit.
        memory_swap_limit: memory.filter(|limit| *limit > 0),
        ..Resources::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(resources: &[serde_json::Value]) -> Pod {
        let containers: Vec<_> = resources.iter().map(|r| json!({"name": "c", "resources": r})).collect();
        serde_json::from_value(json!({"metadata": {"uid": "u"}, "spec": {"containers": containers}})).unwrap()
    }

    #[test]
    fn the_class_follows_from_requests_and_limits() {
        let limits = json!({"limits": {"cpu": "1", "memory": "1Gi"}});
        let equal =
            json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1000m", "memory": "1Gi"}});
        let less = json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "100m"}});
        let check = |resources: &[serde_json::Value], expected: &str, cgroup: &str| {
            let pod = pod(resources);
            assert_eq!(Qos::of(pod.spec.as_ref().unwrap()).as_str(), expected, "{resources:?}");
            assert_eq!(pod_cgroup(&pod), cgroup);
        };
        check(&[json!({})], "BestEffort", "besteffort/podu");
        check(&[json!({"requests": {"cpu": "0"}})], "BestEffort", "besteffort/podu");
        check(std::slice::from_ref(&limits), "Guaranteed", "podu");
        check(&[equal], "Guaranteed", "podu");
        check(&[less], "Burstable", "burstable/podu");
        check(&[limits, json!({})], "Burstable", "burstable/podu");
        check(&[json!({"requests": {"example.com/gpu": "1"}})], "BestEffort", "besteffort/podu");
    }

    #[test]
    fn limits_become_shares_quota_and_bytes() {
        let pod = pod(&[json!({"limits": {"cpu": "500m", "memory": "64Mi"}, "requests": {"cpu": "250m"}})]);
        let spec = pod.spec.as_ref().unwrap();
        let resources = of_container(&spec.containers[0]);
        assert_eq!(resources.cpu_shares, Some(256));
        assert_eq!((resources.cpu_quota_us, resources.cpu_period_us), (Some(50_000), Some(100_000)));
        assert_eq!(resources.memory_limit, Some(64 << 20));
        assert_eq!(of_pod(spec), resources);
        assert_eq!(of_container(&Container::default()).cpu_shares, Some(2));
    }

    #[test]
    fn who_asks_for_more_memory_is_killed_later() {
        let check = |resources: serde_json::Value, expected: i32| {
            let pod = pod(std::slice::from_ref(&resources));
            let spec = pod.spec.as_ref().unwrap();
            assert_eq!(oom_score_adj(spec, &spec.containers[0], 4 << 30), expected, "{resources}");
        };
        check(json!({}), 1000);
        check(json!({"limits": {"cpu": "1", "memory": "1Gi"}}), -997);
        check(json!({"requests": {"memory": "1Gi"}}), 750);
        check(json!({"requests": {"memory": "8Gi"}}), 3);
        check(json!({"requests": {"cpu": "1"}}), 999);
    }
}
