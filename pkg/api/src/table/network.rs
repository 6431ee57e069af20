//! Services, ingresses, and what they point to.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::Printer;
use super::object::{Object, first_three, joined, or};
use crate::object::{get, items, number, text};

pub(super) const PRINTERS: &[Printer] = &[
    Printer::new("", "Service", "@Name,Type,Cluster-IP,External-IP,Port(s),Age,+Selector", |o| {
        vec![
            o.name(),
            json!(o.text("spec.type")),
            json!(o.texts("spec.clusterIPs").next().unwrap_or("<none>")),
            json!(external_ip(o)),
            json!(ports(o)),
            o.age(),
            o.labels("spec.selector"),
        ]
    }),
    Printer::new("", "Endpoints", "@Name,Endpoints,Age", |o| {
        let addresses: Vec<String> = o.items("subsets").iter().flat_map(subset).collect();
        let nothing = if o.items("subsets").is_empty() { "<none>" } else { "" };
        vec![o.name(), json!(first_three(&addresses, nothing)), o.age()]
    }),
    Printer::new("discovery.k8s.io", "EndpointSlice", "@Name,AddressType,Ports,Endpoints,Age", |o| {
        let ports: Vec<String> = o.items("ports").iter().map(slice_port).collect();
        let addresses = o.items("endpoints").iter().flat_map(|endpoint| items(endpoint, "addresses"));
        let addresses: Vec<String> = addresses.filter_map(Value::as_str).map(str::to_owned).collect();
        vec![
            o.name(),
            json!(o.text("addressType")),
            json!(first_three(&ports, "<unset>")),
            json!(first_three(&addresses, "<unset>")),
            o.age(),
        ]
    }),
    Printer::new("networking.k8s.io", "Ingress", "@Name,Class,Hosts,Address,Ports,Age", |o| {
        vec![
            o.name(),
            json!(o.text_or("spec.ingressClassName", "<none>")),
            json!(hosts(o.items("spec.rules"))),
            json!(balancer_addresses(o)),
            json!(if o.items("spec.tls").is_empty() { "80" } else { "80, 443" }),
            o.age(),
        ]
    }),
    Printer::new("networking.k8s.io", "IngressClass", "@Name,Controller,Parameters,Age", |o| {
        let is_default = o
            .get("metadata.annotations")
            .is_some_and(|annotations| annotations["ingressclass.kubernetes.io/is-default-class"] == "true");
        let mark = if is_default { " (default)" } else { "" };
        vec![
            json!(format!("{}{mark}", o.text("metadata.name"))),
            json!(o.text("spec.controller")),
            json!(parameters(o)),
            o.age(),
        ]
    }),
    Printer::new("networking.k8s.io", "NetworkPolicy", "@Name,Pod-Selector,Age", |o| {
        vec![o.name(), json!(or(o.selector_text_or_all("spec.podSelector"), "<none>")), o.age()]
    }),
    Printer::new("networking.k8s.io", "ServiceCIDR", "@Name,CIDRs,Age", |o| {
        vec![o.name(), json!(joined(o.texts("spec.cidrs"))), o.age()]
    }),
    Printer::new("networking.k8s.io", "IPAddress", "@Name,ParentRef", |o| vec![o.name(), json!(parent(o))]),
];

impl Object<'_> {
    /// A `LabelSelector` that selects everything when absent.
    fn selector_text_or_all(&self, path: &str) -> String {
        self.get(path).and_then(|_| self.selector_text(path)).unwrap_or_default()
    }
}

fn external_ip(o: &Object<'_>) -> String {
    let own = joined(o.texts("spec.externalIPs"));
    match o.text("spec.type") {
        "ClusterIP" | "NodePort" => or(own, "<none>"),
        "LoadBalancer" => {
            let given = balancer_addresses(o);
            or(joined([given, own].into_iter().filter(|addresses| !addresses.is_empty())), "<pending>")
        }
        "ExternalName" => o.text("spec.externalName").to_owned(),
        _ => "<unknown>".to_owned(),
    }
}

/// The addresses of a load balancer, sorted.
fn balancer_addresses(o: &Object<'_>) -> String {
    let address = |ingress: &'_ Value| or(text(ingress, "ip").to_owned(), text(ingress, "hostname"));
    let addresses: BTreeSet<String> = o.items("status.loadBalancer.ingress").iter().map(address).collect();
    joined(addresses.into_iter().filter(|address| !address.is_empty()))
}

fn ports(o: &Object<'_>) -> String {
    let port = |port: &Value| {
        let (number_of, protocol) =
            (|field: &str| number(port, field).unwrap_or_default(), text(port, "protocol"));
        match number_of("nodePort") {
            0 => format!("{}/{protocol}", number_of("port")),
            node => format!("{}:{node}/{protocol}", number_of("port")),
        }
    };
    or(joined(o.items("spec.ports").iter().map(port)), "<none>")
}

fn subset(subset: &Value) -> Vec<String> {
    let (addresses, ports) = (items(subset, "addresses"), items(subset, "ports"));
    let ip = |address: &Value| text(address, "ip").to_owned();
    if ports.is_empty() {
        return addresses.iter().map(ip).collect();
    }
    let on_port = |address: &Value, port: &Value| {
        let number = number(port, "port").unwrap_or_default();
        match ip(address) {
            v6 if v6.contains(':') => format!("[{v6}]:{number}"),
            v4 => format!("{v4}:{number}"),
        }
    };
    ports.iter().flat_map(|port| addresses.iter().map(move |address| on_port(address, port))).collect()
}

fn slice_port(port: &Value) -> String {
    number(port, "port").map_or_else(
        || get(port, "name").and_then(Value::as_str).unwrap_or("*").to_owned(),
        |p| p.to_string(),
    )
}

/// The first three hosts; more rules than that count, with and without hosts.
fn hosts(rules: &[Value]) -> String {
    let named: Vec<_> = rules
        .iter()
        .map(|rule| text(rule, "host"))
        .enumerate()
        .filter(|(_, host)| !host.is_empty())
        .collect();
    let shown = or(joined(named.iter().take(3).map(|(_, host)| host)), "*");
    match named.get(2) {
        Some((third, _)) if third + 1 < rules.len() => format!("{shown} + {} more...", rules.len() - 3),
        _ => shown,
    }
}

fn parameters(o: &Object<'_>) -> String {
    if o.get("spec.parameters").is_none() {
        return "<none>".to_owned();
    }
    let group = o.get("spec.parameters.apiGroup").and_then(Value::as_str).map(|group| format!(".{group}"));
    format!(
        "{}{}/{}",
        o.text("spec.parameters.kind"),
        group.unwrap_or_default(),
        o.text("spec.parameters.name")
    )
}

fn parent(o: &Object<'_>) -> String {
    if o.get("spec.parentRef").is_none() {
        return "<none>".to_owned();
    }
    let part = |field: &str, before: &str| match o.text(&format!("spec.parentRef.{field}")) {
        "" => String::new(),
        part => format!("{before}{part}"),
    };
    let resource = format!("{}{}", part("resource", ""), part("group", ".")).to_lowercase();
    format!("{resource}{}/{}", part("namespace", "/"), o.text("spec.parentRef.name"))
}
