//! `Resources`: amounts by name, as pods request and nodes offer them.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, PodSpec};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// Amounts by resource name: CPU in thousandths, everything else in its own unit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resources(BTreeMap<String, i64>);

type Quantities = BTreeMap<String, Quantity>;

impl Resources {
    /// The amounts of a resource list. What is not a quantity counts as nothing: validation has refused it before.
    pub fn parse(quantities: Option<&Quantities>) -> Self {
        let amount = |(name, quantity): (&String, &Quantity)| {
            let quantity: edgek_api::quantity::Quantity = quantity.0.parse().ok()?;
            Some((name.clone(), if name == "cpu" { quantity.milli_value() } else { quantity.value() }))
        };
        Self(quantities.into_iter().flatten().filter_map(amount).collect())
    }

    /// The amount of one resource.
    pub fn get(&self, name: &str) -> i64 {
        self.0.get(name).copied().unwrap_or_default()
    }

    /// The resources and their amounts, in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, i64)> {
        self.0.iter().map(|(name, amount)| (name.as_str(), *amount))
    }

    /// Adds `other`.
    pub fn add(&mut self, other: &Self) {
        for (name, amount) in &other.0 {
            *self.0.entry(name.clone()).or_default() += amount;
        }
    }

    /// Takes `other` away.
    pub fn subtract(&mut self, other: &Self) {
        for (name, amount) in &other.0 {
            *self.0.entry(name.clone()).or_default() -= amount;
        }
    }

    fn raise_to(&mut self, other: &Self) {
        for (name, amount) in &other.0 {
            let mine = self.0.entry(name.clone()).or_default();
            *mine = (*mine).max(*amount);
        }
    }
}

/// What a pod requests: the sum of its containers and sidecars, or what its initialisation needs if that is more, plus
/// its overhead; requests of the pod itself replace the sum (upstream's `resourcehelper.PodRequests`).
pub fn pod_requests(spec: &PodSpec) -> Resources {
    let mut total = Resources::default();
    for container in &spec.containers {
        total.add(&container_requests(container));
    }
    let (mut sidecars, mut peak) = (Resources::default(), Resources::default());
    for container in spec.init_containers.iter().flatten() {
        let own = container_requests(container);
        let mut meanwhile = sidecars.clone();
        meanwhile.add(&own);
        peak.raise_to(&meanwhile);
        if container.restart_policy.as_deref() == Some("Always") {
            sidecars.add(&own);
            total.add(&own);
        }
    }
    total.raise_to(&peak);
    let of_pod = spec.resources.as_ref().and_then(|resources| resources.requests.as_ref());
    total.0.extend(Resources::parse(of_pod).0);
    total.add(&Resources::parse(spec.overhead.as_ref()));
    total
}

fn container_requests(container: &Container) -> Resources {
    Resources::parse(container.resources.as_ref().and_then(|resources| resources.requests.as_ref()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn check(spec: Value, cpu: i64, memory: i64) {
        let spec: PodSpec = serde_json::from_value(spec.clone()).unwrap();
        let requests = pod_requests(&spec);
        assert_eq!((requests.get("cpu"), requests.get("memory")), (cpu, memory), "{spec:?}");
    }

    fn requests(cpu: &str, memory: &str) -> Value {
        json!({"requests": {"cpu": cpu, "memory": memory}})
    }

    #[test]
    fn a_pod_requests_what_it_needs_at_its_hungriest() {
        let container = |resources: Value| json!({"name": "c", "resources": resources});
        check(
            json!({"containers": [container(requests("100m", "1Ki")), container(requests("1", "2Ki"))]}),
            1100,
            3072,
        );
        check(
            json!({
                "containers": [container(requests("100m", "1Ki"))],
                "initContainers": [container(requests("2", "512"))],
            }),
            2000,
            1024,
        );
        let sidecar = json!({"name": "s", "restartPolicy": "Always", "resources": requests("50m", "0")});
        check(
            json!({
                "containers": [container(requests("100m", "1Ki"))],
                "initContainers": [sidecar, container(requests("2", "512"))],
            }),
            2050,
            1024,
        );
        check(
            json!({
                "containers": [container(requests("100m", "1Ki"))],
                "overhead": {"cpu": "10m"},
                "resources": requests("3", "8Ki"),
            }),
            3010,
            8192,
        );
    }
}
