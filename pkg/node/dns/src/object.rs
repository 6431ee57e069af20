//! What the names are made of: the parts of Services and EndpointSlices that DNS shows.

use std::net::IpAddr;
use std::sync::Arc;

use serde::Deserialize;

/// An object by its place.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Namespaced<'a> {
    pub(crate) namespace: &'a str,
    pub(crate) name: &'a str,
}

/// A service.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Service {
    /// None when it is headless.
    pub(crate) cluster_ips: Vec<IpAddr>,
    /// The name that it is an alias of.
    pub(crate) external_name: Option<String>,
    pub(crate) ports: Vec<Port>,
}

impl Service {
    pub(crate) fn is_headless(&self) -> bool {
        self.cluster_ips.is_empty()
    }
}

/// A port of a service or an endpoint.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Port {
    pub(crate) name: Box<str>,
    pub(crate) protocol: Box<str>,
    pub(crate) number: u16,
}

/// One address of an endpoint.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Endpoint {
    pub(crate) ip: IpAddr,
    hostname: Option<Box<str>>,
    pub(crate) ports: Arc<[Port]>,
}

impl Endpoint {
    /// Its label below the service's name: its host name, or its address with dashes.
    pub(crate) fn label(&self) -> String {
        match &self.hostname {
            Some(hostname) => hostname.to_string(),
            None => self.ip.to_string().replace(['.', ':'], "-"),
        }
    }
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(crate) struct ServiceObject {
    spec: ServiceSpec,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct ServiceSpec {
    #[serde(rename = "type")]
    kind: String,
    #[serde(rename = "clusterIP")]
    cluster_ip: String,
    #[serde(rename = "clusterIPs")]
    cluster_ips: Vec<String>,
    external_name: String,
    ports: Vec<PortObject>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct PortObject {
    name: String,
    protocol: String,
    port: u16,
}

impl From<PortObject> for Port {
    fn from(port: PortObject) -> Self {
        Self { name: port.name.into(), protocol: port.protocol.into(), number: port.port }
    }
}

impl From<ServiceObject> for Service {
    fn from(ServiceObject { spec }: ServiceObject) -> Self {
        if spec.kind == "ExternalName" {
            let external_name = Some(spec.external_name.trim_end_matches('.').to_ascii_lowercase());
            return Self { external_name, ..Self::default() };
        }
        let mut ips = spec.cluster_ips;
        if ips.is_empty() {
            ips.push(spec.cluster_ip);
        }
        Self {
            cluster_ips: ips.iter().filter_map(|ip| ip.parse().ok()).collect(),
            external_name: None,
            ports: spec.ports.into_iter().map(Port::from).collect(),
        }
    }
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(crate) struct SliceObject {
    endpoints: Vec<EndpointObject>,
    ports: Vec<PortObject>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct EndpointObject {
    addresses: Vec<String>,
    conditions: Conditions,
    hostname: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Conditions {
    ready: Option<bool>,
}

impl SliceObject {
    /// The addresses that are ready; those that say nothing are.
    pub(crate) fn endpoints(self) -> Vec<Endpoint> {
        let ports: Arc<[Port]> = self.ports.into_iter().map(Port::from).collect();
        let ready = self.endpoints.into_iter().filter(|endpoint| endpoint.conditions.ready != Some(false));
        let endpoints = ready.flat_map(|endpoint| {
            let hostname: Option<Box<str>> = endpoint.hostname.map(|name| name.to_ascii_lowercase().into());
            let ports = ports.clone();
            endpoint.addresses.into_iter().filter_map(move |ip| {
                Some(Endpoint { ip: ip.parse().ok()?, hostname: hostname.clone(), ports: ports.clone() })
            })
        });
        endpoints.collect()
    }
}
