//! EndpointSlices for Endpoints that people write by hand (upstream:
//! `endpointslicemirroring/endpointslicemirroring_controller.go`).

mod plan;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use edgek_client::{Client, Error};
use edgek_control_runtime::{Item, Key, Kind, Next, Queue, Recorder, run};

use crate::Start;
use crate::endpoint_slice::slice::Changes;
use crate::endpoint_slice::{apply, on_foreign_change, slices};
use crate::endpoints::{Endpoints, LEADER};
use crate::informers::Informers;
use crate::object;
use crate::service::Service;
use plan::{CONTROLLER, MAX_ADDRESSES, plan};

const WORKERS: usize = 5;
const SKIP: &str = "endpointslice.kubernetes.io/skip-mirror";

#[derive(Clone)]
struct Controller {
    client: Client,
    informers: Arc<Informers>,
    events: Recorder,
}

/// Starts the controller; its keys are those of Endpoints.
pub(crate) fn start(start: &Start<'_>, client: Client) {
    let events = Recorder::start(start.scope, client.clone(), "endpoint-slice-mirroring-controller", "");
    let (informers, queue) = (start.informers.clone(), Queue::new());
    let waiting = queue.clone();
    informers.endpoints.on_change(move |change| {
        if change.old.into_iter().chain(change.new).any(is_mirrored) {
            waiting.add(change.key());
        }
    });
    let waiting = queue.clone();
    informers.services.on_change(move |change| {
        let selects = |item: &Item| item.decode::<Service>().is_some_and(|it| !it.spec.selector.is_empty());
        let (old, new) = (change.old.map(selects), change.new.map(selects));
        if old != new && (old == Some(false) || new == Some(false)) {
            waiting.add(change.key());
        }
    });
    let waiting = queue.clone();
    on_foreign_change(&informers, CONTROLLER, move |service| waiting.add(service));
    let this = Controller { client, informers, events };
    run(start.scope, "endpointslicemirroring-controller", &queue, WORKERS, move |key| {
        let this = this.clone();
        async move { this.reconcile(key).await }
    });
}

/// Whether Endpoints are to be seen as slices, too.
fn is_mirrored(item: &Item) -> bool {
    let leads = |endpoints: Endpoints| endpoints.strings("annotations").contains_key(LEADER);
    item.labels.get(SKIP).is_none_or(|skip| skip != "true") && !item.decode().is_some_and(leads)
}

impl Controller {
    async fn reconcile(&self, key: Key) -> Result<Next, Error> {
        let Informers { services, endpoints, endpoint_slices, .. } = &*self.informers;
        services.synced().await;
        endpoints.synced().await;
        endpoint_slices.synced().await;
        let service = services.item(&key).and_then(|item| item.decode::<Service>());
        let by_hand = service.is_some_and(|service| service.spec.selector.is_empty());
        let item = endpoints.item(&key).filter(|item| by_hand && is_mirrored(item));
        let there = slices(&self.informers, CONTROLLER, &key);
        let changes = match &item {
            None => Changes { delete: there, ..Changes::default() },
            Some(item) => {
                let endpoints = item.decode::<Endpoints>().unwrap_or_default();
                let (changes, skipped) = plan(&key.name, &item.uid, &endpoints, there);
                self.tell(item, skipped);
                changes
            }
        };
        apply(&self.client, &self.informers, &key.namespace, changes).await?;
        Ok(Next::Wait)
    }

    fn tell(&self, item: &Item, skipped: usize) {
        if skipped > 0 {
            let about = object::involved_item("v1", "Endpoints", item);
            let text = format!(
                "A max of {MAX_ADDRESSES} addresses can be mirrored to EndpointSlices per Endpoints subset. {skipped} addresses were skipped"
            );
            self.events.record(&about, Kind::Warning, "TooManyAddressesToMirror", text);
        }
    }
}
