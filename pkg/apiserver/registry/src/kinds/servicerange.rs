//! IPAddresses and ServiceCIDRs. Addresses of services come from the configured range and are read from the services
//! themselves, so neither kind decides anything here.

use edgek_api::field::ErrorList;
use edgek_api::name;
use edgek_apiserver_admission::fields::Fields;
use serde_json::Value;

use super::service::{NO_CIDR, is_cidr};
use super::workload::SPEC;
use crate::meta::immutable;
use crate::strategy::{Generation, PLAIN, SPEC_AND_STATUS, Strategy};

pub(super) const ADDRESS: Strategy = Strategy {
    name: name::Rule::Address,
    validate: validate_address,
    validate_update: validate_address_update,
    ..PLAIN
};

pub(super) const CIDR: Strategy = Strategy {
    generation: Generation::None,
    validate: validate_cidr,
    validate_update: validate_cidr_update,
    ..SPEC_AND_STATUS
};

fn validate_address(address: &Value, errors: &mut ErrorList) {
    let parent = SPEC.field("parentRef");
    if !address.has("spec.parentRef") {
        return errors.required(&parent, "");
    }
    for field in ["resource", "name"] {
        if address.at("spec.parentRef").text(field).is_empty() {
            errors.required(&parent.field(field), "");
        }
    }
}

fn validate_address_update(new: &Value, old: &Value, errors: &mut ErrorList) {
    immutable(new.at("spec.parentRef"), old.at("spec.parentRef"), &SPEC.field("parentRef"), errors);
}

fn validate_cidr(object: &Value, errors: &mut ErrorList) {
    let (path, cidrs) = (SPEC.field("cidrs"), object.items("spec.cidrs"));
    match cidrs.len() {
        0 => return errors.required(&path, "at least one CIDR required"),
        1 | 2 => {}
        _ => return errors.invalid(&path, object.at("spec").clone(), "may only hold up to 2 values"),
    }
    let cidrs: Vec<&str> = cidrs.iter().filter_map(Value::as_str).collect();
    for (index, cidr) in cidrs.iter().enumerate().filter(|(_, cidr)| !is_cidr(cidr)) {
        errors.invalid(&path.index(index), *cidr, NO_CIDR);
    }
    if let [first, second] = &*cidrs
        && first.contains(':') == second.contains(':')
    {
        let detail =
            "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64";
        errors.invalid(&path, object.at("spec.cidrs").clone(), detail);
    }
}

/// A range may get a second one of the other family, and does not change otherwise.
fn validate_cidr_update(new: &Value, old: &Value, errors: &mut ErrorList) {
    let path = SPEC.field("cidrs");
    let (before, after) = (old.items("spec.cidrs"), new.items("spec.cidrs"));
    if after.len() != before.len() && (before.len(), after.len()) != (1, 2) {
        return immutable(new.at("spec.cidrs"), old.at("spec.cidrs"), &path, errors);
    }
    for (index, (before, after)) in before.iter().zip(after).enumerate() {
        immutable(after, before, &path.index(index), errors);
    }
}
