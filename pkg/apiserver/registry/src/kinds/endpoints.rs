//! Endpoints.

use std::net::IpAddr;

use edgek_api::field::{ErrorList, Path};
use edgek_api::name;
use serde_json::Value;

use crate::pod::{NO_ADDRESS, port_number};
use crate::strategy::{PLAIN, Strategy, UpdateOfMissing};
use edgek_apiserver_admission::fields::Fields;

pub(super) const STRATEGY: Strategy =
    Strategy { default, validate, update_of_missing: UpdateOfMissing::Create, ..PLAIN };

fn default(endpoints: &mut Value) {
    for subset in endpoints.items_mut("subsets") {
        for port in subset.items_mut("ports") {
            port.default_empty("protocol", "TCP");
        }
    }
}

fn validate(endpoints: &Value, errors: &mut ErrorList) {
    let subsets = Path::Root("subsets");
    for (index, subset) in endpoints.items("subsets").iter().enumerate() {
        let path = subsets.index(index);
        let lists = ["addresses", "notReadyAddresses"];
        if lists.iter().all(|list| subset.items(list).is_empty()) {
            errors.required(&path, "must specify `addresses` or `notReadyAddresses`");
        }
        for list in lists {
            let list_path = path.field(list);
            for (index, endpoint) in subset.items(list).iter().enumerate() {
                address(endpoint, &list_path.index(index), errors);
            }
        }
        let ports = path.field("ports");
        let several = subset.items("ports").len() > 1;
        for (index, endpoint) in subset.items("ports").iter().enumerate() {
            port(endpoint, several, &ports.index(index), errors);
        }
    }
}

fn address(address: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let ip = address.text("ip");
    if ip.parse::<IpAddr>().is_err() {
        errors.invalid(&path.field("ip"), ip, NO_ADDRESS);
    }
    let hostname = address.text("hostname");
    if !hostname.is_empty() {
        errors.invalid_all(&path.field("hostname"), hostname, name::dns1123_label(hostname));
    }
    if let Some(node) = address.at("nodeName").as_str() {
        errors.invalid_all(&path.field("nodeName"), node, name::dns1123_subdomain(node));
    }
    endpoint_ip(ip, &path.field("ip"), errors);
}

/// An address that other machines can reach.
pub(super) fn endpoint_ip(text: &str, path: &Path<'_>, errors: &mut ErrorList) {
    let Ok(ip) = text.parse::<IpAddr>() else {
        return errors.invalid(path, text, "must be a valid IP address");
    };
    let (link_local, link_local_multicast) = match ip {
        IpAddr::V4(ip) => (ip.is_link_local(), ip.octets()[..3] == [224, 0, 0]),
        IpAddr::V6(ip) => (ip.is_unicast_link_local(), ip.segments()[0] & 0xff0f == 0xff02),
    };
    let detail = if ip.is_unspecified() {
        &format!("may not be unspecified ({text})")
    } else if ip.is_loopback() {
        "may not be in the loopback range (127.0.0.0/8, ::1/128)"
    } else if link_local {
        "may not be in the link-local range (169.254.0.0/16, fe80::/10)"
    } else if link_local_multicast {
        "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)"
    } else {
        return;
    };
    errors.invalid(path, text, detail);
}

fn port(port: &Value, named: bool, path: &Path<'_>, errors: &mut ErrorList) {
    match port.text("name") {
        "" if named => errors.required(&path.field("name"), ""),
        "" => {}
        name => errors.invalid_all(&path.field("name"), name, name::dns1123_label(name)),
    }
    port_number(port.number("port").unwrap_or_default(), &path.field("port"), errors);
    let protocol = port.text("protocol");
    if !["SCTP", "TCP", "UDP"].contains(&protocol) {
        errors.not_supported(&path.field("protocol"), protocol, &["SCTP", "TCP", "UDP"]);
    }
    if let Some(protocol) = port.at("appProtocol").as_str() {
        errors.invalid_all(&path.field("appProtocol"), protocol, name::qualified_name(protocol));
    }
}
