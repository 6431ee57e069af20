//! The subresource `scale`: a small object that stands for the replicas of a large one.

use edgek_api::field::{ErrorList, Path};
use edgek_apiserver_admission::fields::Fields;
use serde_json::{Value, json};

use crate::error::{Error, Subject};
use crate::update::Change;

/// The `Scale` of a workload; `workload` carries its resource version.
pub fn of(workload: &Value) -> Value {
    let meta = workload.at("metadata");
    let mut scale = json!({
        "apiVersion": "autoscaling/v1",
        "kind": "Scale",
        "metadata": {},
        "spec": {},
        "status": {"replicas": workload.number("status.replicas").unwrap_or_default()},
    });
    for field in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        if let Some(value) = meta.get(field) {
            scale.object_mut("metadata").set(field, value.clone());
        }
    }
    let replicas = workload.number("spec.replicas").unwrap_or_default();
    if replicas != 0 {
        scale.object_mut("spec").set("replicas", replicas);
    }
    let selector = selector(workload.at("spec.selector"));
    if !selector.is_empty() {
        scale.object_mut("status").set("selector", selector);
    }
    scale
}

/// A label selector, or the plain map of a replication controller, in the form of a query.
fn selector(selector: &Value) -> String {
    let plain = !selector.has("matchLabels") && !selector.has("matchExpressions");
    let labels = if plain { selector } else { selector.at("matchLabels") };
    let equal = labels
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()));
    let mut terms: Vec<String> = equal.collect();
    for expression in selector.items("matchExpressions") {
        let key = expression.text("key");
        let mut values: Vec<&str> = expression.items("values").iter().filter_map(Value::as_str).collect();
        values.sort_unstable();
        let values = values.join(",");
        terms.push(match expression.text("operator") {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "Exists" => key.to_owned(),
            _ => format!("!{key}"),
        });
    }
    terms.sort_unstable();
    terms.join(",")
}

/// A change of a `Scale`, applied to the workload behind it.
pub struct ChangeScale<'a>(pub &'a dyn Change);

impl Change for ChangeScale<'_> {
    fn apply(&self, old: &Value) -> Result<Value, Error> {
        let scale = self.0.apply(&of(old))?;
        let name = scale.text("metadata.name");
        if name != old.text("metadata.name") {
            return Err(Error::BadRequest(format!(
                "the name of the object ({name}) does not match the name on the URL ({})",
                old.text("metadata.name")
            )));
        }
        let replicas = scale.number("spec.replicas").unwrap_or_default();
        if replicas < 0 {
            let mut problems = ErrorList::default();
            problems.invalid(&Path::Root("spec.replicas"), replicas, "must be greater than or equal to 0");
            let subject = Box::new(Subject {
                group: "autoscaling".into(),
                kind: "Scale".into(),
                name: name.to_owned(),
                ..Subject::default()
            });
            return Err(Error::Invalid { subject, problems });
        }
        let mut new = old.clone();
        new.object_mut("spec").set("replicas", replicas);
        match scale.text("metadata.resourceVersion") {
            "" => drop(new.object_mut("metadata").remove("resourceVersion")),
            version => new.object_mut("metadata").set("resourceVersion", version),
        }
        Ok(new)
    }

    fn uid(&self) -> &str {
        self.0.uid()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scale_shows_replicas_and_selector() {
        let workload = json!({
            "metadata": {"name": "web", "namespace": "a", "uid": "1", "resourceVersion": "5", "labels": {"x": "y"}},
            "spec": {"replicas": 3, "selector": {"matchLabels": {"app": "web"}, "matchExpressions": [{"key": "b", "operator": "In", "values": ["2", "1"]}]}},
            "status": {"replicas": 2},
        });
        assert_eq!(
            of(&workload),
            json!({
                "apiVersion": "autoscaling/v1", "kind": "Scale",
                "metadata": {"name": "web", "namespace": "a", "uid": "1", "resourceVersion": "5"},
                "spec": {"replicas": 3},
                "status": {"replicas": 2, "selector": "app=web,b in (1,2)"},
            })
        );
    }
}
