//! The cluster's names: DNS answers from Services, EndpointSlices and Namespaces; other names are forwarded.
//!
//! `cmd/edgek` starts it on every node, at the cluster DNS address that every node has for itself. So names cost no
//! hop over the network, and those that are known stay known while the API server does not answer.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "tests"))]

mod answer;
mod forward;
mod object;
mod respond;
mod serve;
#[cfg(test)]
mod tests;
mod upstream;
mod wire;
mod zone;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use edgek_base_lifecycle::Scope;
use edgek_control_runtime::{Change, Informers, Item};
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use parking_lot::RwLock;
use tokio::net::{TcpListener, UdpSocket};

use crate::forward::Forwarder;
use crate::object::{Namespaced, Service, ServiceObject, SliceObject};
use crate::respond::Responder;
use crate::zone::Zone;

const PORT: u16 = 53;
/// The label of a slice that names its service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// What is served, and where.
#[derive(Debug, Clone)]
pub struct Config {
    /// The cluster DNS address, which the node must have.
    pub address: Ipv4Addr,
    /// The cluster's domain: `cluster.local`.
    pub domain: String,
    /// The ranges of pods and services, whose reverse names nobody else knows: network and prefix length.
    pub ranges: Vec<(Ipv4Addr, u8)>,
    /// Lists the host's name servers.
    pub resolv_conf: PathBuf,
}

/// Why names cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The port cannot be had.
    #[error("listening on {address}/{protocol}")]
    Listen {
        /// The address and port.
        address: SocketAddr,
        /// `udp` or `tcp`.
        protocol: &'static str,
        /// What the kernel says.
        source: std::io::Error,
    },
}

/// Serves names until the scope ends.
///
/// # Errors
/// When port 53 of the address cannot be had.
pub async fn start(scope: &Scope, config: Config, informers: &Informers) -> Result<(), Error> {
    let address = SocketAddr::new(config.address.into(), PORT);
    let failed = |protocol| move |source| Error::Listen { address, protocol, source };
    let udp = UdpSocket::bind(address).await.map_err(failed("udp"))?;
    let tcp = TcpListener::bind(address).await.map_err(failed("tcp"))?;
    let responder = Arc::new(Responder {
        zone: RwLock::new(Zone::new(&config.domain, address.ip(), config.ranges)),
        is_complete: AtomicBool::new(false),
        forwarder: Forwarder::new(config.resolv_conf, address.ip()),
    });
    follow(scope, informers, &responder);
    scope.spawn("dns over udp", serve::udp(udp, responder.clone(), scope.clone()));
    scope.spawn("dns over tcp", serve::tcp(tcp, responder, scope.clone()));
    Ok(())
}

/// Keeps the zone up to date.
fn follow(scope: &Scope, informers: &Informers, responder: &Arc<Responder>) {
    let namespaces = informers.cluster::<core::Namespace>();
    let services = informers.namespaced::<core::Service>();
    let slices = informers.namespaced::<EndpointSlice>();
    let this = responder.clone();
    namespaces.on_change(move |change| {
        this.zone.write().set_namespace(&change.key().name, change.new.is_some());
    });
    let this = responder.clone();
    services.on_change(move |change| {
        let service = change.new.and_then(Item::decode::<ServiceObject>).map(Service::from);
        let key = change.key();
        this.zone.write().set_service(&Namespaced { namespace: &key.namespace, name: &key.name }, service);
    });
    let this = responder.clone();
    slices.on_change(move |change| slice_changed(&mut this.zone.write(), change));
    let this = responder.clone();
    scope.spawn("dns zone", async move {
        namespaces.synced().await;
        services.synced().await;
        slices.synced().await;
        this.is_complete.store(true, Ordering::Relaxed);
    });
}

fn slice_changed(zone: &mut Zone, change: Change<'_>) {
    let key = change.key();
    let service = |item: Option<&Item>| item.and_then(|item| item.labels.get(SERVICE_NAME)).cloned();
    let (old, new) = (service(change.old), service(change.new));
    let namespace = &*key.namespace;
    if let Some(old) = old.filter(|old| new.as_ref() != Some(old)) {
        zone.set_slice(&Namespaced { namespace, name: &old }, &key.name, None);
    }
    if let Some(new) = new {
        let endpoints = change.new.and_then(Item::decode::<SliceObject>).map(SliceObject::endpoints);
        zone.set_slice(&Namespaced { namespace, name: &new }, &key.name, endpoints);
    }
}
