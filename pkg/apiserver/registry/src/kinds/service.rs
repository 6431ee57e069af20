//! Services. Their addresses and node ports come from `service_range`.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use edgek_api::name;
use serde_json::{Value, json};

use super::endpoints::endpoint_ip;
use super::workload::SPEC;
use crate::labels;
use crate::pod::{NO_ADDRESS, port_number, port_number_or_name};
use crate::strategy::{Deleted, Generation, SPEC_AND_STATUS, Strategy, UpdateOfMissing};
use edgek_api::field::{ErrorList, Path};
use edgek_apiserver_admission::fields::{Fields, is_empty, same};

pub(super) const STRATEGY: Strategy = Strategy {
    name: name::Rule::Label,
    default,
    prepare_update,
    validate,
    validate_update,
    warnings,
    generation: Generation::None,
    update_of_missing: UpdateOfMissing::Create,
    deleted: Deleted::Object,
    ..SPEC_AND_STATUS
};

/// Whether a service has an address (or says it wants none).
pub(crate) fn has_cluster_ip(service: &Value) -> bool {
    matches!(service.text("spec.type"), "" | "ClusterIP" | "NodePort" | "LoadBalancer")
}

/// Whether a service is reached on a port of every node.
pub(crate) fn has_node_ports(service: &Value) -> bool {
    match service.text("spec.type") {
        "NodePort" => true,
        "LoadBalancer" => service.at("spec.allocateLoadBalancerNodePorts") != &Value::Bool(false),
        _ => false,
    }
}

/// Whether a service asks for no address.
pub(crate) fn is_headless(service: &Value) -> bool {
    service.text("spec.clusterIP") == "None"
}

/// Whether a service only gives a name to endpoints that others write: they may be of any family.
pub(crate) fn has_foreign_endpoints(service: &Value) -> bool {
    is_headless(service) && is_empty(service.at("spec.selector"))
}

fn is_external(service: &Value) -> bool {
    matches!(service.text("spec.type"), "NodePort" | "LoadBalancer")
        || (service.text("spec.type") == "ClusterIP" && !service.items("spec.externalIPs").is_empty())
}

fn warnings(service: &Value, _: Option<&Value>) -> Vec<String> {
    let spec = service.at("spec");
    let (kind, has_ips) = (spec.text("type"), !spec.items("externalIPs").is_empty());
    let is_name = kind == "ExternalName";
    let headless = kind == "ClusterIP" && is_headless(service);
    let warnings = [
        (
            headless && !spec.text("loadBalancerIP").is_empty(),
            "spec.loadBalancerIP is ignored for headless services",
        ),
        (headless && has_ips, "spec.externalIPs is ignored for headless services"),
        (
            headless && spec.text("sessionAffinity") != "None",
            "spec.SessionAffinity is ignored for headless services",
        ),
        (
            has_ips && !headless && !is_name,
            "spec.externalIPs is deprecated and may no longer be implemented in some clusters",
        ),
        (has_ips && is_name, "spec.externalIPs is ignored when spec.type is \"ExternalName\""),
        (
            !is_name && !spec.text("externalName").is_empty(),
            "spec.externalName is ignored when spec.type is not \"ExternalName\"",
        ),
        (
            spec.text("trafficDistribution") == "PreferClose",
            "spec.trafficDistribution: \"PreferClose\" is deprecated; use \"PreferSameZone\"",
        ),
    ];
    warnings.into_iter().filter(|(applies, _)| *applies).map(|(_, text)| text.to_owned()).collect()
}

/// Whether a load balancer asks each node whether it has pods of a service.
pub(crate) fn balances_locally(service: &Value) -> bool {
    service.text("spec.type") == "LoadBalancer" && service.text("spec.externalTrafficPolicy") == "Local"
}

