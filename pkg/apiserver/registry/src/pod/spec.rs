//! Validation of a pod spec as a whole.

use std::collections::BTreeSet;

use edgek_api::name;
use serde_json::Value;

use super::{affinity, container, dns, security, volume};
use crate::labels;
use edgek_api::field::{ErrorList, Path};
use edgek_apiserver_admission::fields::Fields;

/// Where a pod spec stands: some rules hold for pods only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Use {
    /// In a `Pod`.
    Pod,
    /// In the template of a workload.
    Template,
}

/// Validates a pod template: the labels and annotations of its metadata, and its spec.
pub(crate) fn template(template: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    // Upstream's paths leave the metadata out.
    labels::validate(template.at("metadata.labels"), &path.field("labels"), errors);
    labels::validate_annotations(template.at("metadata.annotations"), &path.field("annotations"), errors);
    let spec_path = path.field("spec");
    validate(template.at("spec"), &spec_path, Use::Template, errors);
    if !template.items("spec.ephemeralContainers").is_empty() {
        errors.forbidden(
            &spec_path.field("ephemeralContainers"),
            "ephemeral containers not allowed in pod template",
        );
    }
}

/// Validates a pod spec.
pub(crate) fn validate(spec: &Value, path: &Path<'_>, used: Use, errors: &mut ErrorList) {
    let volumes = volume::validate_all(spec, &path.field("volumes"), errors);
    container::validate_all(spec, &volumes, path, errors);
    if spec.flag("hostNetwork") {
        host_network_ports(spec, path, used, errors);
    }
    one_of(spec, "restartPolicy", &["Always", "OnFailure", "Never"], path, errors);
    one_of(spec, "dnsPolicy", &["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"], path, errors);
    labels::validate(spec.at("nodeSelector"), &path.field("nodeSelector"), errors);
    names(spec, path, errors);
    numbers(spec, path, errors);
    tolerations(spec.items("tolerations"), &path.field("tolerations"), errors);
    host_aliases(spec, path, errors);
    security::pod(spec.at("securityContext"), &path.field("securityContext"), errors);
    affinity::validate(spec.at("affinity"), &path.field("affinity"), errors);
    dns::validate(spec, path, errors);
    readiness_gates(spec, path, errors);
    let system = spec.text("os.name");
    if spec.has("os") && !["linux", "windows"].contains(&system) {
        errors.not_supported(&path.field("os"), system, &["linux", "windows"]);
    }
    scheduling(spec, path, errors);
    if spec.flag("shareProcessNamespace") && spec.flag("hostPID") {
        errors.invalid(
            &path.field("shareProcessNamespace"),
            true,
            "ShareProcessNamespace and HostPID cannot both be enabled",
        );
    }
}

fn names(spec: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    type Check = fn(&str) -> Vec<String>;
    let checks: [(&str, Check); 6] = [
        ("hostname", name::dns1123_label),
        ("subdomain", name::dns1123_label),
        ("serviceAccountName", name::dns1123_subdomain),
        ("nodeName", name::dns1123_subdomain),
        ("runtimeClassName", name::dns1123_subdomain),
        ("priorityClassName", name::dns1123_subdomain),
    ];
    for (field, check) in checks {
        let value = spec.text(field);
        if !value.is_empty() {
            errors.invalid_all(&path.field(field), value, check(value));
        }
    }
}

fn numbers(spec: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    if let Some(seconds) = spec.number("activeDeadlineSeconds")
        && !(1..=i64::from(i32::MAX)).contains(&seconds)
    {
        errors.invalid(
            &path.field("activeDeadlineSeconds"),
            seconds,
            "must be between 1 and 2147483647, inclusive",
        );
    }
}

/// What upstream says of a negative number.
pub(crate) const NOT_NEGATIVE: &str = "must be greater than or equal to 0";

/// A field that must be set to one of a few values.
pub(super) fn one_of(
    value: &Value,
    field: &str,
    supported: &[&str],
    path: &Path<'_>,
    errors: &mut ErrorList,
) {
    match value.text(field) {
        "" => errors.required(&path.field(field), ""),
        set if supported.contains(&set) => {}
        other => errors.not_supported(&path.field(field), other, supported),
    }
}

fn host_network_ports(spec: &Value, path: &Path<'_>, used: Use, errors: &mut ErrorList) {
    let containers = path.field("containers");
    for (index, container) in spec.items("containers").iter().enumerate() {
        let item = containers.index(index);
        let ports = item.field("ports");
        for (index, port) in container.items("ports").iter().enumerate() {
            let host_port = port.number("hostPort").unwrap_or_default();
            if (used == Use::Pod || host_port != 0)
                && host_port != port.number("containerPort").unwrap_or_default()
            {
                let item = ports.index(index);
                errors.invalid(
                    &item.field("hostPort"),
                    host_port,
                    "must match `containerPort` when `hostNetwork` is true",
                );
            }
        }
    }
}

