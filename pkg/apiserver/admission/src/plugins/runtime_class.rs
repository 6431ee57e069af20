//! `RuntimeClass`: a pod's overhead and a part of where it may run come from its RuntimeClass.
//!
//! As upstream's `plugin/pkg/admission/runtimeclass` and `pkg/util/tolerations`.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::Value;

use crate::fields::{Fields, same};
use crate::{Error, Lookup, Operation, Phases, Plugin, Request};

/// The plugin.
pub struct RuntimeClass {
    objects: Arc<dyn Lookup>,
}

impl RuntimeClass {
    /// The plugin, looking classes up in `objects`.
    pub fn new(objects: Arc<dyn Lookup>) -> Self {
        Self { objects }
    }

    /// The class a pod names, or null.
    fn class(&self, pod: &Value) -> Result<Value, Error> {
        let Some(name) = pod.at("spec.runtimeClassName").as_str() else { return Ok(Value::Null) };
        self.objects
            .get("node.k8s.io", "runtimeclasses", "", name)
            .ok_or_else(|| Error::forbidden(format!("pod rejected: RuntimeClass {name:?} not found")))
    }
}

#[async_trait]
impl Plugin for RuntimeClass {
    fn phases(&self, request: &Request<'_>) -> Phases {
        let creates = request.operation == Operation::Create && request.is("", "pods");
        if creates { Phases::Both } else { Phases::None }
    }

    async fn mutate(&self, _: &Request<'_>, pod: &mut Value) -> Result<(), Error> {
        let class = self.class(pod)?;
        set_overhead(pod, &class)?;
        set_scheduling(pod.object_mut("spec"), class.at("scheduling"))
    }

    async fn validate(&self, _: &Request<'_>, pod: &Value) -> Result<(), Error> {
        let class = self.class(pod)?;
        if !class.has("overhead") && pod.has("spec.overhead") {
            return Err(Error::forbidden(
                "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead",
            ));
        }
        if class.has("overhead") && !same(class.at("overhead.podFixed"), pod.at("spec.overhead")) {
            return Err(mismatch());
        }
        Ok(())
    }
}

fn mismatch() -> Error {
    Error::forbidden("pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead")
}

fn set_overhead(pod: &mut Value, class: &Value) -> Result<(), Error> {
    let (fixed, given) = (class.at("overhead.podFixed"), pod.at("spec.overhead"));
    if !same(given, &Value::Null) && class.has("overhead") && !same(fixed, given) {
        return Err(mismatch());
    }
    if !fixed.is_null() {
        pod.object_mut("spec").set("overhead", fixed.clone());
    }
    Ok(())
}

fn set_scheduling(spec: &mut Value, scheduling: &Value) -> Result<(), Error> {
    for (key, value) in scheduling.entries("nodeSelector") {
        let selector = spec.object_mut("nodeSelector");
        if let Some(given) = selector.get(key).filter(|given| *given != value) {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            return Err(Error::forbidden(format!(
                "conflict: runtimeClass.scheduling.nodeSelector[{key}] = {}; pod.spec.nodeSelector[{key}] = {}",
                text(value),
                text(given)
            )));
        }
        selector.set(key, value.clone());
    }
    if !scheduling.is_null() && spec.has("tolerations") || scheduling.has("tolerations") {
        let merged = merge(spec.items("tolerations"), scheduling.items("tolerations"));
        spec.set("tolerations", merged);
    }
    Ok(())
}

/// Two lists of tolerations as one, without those that another one contains.
fn merge(first: &[Value], second: &[Value]) -> Vec<Value> {
    let all: Vec<&Value> = first.iter().chain(second).collect();
    let mut merged: Vec<Value> = Vec::new();
    for (index, toleration) in all.iter().enumerate() {
        let known = merged.iter().any(|other| contains(other, toleration));
        // Of equal ones the first stays.
        let later =
            all[index + 1..].iter().any(|other| !same(other, toleration) && contains(other, toleration));
        if !known && !later {
            merged.push((*toleration).clone());
        }
    }
    merged
}

/// Whether whatever `inner` tolerates is tolerated by `outer`.
fn contains(outer: &Value, inner: &Value) -> bool {
    if same(outer, inner) {
        return true;
    }
    let exists = outer.text("operator") == "Exists";
    let any_key = outer.text("key").is_empty() && exists;
    let any_effect = outer.text("effect").is_empty();
    if (outer.text("key") != inner.text("key") && !any_key)
        || (outer.text("effect") != inner.text("effect") && !any_effect)
    {
        return false;
    }
    if outer.text("effect") == "NoExecute"
        && let Some(most) = outer.number("tolerationSeconds")
        && inner.number("tolerationSeconds").is_none_or(|seconds| seconds > most)
    {
        return false;
    }
    match outer.text("operator") {
        "" | "Equal" => inner.text("operator") == "Equal" && inner.text("value") == outer.text("value"),
        _ => exists,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pod_gets_the_node_selector_and_the_tolerations_of_its_class() {
        let class = json!({
            "nodeSelector": {"a": "1"},
            "tolerations": [{"key": "k", "operator": "Exists"}, {"key": "l", "operator": "Exists"}],
        });
        let narrower = json!({"key": "k", "operator": "Equal", "value": "v", "effect": "NoSchedule"});
        let mut spec = json!({"nodeSelector": {"b": "2"}, "tolerations": [narrower]});
        set_scheduling(&mut spec, &class).unwrap();
        assert_eq!(spec.at("nodeSelector"), &json!({"a": "1", "b": "2"}));
        assert_eq!(spec.at("tolerations"), class.at("tolerations"));
    }

    #[test]
    fn a_pod_may_not_select_against_its_class() {
        let mut spec = json!({"nodeSelector": {"a": "2"}});
        let error = set_scheduling(&mut spec, &json!({"nodeSelector": {"a": "1"}})).unwrap_err();
        let expected = "conflict: runtimeClass.scheduling.nodeSelector[a] = 1; pod.spec.nodeSelector[a] = 2";
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn the_overhead_of_a_pod_is_that_of_its_class() {
        let class = json!({"overhead": {"podFixed": {"cpu": "1"}}});
        let mut pod = json!({"spec": {}});
        set_overhead(&mut pod, &class).unwrap();
        assert_eq!(pod.at("spec.overhead"), &json!({"cpu": "1"}));
        let mut pod = json!({"spec": {"overhead": {"cpu": "2"}}});
        assert_eq!(set_overhead(&mut pod, &class), Err(mismatch()));
    }
}