fn default(service: &mut Value) {
    if service.text("spec.type") == "LoadBalancer"
        && let Some(balancer) = service.at_mut("status.loadBalancer")
    {
        let addresses = balancer.items_mut("ingress").filter(|ingress| !ingress.text("ip").is_empty());
        addresses.for_each(|ingress| ingress.default("ipMode", "VIP"));
    }
    let spec = service.object_mut("spec");
    spec.default_empty("sessionAffinity", "None");
    match spec.text("sessionAffinity") {
        "None" => drop(spec.remove("sessionAffinityConfig")),
        "ClientIP" if !spec.has("sessionAffinityConfig.clientIP.timeoutSeconds") => {
            spec.set("sessionAffinityConfig", json!({"clientIP": {"timeoutSeconds": 10800}}));
        }
        _ => {}
    }
    spec.default_empty("type", "ClusterIP");
    for port in spec.items_mut("ports") {
        port.default_empty("protocol", "TCP");
        let number = port.at("port").clone();
        port.default_empty("targetPort", number);
    }
    if spec.text("type") != "ExternalName" {
        spec.default("internalTrafficPolicy", "Cluster");
    }
    if spec.text("type") == "LoadBalancer" {
        spec.default("allocateLoadBalancerNodePorts", true);
    }
    // Older clients know the older spelling of the address only; newer ones say both.
    let address = spec.text("clusterIP").to_owned();
    if !address.is_empty() {
        spec.default_empty("clusterIPs", json!([address]));
    }
    if is_external(service) {
        service.object_mut("spec").default_empty("externalTrafficPolicy", "Cluster");
    }
}

fn prepare_update(new: &mut Value, old: &Value) {
    // Clients that know the older spelling of the address only change it alone.
    let (address, before) = (new.text("spec.clusterIP").to_owned(), old.text("spec.clusterIP"));
    if !address.is_empty() && address != before && new.at("spec.clusterIPs") == old.at("spec.clusterIPs") {
        new.object_mut("spec").set("clusterIPs", json!([address]));
    }
    keep_allocated(new, old);
    drop_unneeded(new, old);
}

/// An update that leaves out what was allocated keeps it.
fn keep_allocated(new: &mut Value, old: &Value) {
    if has_cluster_ip(old) && has_cluster_ip(new) {
        for field in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
            if let Some(value) = old.at("spec").get(field) {
                new.object_mut("spec").default_empty(field, value.clone());
            }
        }
    }
    if balances_locally(old) && balances_locally(new) {
        let port = old.at("spec.healthCheckNodePort").clone();
        new.object_mut("spec").default_empty("healthCheckNodePort", port);
    }
    if has_node_ports(old) && has_node_ports(new) {
        let in_use = |service: &Value| {
            service
                .items("spec.ports")
                .iter()
                .filter_map(|port| port.number("nodePort"))
                .collect::<BTreeSet<_>>()
        };
        let used = in_use(new);
        for port in new.object_mut("spec").items_mut("ports") {
            let before = old.items("spec.ports").iter().find(|old| old.text("name") == port.text("name"));
            if let Some(number) =
                before.and_then(|port| port.number("nodePort")).filter(|number| !used.contains(number))
            {
                port.default_empty("nodePort", number);
            }
        }
    }
}

/// An update to a type without an allocation, that does not touch the allocated value, gives it back.
fn drop_unneeded(new: &mut Value, old: &Value) {
    if has_cluster_ip(old) && !has_cluster_ip(new) {
        for field in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "internalTrafficPolicy"] {
            drop_if_same(new, old, field);
        }
    }
    if has_node_ports(old) && !has_node_ports(new) {
        for (port, old) in new.object_mut("spec").items_mut("ports").zip(old.items("spec.ports")) {
            if port.at("nodePort") == old.at("nodePort") {
                port.remove("nodePort");
            }
        }
    }
    if is_external(old) && !is_external(new) {
        drop_if_same(new, old, "externalTrafficPolicy");
    }
    if !balances_locally(new) {
        drop_if_same(new, old, "healthCheckNodePort");
    }
    if new.text("spec.type") != "LoadBalancer" {
        drop_if_same(new, old, "allocateLoadBalancerNodePorts");
        drop_if_same(new, old, "loadBalancerClass");
        if new.has("status.loadBalancer.ingress") {
            new.object_mut("status").set("loadBalancer", json!({}));
        }
    }
}

fn drop_if_same(new: &mut Value, old: &Value, field: &str) {
    if same(new.at("spec").at(field), old.at("spec").at(field)) {
        new.object_mut("spec").remove(field);
    }
}

