//! `Priority`: a pod's priority comes from its PriorityClass, and there is at most one default class.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::Value;

use crate::fields::Fields;
use crate::{Error, Lookup, Operation, Phases, Plugin, Request};

const GROUP: &str = "scheduling.k8s.io";

/// The plugin.
pub struct Priority {
    objects: Arc<dyn Lookup>,
}

impl Priority {
    /// The plugin, looking classes up in `objects`.
    pub fn new(objects: Arc<dyn Lookup>) -> Self {
        Self { objects }
    }

    /// The class a pod is in, if any: the one it names, or the default one.
    fn class(&self, name: &str) -> Result<Option<Value>, Error> {
        if name.is_empty() {
            let classes = self.objects.list(GROUP, "priorityclasses", "");
            // With several defaults, the lowest wins, as upstream.
            return Ok(classes
                .into_iter()
                .filter(|class| class.flag("globalDefault"))
                .min_by_key(|class| class.number("value")));
        }
        match self.objects.get(GROUP, "priorityclasses", "", name).or_else(|| system_class(name)) {
            Some(class) => Ok(Some(class)),
            None => Err(Error::forbidden(format!("no PriorityClass with name {name} was found"))),
        }
    }
}

/// The classes that exist before anybody creates them.
fn system_class(name: &str) -> Option<Value> {
    let value = match name {
        "system-node-critical" => 2_000_001_000,
        "system-cluster-critical" => 2_000_000_000,
        _ => return None,
    };
    Some(
        serde_json::json!({"metadata": {"name": name}, "value": value, "preemptionPolicy": "PreemptLowerPriority"}),
    )
}

#[async_trait]
impl Plugin for Priority {
    fn phases(&self, request: &Request<'_>) -> Phases {
        match request.operation {
            Operation::Create | Operation::Update if request.is("", "pods") => Phases::Mutate,
            Operation::Create | Operation::Update if request.is(GROUP, "priorityclasses") => Phases::Validate,
            _ => Phases::None,
        }
    }

    async fn mutate(&self, request: &Request<'_>, pod: &mut Value) -> Result<(), Error> {
        if let Some(old) = request.old {
            for field in ["priority", "preemptionPolicy"] {
                if let Some(value) = old.at("spec").get(field) {
                    pod.object_mut("spec").default(field, value.clone());
                }
            }
            return Ok(());
        }
        let class = self.class(pod.text("spec.priorityClassName"))?;
        let priority = class.as_ref().and_then(|class| class.number("value")).unwrap_or_default();
        let policy = class.as_ref().map_or("", |class| class.text("preemptionPolicy"));
        let policy = if policy.is_empty() { "PreemptLowerPriority" } else { policy };
        if let Some(given) = pod.number("spec.priority").filter(|given| *given != priority) {
            return Err(Error::forbidden(format!(
                "the integer value of priority ({given}) must not be provided in pod spec; priority admission controller computed {priority} from the given PriorityClass name"
            )));
        }
        let given = pod.text("spec.preemptionPolicy");
        if !given.is_empty() && given != policy {
            return Err(Error::forbidden(format!(
                "the string value of PreemptionPolicy ({given}) must not be provided in pod spec; priority admission controller computed {policy} from the given PriorityClass name"
            )));
        }
        let policy = policy.to_owned();
        let spec = pod.object_mut("spec");
        if let Some(class) = &class {
            spec.set("priorityClassName", class.text("metadata.name"));
        }
        spec.set("priority", priority);
        spec.set("preemptionPolicy", policy);
        Ok(())
    }

    async fn validate(&self, request: &Request<'_>, class: &Value) -> Result<(), Error> {
        if !class.flag("globalDefault") {
            return Ok(());
        }
        let other = self
            .objects
            .list(GROUP, "priorityclasses", "")
            .into_iter()
            .find(|other| other.flag("globalDefault") && other.text("metadata.name") != request.name);
        match other {
            None => Ok(()),
            Some(other) => Err(Error::forbidden(format!(
                "PriorityClass {} is already marked as default. Only one default can exist",
                other.text("metadata.name")
            ))),
        }
    }
}