/// Validates the tolerations of a pod.
pub(super) fn tolerations(tolerations: &[Value], path: &Path<'_>, errors: &mut ErrorList) {
    for (index, toleration) in tolerations.iter().enumerate() {
        let path = path.index(index);
        let (key, operator, value) =
            (toleration.text("key"), toleration.text("operator"), toleration.text("value"));
        let effect = toleration.text("effect");
        if !key.is_empty() {
            errors.invalid_all(&path.field("key"), key, name::qualified_name(key));
        } else if operator != "Exists" {
            let detail =
                "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
            errors.invalid(&path.field("operator"), operator, detail);
        }
        if toleration.has("tolerationSeconds") && effect != "NoExecute" {
            errors.invalid(
                &path.field("effect"),
                effect,
                "effect must be 'NoExecute' when `tolerationSeconds` is set",
            );
        }
        match operator {
            "" | "Equal" => {
                let problems = name::label_value(value);
                if !problems.is_empty() {
                    errors.invalid(&path.field("operator"), value, &problems.join(";"));
                }
            }
            "Exists" if !value.is_empty() => {
                errors.invalid(
                    &path.field("operator"),
                    value,
                    "value must be empty when `operator` is 'Exists'",
                );
            }
            "Exists" => {}
            other => errors.not_supported(&path.field("operator"), other, &["Equal", "Exists"]),
        }
        if !effect.is_empty() && !["NoSchedule", "PreferNoSchedule", "NoExecute"].contains(&effect) {
            errors.not_supported(
                &path.field("effect"),
                effect,
                &["NoSchedule", "PreferNoSchedule", "NoExecute"],
            );
        }
    }
}

fn host_aliases(spec: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let aliases = path.field("hostAliases");
    for (index, alias) in spec.items("hostAliases").iter().enumerate() {
        let item = aliases.index(index);
        let ip = alias.text("ip");
        if ip.parse::<std::net::IpAddr>().is_err() {
            errors.invalid(&item.field("ip"), ip, dns::NO_ADDRESS);
        }
        let hostnames = item.field("hostnames");
        for (index, hostname) in alias.items("hostnames").iter().enumerate() {
            let hostname = hostname.as_str().unwrap_or_default();
            errors.invalid_all(&hostnames.index(index), hostname, name::dns1123_subdomain(hostname));
        }
    }
}

fn readiness_gates(spec: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let gates = path.field("readinessGates");
    for (index, gate) in spec.items("readinessGates").iter().enumerate() {
        let condition = gate.text("conditionType");
        let path = gates.index(index);
        errors.invalid_all(&path.field("conditionType"), condition, name::qualified_name(condition));
    }
}

fn scheduling(spec: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let gates = path.field("schedulingGates");
    let mut seen = BTreeSet::new();
    for (index, gate) in spec.items("schedulingGates").iter().enumerate() {
        let gate = gate.text("name");
        errors.invalid_all(&gates.index(index), gate, name::qualified_name(gate));
        if !seen.insert(gate) {
            errors.duplicate(&gates.index(index), gate);
        }
    }
    let constraints = path.field("topologySpreadConstraints");
    for (index, constraint) in spec.items("topologySpreadConstraints").iter().enumerate() {
        let item = constraints.index(index);
        let skew = constraint.number("maxSkew").unwrap_or_default();
        if skew <= 0 {
            errors.invalid(&item.field("maxSkew"), skew, "must be greater than zero");
        }
        if constraint.text("topologyKey").is_empty() {
            errors.required(&item.field("topologyKey"), "can not be empty");
        }
        let action = constraint.text("whenUnsatisfiable");
        if !["DoNotSchedule", "ScheduleAnyway"].contains(&action) {
            errors.not_supported(
                &item.field("whenUnsatisfiable"),
                action,
                &["DoNotSchedule", "ScheduleAnyway"],
            );
        }
        if let Some(domains) = constraint.number("minDomains") {
            if domains <= 0 {
                errors.invalid(&item.field("minDomains"), domains, "must be greater than zero");
            }
            if action != "DoNotSchedule" {
                let detail =
                    format!("can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {action}");
                errors.invalid(&item.field("minDomains"), domains, &detail);
            }
        }
        labels::validate_selector(constraint.at("labelSelector"), &item.field("labelSelector"), errors);
    }
}
