//! Validation of resource requests and limits.

use edgek_api::name;
use edgek_api::quantity::Quantity;
use serde_json::Value;

use crate::pod::spec::NOT_NEGATIVE;
use edgek_api::field::{ErrorList, Path};
use edgek_apiserver_admission::fields::Fields;

/// The resources that a container may name without a domain.
const CONTAINER_RESOURCES: [&str; 3] = ["cpu", "memory", "ephemeral-storage"];

/// Validates the `resources` of a container.
pub(super) fn validate(resources: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let limits_path = path.field("limits");
    let requests_path = path.field("requests");
    let named =
        |name: &str| resources.at("limits").get(name).or(resources.at("requests").get(name)).is_some();
    let huge = resources.entries("limits").chain(resources.entries("requests"));
    if huge.into_iter().any(|(name, _)| name.starts_with("hugepages-")) && !named("cpu") && !named("memory") {
        errors.forbidden(path, "HugePages require cpu or memory");
    }
    for (name, limit) in resources.entries("limits") {
        quantity(name, limit, &limits_path.key(name), errors);
    }
    for (name, request) in resources.entries("requests") {
        let path = requests_path.key(name);
        let request = quantity(name, request, &path, errors);
        let limit = resources.at("limits").get(name);
        let overcommit = may_overcommit(name);
        match (request, limit.and_then(parse), limit) {
            (Some(request), Some(bound), Some(limit)) => {
                let text = limit.as_str().map_or_else(|| limit.to_string(), ToOwned::to_owned);
                if request != bound && !overcommit {
                    errors.invalid(
                        &requests_path,
                        shown(&request),
                        &format!("must be equal to {name} limit of {text}"),
                    );
                } else if request > bound {
                    errors.invalid(
                        &requests_path,
                        shown(&request),
                        &format!("must be less than or equal to {name} limit of {text}"),
                    );
                }
            }
            (_, _, None) if !overcommit => {
                errors.required(&limits_path, "Limit must be set for non overcommitable resources");
            }
            _ => {}
        }
    }
}

fn shown(quantity: &Quantity) -> String {
    quantity.to_string()
}

/// The quantity of a JSON string or number.
pub(crate) fn parse(value: &Value) -> Option<Quantity> {
    match value {
        Value::String(text) => text.parse().ok(),
        Value::Number(number) => number.to_string().parse().ok(),
        _ => None,
    }
}

fn quantity(name: &str, value: &Value, path: &Path<'_>, errors: &mut ErrorList) -> Option<Quantity> {
    resource_name(name, path, errors);
    let quantity = parse(value)?;
    if quantity < Quantity::default() {
        errors.invalid(path, shown(&quantity), NOT_NEGATIVE);
    }
    // What a vendor counts comes in whole pieces.
    if !may_overcommit(name) && !name.starts_with("hugepages-") && shown(&quantity).ends_with(['m', 'u', 'n'])
    {
        errors.invalid(path, shown(&quantity), "must be an integer");
    }
    Some(quantity)
}

fn resource_name(name: &str, path: &Path<'_>, errors: &mut ErrorList) {
    let problems = name::qualified_name(name);
    if !problems.is_empty() {
        errors.invalid_all(path, name, problems);
    } else if !name.contains('/') && !CONTAINER_RESOURCES.contains(&name) && !name.starts_with("hugepages-") {
        errors.invalid(path, name, "must be a standard resource type or fully qualified");
        errors.invalid(path, name, "must be a standard resource for containers");
    }
}

/// Whether more of a resource may be limited than is requested: not for huge pages and for resources of a vendor.
fn may_overcommit(name: &str) -> bool {
    let native = name.split_once('/').is_none_or(|(domain, _)| domain.contains("kubernetes.io"));
    native && !name.starts_with("hugepages-")
}
