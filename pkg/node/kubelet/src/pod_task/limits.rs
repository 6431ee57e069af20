//! Why a pod may not run, or not on: admission, its deadline, eviction.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;

use super::{PodTask, has_ended};
use crate::admit::admit;
use crate::events::full_name;
use crate::status::Ending;

impl PodTask {
    /// Refuses a new pod that does not fit beside those that are here already or came before it.
    pub(super) fn admit(&mut self) {
        let is_new = self.sandbox.is_none() && self.runs.is_empty() && !was_started(&self.pod);
        if !is_new || self.ending != Ending::No {
            return;
        }
        // A node that is not known yet has no pods bound to it by the scheduler.
        let Some(node) = self.context.node.object() else { return };
        let age = |pod: &Pod| (pod.metadata.creation_timestamp.clone(), pod.metadata.uid.clone());
        let records = self.records.all();
        let others = records.iter().map(|record| &*record.pod).filter(|other| {
            other.metadata.uid != self.pod.metadata.uid
                && !has_ended(other)
                && (was_started(other) || age(other) < age(&self.pod))
        });
        if let Err(rejected) = admit(&node, &others.collect::<Vec<_>>(), &self.pod) {
            self.events.warning(&rejected.reason, &*rejected.message);
            let message = format!("Pod was rejected: {}", rejected.message);
            self.ending = Ending::Failed(rejected.reason, message);
        }
    }

    pub(super) fn check_deadline(&mut self) {
        let Some(left) = self.deadline_left().filter(Duration::is_zero) else { return };
        tracing::debug!(pod = full_name(&self.pod), ?left, "deadline exceeded");
        let message = "Pod was active on the node longer than the specified deadline";
        self.events.normal("DeadlineExceeded", message);
        self.ending = Ending::Failed("DeadlineExceeded".to_owned(), message.to_owned());
    }

    pub(super) fn check_eviction(&mut self) {
        let Some(message) = self.updates.borrow().evicted.clone() else { return };
        if self.ending == Ending::No {
            self.events.warning("Evicted", &*message);
            self.ending = Ending::Evicted(message);
        }
    }

    /// How long the pod may still run, if that is limited.
    pub(super) fn deadline_left(&self) -> Option<Duration> {
        let limit = u64::try_from(self.spec.active_deadline_seconds?).unwrap_or(0);
        let started = self.pod.status.as_ref()?.start_time.as_ref()?.0;
        let age = Duration::try_from(Timestamp::now().duration_since(started)).unwrap_or_default();
        Some(Duration::from_secs(limit).saturating_sub(age))
    }
}

/// Whether a kubelet has begun with the pod.
fn was_started(pod: &Pod) -> bool {
    pod.status.as_ref().is_some_and(|status| status.start_time.is_some())
}