fn validate(service: &Value, errors: &mut ErrorList) {
    let spec = service.at("spec");
    let kind = spec.text("type");
    if spec.items("ports").is_empty() && !is_headless(service) && kind != "ExternalName" {
        errors.required(&SPEC.field("ports"), "");
    }
    match kind {
        "LoadBalancer" | "NodePort" if is_headless(service) => {
            let path = SPEC.field("clusterIPs");
            errors.invalid(&path.index(0), "None", &format!("may not be set to 'None' for {kind} services"));
        }
        "ExternalName" => external_name(spec, errors),
        "ClusterIP" | "NodePort" | "LoadBalancer" => {}
        other => errors.not_supported(
            &SPEC.field("type"),
            other,
            &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"],
        ),
    }
    ports(spec, errors);
    labels::validate(spec.at("selector"), &SPEC.field("selector"), errors);
    let affinity = spec.text("sessionAffinity");
    if !["ClientIP", "None"].contains(&affinity) {
        errors.not_supported(&SPEC.field("sessionAffinity"), affinity, &["ClientIP", "None"]);
    }
    let ips = SPEC.field("externalIPs");
    for (index, ip) in spec.items("externalIPs").iter().enumerate() {
        let ip = ip.as_str().unwrap_or_default();
        if ip.parse::<IpAddr>().is_ok() {
            endpoint_ip(ip, &ips.index(index), errors);
        } else {
            errors.invalid(&ips.index(index), ip, NO_ADDRESS);
        }
    }
    addresses(service, errors);
    traffic(service, errors);
    load_balancer(spec, errors);
}

/// The addresses of the cluster are of one family here, and both spellings of a service's say the same.
fn addresses(service: &Value, errors: &mut ErrorList) {
    if !has_cluster_ip(service) || has_foreign_endpoints(service) {
        return;
    }
    let spec = service.at("spec");
    let first = spec.items("clusterIPs").first().and_then(Value::as_str).unwrap_or_default();
    if !first.is_empty() && first != spec.text("clusterIP") {
        let detail = match spec.text("clusterIP") {
            "" => "must be empty when `clusterIP` is not specified",
            _ => "first value must match `clusterIP`",
        };
        errors.invalid(&CLUSTER_IPS, spec.at("clusterIPs").clone(), detail);
    }
    let families = SPEC.field("ipFamilies");
    for (index, family) in spec.items("ipFamilies").iter().filter_map(Value::as_str).enumerate() {
        match family {
            "IPv4" => {}
            "IPv6" if first.parse::<Ipv4Addr>().is_ok() => {
                let detail = "expected an IPv6 value as indicated by `ipFamilies[0]`";
                errors.invalid(&CLUSTER_IPS.index(0), first, detail);
            }
            "IPv6" => errors.invalid(&families.index(index), family, "not configured on this cluster"),
            other => errors.not_supported(&families.index(index), other, &["IPv4", "IPv6"]),
        }
    }
    let policy = spec.text("ipFamilyPolicy");
    let path = SPEC.field("ipFamilyPolicy");
    let known = ["PreferDualStack", "RequireDualStack", "SingleStack"];
    if policy == "RequireDualStack" {
        errors.invalid(&path, policy, "this cluster is not configured for dual-stack services");
    } else if !policy.is_empty() && !known.contains(&policy) {
        errors.not_supported(&path, policy, &known);
    }
}

fn traffic(service: &Value, errors: &mut ErrorList) {
    let spec = service.at("spec");
    let policies = ["Cluster", "Local"];
    let internal = spec.text("internalTrafficPolicy");
    if !internal.is_empty() && !policies.contains(&internal) {
        errors.not_supported(&SPEC.field("internalTrafficPolicy"), internal, &policies);
    }
    let external = spec.text("externalTrafficPolicy");
    let path = SPEC.field("externalTrafficPolicy");
    if !external.is_empty() && !is_external(service) {
        errors.invalid(&path, external, "may only be set for externally-accessible services");
    } else if !external.is_empty() && !policies.contains(&external) {
        errors.not_supported(&path, external, &policies);
    }
    let health = spec.number("healthCheckNodePort");
    if let Some(port) = health.filter(|port| *port != 0 && !balances_locally(service)) {
        let detail = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'";
        errors.invalid(&SPEC.field("healthCheckNodePort"), port, detail);
    }
    let seconds = spec.number("sessionAffinityConfig.clientIP.timeoutSeconds");
    if let Some(seconds) = seconds.filter(|seconds| !(1..=86400).contains(seconds)) {
        let path = SPEC.field("sessionAffinityConfig.clientIP.timeoutSeconds");
        errors.invalid(&path, seconds, "must be greater than 0 and less than 86400");
    }
}

fn load_balancer(spec: &Value, errors: &mut ErrorList) {
    let balances = spec.text("type") == "LoadBalancer";
    let only = "may only be used when `type` is 'LoadBalancer'";
    // Upstream's spelling.
    let list = SPEC.field("LoadBalancerSourceRanges");
    let ranges = spec.items("loadBalancerSourceRanges");
    if !ranges.is_empty() && !balances {
        errors.forbidden(&list, only);
    }
    for (index, range) in ranges.iter().filter_map(Value::as_str).enumerate() {
        if !is_cidr(range.trim()) {
            errors.invalid(&list.index(index), range, NO_CIDR);
        }
    }
    if spec.has("loadBalancerClass") && !balances {
        errors.forbidden(&SPEC.field("loadBalancerClass"), only);
    }
}

