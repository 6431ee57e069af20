//! EndpointSlices.

use serde_json::Value;

use crate::meta::immutable;
use crate::strategy::{Generation, PLAIN, Strategy};
use edgek_api::field::{ErrorList, Path};
use edgek_apiserver_admission::fields::Fields;

pub(super) const STRATEGY: Strategy =
    Strategy { default, validate, validate_update, generation: Generation::CountedWith("labels"), ..PLAIN };

const TYPES: [&str; 3] = ["FQDN", "IPv4", "IPv6"];

fn default(slice: &mut Value) {
    for port in slice.items_mut("ports") {
        port.default("name", "");
        port.default("protocol", "TCP");
    }
}

fn validate(slice: &Value, errors: &mut ErrorList) {
    let kind = slice.text("addressType");
    let path = Path::Root("addressType");
    match kind {
        "" => errors.required(&path, ""),
        known if TYPES.contains(&known) => {}
        other => errors.not_supported(&path, other, &TYPES),
    }
    let endpoints = Path::Root("endpoints");
    for (index, endpoint) in slice.items("endpoints").iter().enumerate() {
        let addresses = endpoints.index(index);
        let addresses = addresses.field("addresses");
        if endpoint.items("addresses").is_empty() {
            errors.required(&addresses, "must contain at least 1 endpoint");
        }
        for (index, address) in endpoint.items("addresses").iter().enumerate() {
            let address = address.as_str().unwrap_or_default();
            let valid = match kind {
                "IPv4" => address.parse::<std::net::Ipv4Addr>().is_ok(),
                "IPv6" => address.parse::<std::net::Ipv6Addr>().is_ok(),
                _ => true,
            };
            if !valid {
                errors.invalid(&addresses.index(index), address, &format!("must be an {kind} address"));
            }
        }
    }
}

fn validate_update(new: &Value, old: &Value, errors: &mut ErrorList) {
    immutable(new.at("addressType"), old.at("addressType"), &Path::Root("addressType"), errors);
}
