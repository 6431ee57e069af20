//! Events end an hour after they last happened, as upstream's `--event-ttl`. Nothing runs while there are none.

use std::time::{Duration, SystemTime};

use edgek_api::time;
use edgek_apiserver_admission::fields::Fields;
use edgek_store_watch::{ListOptions, WriteError};
use serde_json::Value;

use crate::Registry;
use crate::attempt::Key;

/// How long an event is kept.
const LIFETIME: Duration = Duration::from_secs(3600);
/// Events that end within such a time are removed together: flash and watchers are spared.
const ROUND: Duration = Duration::from_secs(300);

impl Registry {
    /// Removes events whose time is over, for ever.
    pub async fn expire_events(&self) {
        loop {
            match self.remove_expired(SystemTime::now()).await {
                Some(next) => {
                    let wait = next.duration_since(SystemTime::now()).unwrap_or_default();
                    edgek_base_lifecycle::sleep(wait.max(ROUND)).await;
                }
                None => self.event_created.notified().await,
            }
        }
    }

    /// Removes the events that have ended by `now` and tells when the next one will, if there is any.
    pub(crate) async fn remove_expired(&self, now: SystemTime) -> Option<SystemTime> {
        let resource = self.storage.builtin("", "events")?;
        let list = self.storage.collection(resource)?.list(&ListOptions::default()).ok()?;
        let mut next = None;
        for object in list.items {
            let event = serde_json::from_slice(object.bytes()).unwrap_or_default();
            let end = last_seen(&event).unwrap_or(now) + LIFETIME;
            if end > now {
                next = Some(next.map_or(end, |next: SystemTime| next.min(end)));
                continue;
            }
            let key = Key { resource, namespace: &object.meta().namespace, name: &object.meta().name };
            match self.storage.delete(&key, object.revision()).await {
                // One that has just happened again has its time before it.
                Ok(_) | Err(WriteError::Changed(_) | WriteError::Missing) => {}
                Err(error) => tracing::warn!(%error, "cannot remove an event whose time is over"),
            }
        }
        next
    }
}

/// When an event last happened.
fn last_seen(event: &Value) -> Option<SystemTime> {
    let fields = ["series.lastObservedTime", "lastTimestamp", "eventTime", "metadata.creationTimestamp"];
    fields.iter().filter_map(|field| time::parse(event.text(field))).max()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_event_was_last_seen_at_the_latest_of_its_times() {
        let event = json!({"lastTimestamp": "2026-01-01T00:00:02Z", "metadata": {"creationTimestamp": "2026-01-01T00:00:01Z"}});
        assert_eq!(last_seen(&event), time::parse("2026-01-01T00:00:02Z"));
        assert_eq!(last_seen(&json!({})), None);
    }
}