/// What upstream says of text that is no range of addresses.
pub(super) const NO_CIDR: &str = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";

/// Whether a text is an address and the length of its prefix.
pub(super) fn is_cidr(text: &str) -> bool {
    let Some((address, length)) = text.split_once('/') else { return false };
    let most = match address.parse::<IpAddr>() {
        Ok(IpAddr::V4(_)) => 32,
        Ok(IpAddr::V6(_)) => 128,
        Err(_) => return false,
    };
    length.parse::<u8>().is_ok_and(|length| length <= most)
}

fn external_name(spec: &Value, errors: &mut ErrorList) {
    for field in ["clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
        if spec.has(field) {
            errors.forbidden(&SPEC.field(field), "may not be set for ExternalName services");
        }
    }
    let name = spec.text("externalName");
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.is_empty() {
        errors.required(&SPEC.field("externalName"), "");
    } else {
        errors.invalid_all(&SPEC.field("externalName"), name, name::dns1123_subdomain(name));
    }
}

fn ports(spec: &Value, errors: &mut ErrorList) {
    let list = SPEC.field("ports");
    let (mut names, mut numbers, mut node_ports) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    let ports = spec.items("ports");
    for (index, port) in ports.iter().enumerate() {
        let path = list.index(index);
        let name = port.text("name");
        if name.is_empty() && ports.len() > 1 {
            errors.required(&path.field("name"), "");
        } else if !name.is_empty() {
            errors.invalid_all(&path.field("name"), name, name::dns1123_label(name));
            if !names.insert(name) {
                errors.duplicate(&path.field("name"), name);
            }
        }
        let number = port.number("port").unwrap_or_default();
        port_number(number, &path.field("port"), errors);
        let protocol = port.text("protocol");
        if !["SCTP", "TCP", "UDP"].contains(&protocol) {
            errors.not_supported(&path.field("protocol"), protocol, &["SCTP", "TCP", "UDP"]);
        }
        port_number_or_name(port.at("targetPort"), &path.field("targetPort"), errors);
        let node_port = port.number("nodePort").filter(|number| *number != 0);
        if node_port.is_some() && spec.text("type") == "ClusterIP" {
            errors.forbidden(&path.field("nodePort"), "may not be used when `type` is 'ClusterIP'");
        }
        if let Some(node_port) = node_port
            && !node_ports.insert((protocol, node_port))
        {
            errors.duplicate(&path.field("nodePort"), node_port);
        }
        if !numbers.insert((protocol, number)) {
            errors.duplicate(&path, json!({"Name": "", "Protocol": protocol, "AppProtocol": null, "Port": number, "TargetPort": 0, "NodePort": 0}));
        }
    }
}

fn validate_update(new: &Value, old: &Value, errors: &mut ErrorList) {
    let ip = |service: &Value| service.items("spec.clusterIPs").first().cloned().unwrap_or_default();
    let path = SPEC.field("clusterIPs");
    let health = |service: &Value| service.number("spec.healthCheckNodePort").unwrap_or_default();
    if balances_locally(old) && balances_locally(new) && ![0, health(new)].contains(&health(old)) {
        errors.forbidden(&SPEC.field("healthCheckNodePort"), "field is immutable");
    }
    if has_cluster_ip(old) && has_cluster_ip(new) && !same(&ip(new), &ip(old)) {
        errors.invalid(&path.index(0), json!([ip(new)]), "may not change once set");
    }
}

/// The path that names the addresses of a service in errors.
pub(crate) const CLUSTER_IPS: Path<'static> = Path::Root("spec.clusterIPs");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_update_keeps_the_address_and_the_node_ports_it_leaves_out() {
        let old = json!({"spec": {"type": "NodePort", "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"],
            "ports": [{"name": "a", "port": 80, "nodePort": 30001}]}});
        let mut new = json!({"spec": {"type": "NodePort", "ports": [{"name": "a", "port": 81}]}});
        prepare_update(&mut new, &old);
        assert_eq!(new.text("spec.clusterIP"), "10.0.0.1");
        assert_eq!(new.items("spec.ports")[0].number("nodePort"), Some(30001));
        new.object_mut("spec").set("type", "ExternalName");
        prepare_update(&mut new, &old);
        assert_eq!(new, json!({"spec": {"type": "ExternalName", "ports": [{"name": "a", "port": 81}]}}));
    }
}
