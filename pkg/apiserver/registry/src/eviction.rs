//! Evictions: a deletion of a pod that tells in its status why it ends.

use edgek_api::time;
use edgek_apiserver_admission::fields::Fields;
use edgek_apiserver_admission::{Admission, DryRun};
use serde_json::{Value, json};

use crate::Registry;
use crate::attempt::Key;
use crate::delete::Deletion;
use crate::error::Error;
use crate::options::DeleteOptions;
use crate::part::Part;
use crate::update::Change;

/// The condition `DisruptionTarget`.
struct Target<'a> {
    options: &'a DeleteOptions,
}

impl Change for Target<'_> {
    fn apply(&self, old: &Value) -> Result<Value, Error> {
        let mut new = old.clone();
        // A version that the pod must have is judged by the update.
        if let Some(version) = &self.options.resource_version {
            new.object_mut("metadata").set("resourceVersion", version.as_str());
        }
        let mut conditions = old.items("status.conditions").to_vec();
        conditions.retain(|condition| condition.text("type") != "DisruptionTarget");
        conditions.push(json!({
            "type": "DisruptionTarget", "status": "True", "lastTransitionTime": time::now_seconds(),
            "reason": "EvictionByEvictionAPI", "message": "Eviction API: evicting",
        }));
        new.object_mut("status").set("conditions", conditions);
        Ok(new)
    }

    fn uid(&self) -> &str {
        self.options.uid.as_deref().unwrap_or_default()
    }
}

impl Registry {
    /// Evicts a pod: it ends as by a deletion with these options.
    ///
    /// # Errors
    /// The pod does not exist, is not the one that is meant, or may not be deleted.
    pub async fn evict(
        &self,
        admission: &Admission<'_>,
        pod: Key<'_>,
        options: &DeleteOptions,
    ) -> Result<Deletion, Error> {
        if admission.dry_run() == DryRun::All {
            return self.delete(admission, pod, options).await;
        }
        self.update(admission, pod, Part::Status, &Target { options }).await?;
        self.delete(admission, pod, &DeleteOptions { resource_version: None, ..options.clone() }).await
    }
}
