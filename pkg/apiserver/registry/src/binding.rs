//! Bindings: the scheduler gives a pod its node.

use edgek_api::field::{ErrorList, Path};
use edgek_apiserver_admission::Admission;
use edgek_apiserver_admission::fields::Fields;
use serde_json::Value;

use crate::Registry;
use crate::attempt::Key;
use crate::error::{Error, Subject};
use crate::part::Part;
use crate::update::Change;

/// The node that a `Binding` gives to a pod.
struct Bind<'a> {
    binding: &'a Value,
    pod: &'a str,
}

impl Change for Bind<'_> {
    fn apply(&self, old: &Value) -> Result<Value, Error> {
        let target = self.binding.text("target.name");
        let conflict = |reason: String| Error::Conflict {
            subject: Box::new(Subject {
                kind: "pods/binding".into(),
                name: self.pod.to_owned(),
                ..Subject::default()
            }),
            reason,
        };
        if old.has("metadata.deletionTimestamp") {
            return Err(conflict(format!("pod {} is being deleted, cannot be assigned to a host", self.pod)));
        }
        let node = old.text("spec.nodeName");
        if !node.is_empty() {
            return Err(conflict(format!("pod {} is already assigned to node {node:?}", self.pod)));
        }
        if !old.items("spec.schedulingGates").is_empty() {
            return Err(conflict(format!("pod {} has non-empty .spec.schedulingGates", self.pod)));
        }
        let mut new = old.clone();
        new.object_mut("spec").set("nodeName", target);
        for (key, value) in self.binding.entries("metadata.annotations") {
            new.object_mut("metadata").object_mut("annotations").set(key, value.clone());
        }
        Ok(new)
    }

    fn uid(&self) -> &str {
        self.binding.text("metadata.uid")
    }
}

impl Registry {
    /// Binds a pod to a node.
    ///
    /// # Errors
    /// The binding names no node, or the pod is bound, gated, ending or gone.
    pub async fn bind(&self, admission: &Admission<'_>, pod: Key<'_>, binding: &Value) -> Result<(), Error> {
        let mut problems = ErrorList::default();
        let kind = binding.text("target.kind");
        if !["", "Node"].contains(&kind) {
            problems.not_supported(&Path::Root("target.kind"), kind, &["Node", "<empty>"]);
        }
        if binding.text("target.name").is_empty() {
            problems.required(&Path::Root("target.name"), "");
        }
        if !problems.is_empty() {
            let subject =
                Box::new(Subject { kind: "Binding".into(), name: pod.name.to_owned(), ..Subject::default() });
            return Err(Error::Invalid { subject, problems });
        }
        self.update(admission, pod, Part::Binding, &Bind { binding, pod: pod.name }).await.map(drop)
    }
}
