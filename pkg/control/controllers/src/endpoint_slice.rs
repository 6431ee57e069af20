//! EndpointSlices: the addresses of the pods that a service selects, up to a hundred in a slice (upstream:
//! `endpointslice/endpointslice_controller.go`).

mod plan;
pub(crate) mod slice;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use edgek_client::{Client, Delete, Error};
use edgek_control_runtime::{Item, Key, Kind, Next, Queue, Recorder, run};

use crate::Start;
use crate::informers::Informers;
use crate::object::{self, is_namespace_ending, unless_gone};
use crate::service::{self, Service, TRIGGER_TIME, TriggerTimes, ZONE};
use slice::{Changes, EndpointSlice, MANAGED_BY, SERVICE_NAME};

const WORKERS: usize = 5;

#[derive(Clone)]
struct Controller {
    client: Client,
    informers: Arc<Informers>,
    times: TriggerTimes,
    events: Recorder,
}

/// Starts the controller; its keys are those of services, which whoever watches the services adds to the queue.
pub(crate) fn start(start: &Start<'_>, client: Client, services: &Queue<Key>) {
    let events = Recorder::start(start.scope, client.clone(), "endpoint-slice-controller", "");
    let informers = start.informers.clone();
    let waiting = services.clone();
    on_foreign_change(&informers, plan::CONTROLLER, move |service| waiting.add(service));
    let this = Controller { client, informers, times: TriggerTimes::default(), events };
    run(start.scope, "endpointslice-controller", services, WORKERS, move |key| {
        let this = this.clone();
        async move { this.reconcile(key).await }
    });
}

impl Controller {
    async fn reconcile(&self, key: Key) -> Result<Next, Error> {
        let Informers { services, pods, nodes, endpoint_slices, .. } = &*self.informers;
        services.synced().await;
        pods.synced().await;
        nodes.synced().await;
        endpoint_slices.synced().await;
        let Some(item) = services.item(&key) else {
            self.times.forget(&key);
            return Ok(Next::Wait);
        };
        let Some(service) = item.decode::<Service>().filter(Service::selects_pods) else {
            return Ok(Next::Wait);
        };
        let pods = service::pods(&self.informers, &service);
        let zone_of =
            |node: &str| Some(nodes.item(&Key::new("", node))?.labels.get(ZONE).cloned().unwrap_or_default());
        let time = self.times.next(&key, &service, &pods);
        let mut changes =
            plan::plan(&service, &pods, zone_of, slices(&self.informers, plan::CONTROLLER, &key));
        for slice in changes.create.iter_mut().chain(&mut changes.update) {
            slice.annotate(TRIGGER_TIME, time.as_deref());
        }
        if let Err(error) = apply(&self.client, &self.informers, &key.namespace, changes).await {
            let about = object::involved_item("v1", "Service", &item);
            let text = format!("Error updating Endpoint Slices for Service {key}: {error}");
            self.events.record(&about, Kind::Warning, "FailedToUpdateEndpointSlices", text);
            return Err(error);
        }
        Ok(Next::Wait)
    }
}

/// The slices of a service that a controller wrote.
pub(crate) fn slices(informers: &Informers, controller: &str, service: &Key) -> Vec<EndpointSlice> {
    let items = informers.endpoint_slices.items(&service.namespace);
    let of_service = items
        .iter()
        .filter(|item| is_managed(item, controller) && item.labels.get(SERVICE_NAME) == Some(&service.name));
    let decoded = of_service.filter_map(|item| item.decode::<EndpointSlice>());
    decoded.filter(|slice| !slice.is_terminating()).collect()
}

fn is_managed(item: &Item, controller: &str) -> bool {
    item.labels.get(MANAGED_BY).is_some_and(|manager| manager == controller)
}

/// Calls `wake` with the service of each slice of a controller that changes, whoever changes it.
pub(crate) fn on_foreign_change(
    informers: &Informers,
    controller: &'static str,
    wake: impl Fn(Key) + Send + Sync + 'static,
) {
    informers.endpoint_slices.on_change(move |change| {
        for item in change.old.into_iter().chain(change.new).filter(|item| is_managed(item, controller)) {
            if let Some(service) = item.labels.get(SERVICE_NAME) {
                wake(Key::new(&*item.key.namespace, &**service));
            }
        }
    });
}

/// Writes the changes, and waits until the informer shows them: the next plan must know them.
pub(crate) async fn apply(
    client: &Client,
    informers: &Informers,
    namespace: &str,
    changes: Changes,
) -> Result<(), Error> {
    let slices = client.untyped(slice::resource(), Some(namespace));
    let json = |slice: &EndpointSlice| serde_json::to_value(slice).map_err(Error::Decode);
    let mut last = None;
    for slice in &changes.create {
        match slices.create(&json(slice)?).await {
            Err(error) if is_namespace_ending(&error) => return Ok(()),
            created => last = Some(created?),
        }
    }
    for slice in &changes.update {
        last = Some(slices.replace(slice.name(), &json(slice)?).await?);
    }
    for slice in &changes.delete {
        unless_gone(slices.delete(slice.name(), &Delete::default()).await)?;
    }
    if let Some(last) = last {
        let revision = last["metadata"]["resourceVersion"].as_str().unwrap_or_default();
        informers.endpoint_slices.reached(revision).await;
    }
    Ok(())
}
