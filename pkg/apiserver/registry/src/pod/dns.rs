//! Validation of a pod's `dnsConfig`.

use std::net::IpAddr;

use serde_json::{Value, json};

use edgek_api::field::{ErrorList, Path};
use edgek_apiserver_admission::fields::Fields;

const MAX_NAMESERVERS: usize = 3;
const MAX_SEARCHES: usize = 32;

/// What upstream says of text that is no address.
pub(crate) const NO_ADDRESS: &str = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";

/// Validates the `dnsConfig` of a pod spec, which one policy needs.
pub(super) fn validate(spec: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let (config, path) = (spec.at("dnsConfig"), path.field("dnsConfig"));
    let servers = config.items("nameservers");
    if spec.text("dnsPolicy") == "None" {
        if config.is_null() {
            errors.required(&path, "must provide `dnsConfig` when `dnsPolicy` is None");
            return;
        }
        if servers.is_empty() {
            let detail = "must provide at least one DNS nameserver when `dnsPolicy` is None";
            errors.required(&path.field("nameservers"), detail);
            return;
        }
    }
    let list = path.field("nameservers");
    if servers.len() > MAX_NAMESERVERS {
        let detail = format!("must not have more than {MAX_NAMESERVERS} nameservers");
        errors.invalid(&list, json!(servers), &detail);
    }
    for (index, server) in servers.iter().filter_map(Value::as_str).enumerate() {
        if server.parse::<IpAddr>().is_err() {
            errors.invalid(&list.index(index), server, NO_ADDRESS);
        }
    }
    let (searches, list) = (config.items("searches"), path.field("searches"));
    if searches.len() > MAX_SEARCHES {
        let detail = format!("must not have more than {MAX_SEARCHES} search paths");
        errors.invalid(&list, json!(searches), &detail);
    }
    for (index, search) in searches.iter().filter_map(Value::as_str).enumerate() {
        if search != "." && !search.strip_suffix('.').unwrap_or(search).split('.').all(is_search_label) {
            errors.invalid(&list.index(index), search, NO_SEARCH);
        }
    }
    let options = path.field("options");
    for (index, option) in config.items("options").iter().enumerate() {
        if option.text("name").is_empty() {
            errors.required(&options.index(index), "must not be empty");
        }
    }
}

const NO_SEARCH: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '_', '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?(\\._?[a-z0-9]([-_a-z0-9]*[a-z0-9])?)*')";

/// Lower-case letters and digits, with dashes and underscores inside and an underscore in front.
fn is_search_label(label: &str) -> bool {
    let label = label.strip_prefix('_').unwrap_or(label);
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    label.bytes().next().is_some_and(plain)
        && label.bytes().last().is_some_and(plain)
        && label.bytes().all(|byte| plain(byte) || b"-_".contains(&byte))
}
