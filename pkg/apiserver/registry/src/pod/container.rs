//! Validation of the containers of a pod spec.

use std::collections::BTreeSet;

use edgek_api::name;
use serde_json::Value;

use super::spec::{NOT_NEGATIVE, one_of};
use super::volume::Volumes;
use super::{resources, security};
use edgek_api::field::{ErrorList, Path};
use edgek_apiserver_admission::fields::Fields;

/// What distinguishes the three lists of containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Regular,
    Init,
    Ephemeral,
}

/// Validates the three lists of containers of a pod spec.
pub(super) fn validate_all(spec: &Value, volumes: &Volumes<'_>, path: &Path<'_>, errors: &mut ErrorList) {
    if spec.items("containers").is_empty() {
        errors.required(&path.field("containers"), "");
    }
    let mut names = BTreeSet::new();
    let mut host_ports = BTreeSet::new();
    for (list, kind) in [
        ("containers", Kind::Regular),
        ("initContainers", Kind::Init),
        ("ephemeralContainers", Kind::Ephemeral),
    ] {
        let list_path = path.field(list);
        for (index, container) in spec.items(list).iter().enumerate() {
            let path = list_path.index(index);
            common(container, volumes, &path, errors);
            if !container.text("name").is_empty() && !names.insert(container.text("name")) {
                errors.duplicate(&path.field("name"), container.text("name"));
            }
            // Init containers run one after the other, so that each may use any port.
            let mut own_ports = BTreeSet::new();
            let ports = if kind == Kind::Regular { &mut host_ports } else { &mut own_ports };
            unique_host_ports(container, ports, &path, errors);
            lifecycle(container, kind, spec.number("terminationGracePeriodSeconds"), &path, errors);
        }
    }
}

fn common(container: &Value, volumes: &Volumes<'_>, path: &Path<'_>, errors: &mut ErrorList) {
    match container.text("name") {
        "" => errors.required(&path.field("name"), ""),
        name => errors.invalid_all(&path.field("name"), name, name::dns1123_label(name)),
    }
    let image = container.text("image");
    if image.is_empty() {
        errors.required(&path.field("image"), "");
    } else if image != image.trim() {
        errors.invalid(&path.field("image"), image, "must not have leading or trailing whitespace");
    }
    one_of(container, "terminationMessagePolicy", &["File", "FallbackToLogsOnError"], path, errors);
    ports(container, path, errors);
    environment(container, path, errors);
    mounts(container, volumes, path, errors);
    one_of(container, "imagePullPolicy", &["Always", "IfNotPresent", "Never"], path, errors);
    resources::validate(container.at("resources"), &path.field("resources"), errors);
    security::container(container.at("securityContext"), &path.field("securityContext"), errors);
}

fn ports(container: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let list = path.field("ports");
    let mut names = BTreeSet::new();
    for (index, port) in container.items("ports").iter().enumerate() {
        let path = list.index(index);
        let name = port.text("name");
        if !name.is_empty() {
            let problems = name::port_name(name);
            if !problems.is_empty() {
                errors.invalid_all(&path.field("name"), name, problems);
            } else if !names.insert(name) {
                errors.duplicate(&path.field("name"), name);
            }
        }
        match port.number("containerPort").unwrap_or_default() {
            0 => errors.required(&path.field("containerPort"), ""),
            number => port_number(number, &path.field("containerPort"), errors),
        }
        if let Some(number) = port.number("hostPort").filter(|number| *number != 0) {
            port_number(number, &path.field("hostPort"), errors);
        }
        one_of(port, "protocol", &["SCTP", "TCP", "UDP"], &path, errors);
    }
}

/// A port from 1 to 65535.
pub(crate) fn port_number(number: i64, path: &Path<'_>, errors: &mut ErrorList) {
    if !(1..=65535).contains(&number) {
        errors.invalid(path, number, "must be between 1 and 65535, inclusive");
    }
}

/// A port's number or its name.
pub(crate) fn port_number_or_name(port: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    match (port.as_i64(), port.as_str()) {
        (Some(number), _) => port_number(number, path, errors),
        (_, Some(name)) => errors.invalid_all(path, name, name::port_name(name)),
        _ => port_number(0, path, errors),
    }
}

fn unique_host_ports<'a>(
    container: &'a Value,
    seen: &mut BTreeSet<(&'a str, &'a str, i64)>,
    path: &Path<'_>,
    errors: &mut ErrorList,
) {
    let ports = path.field("ports");
    for (index, port) in container.items("ports").iter().enumerate() {
        let Some(number) = port.number("hostPort").filter(|number| *number != 0) else { continue };
        let (protocol, ip) = (port.text("protocol"), port.text("hostIP"));
        if !seen.insert((protocol, ip, number)) {
            errors.duplicate(&ports.index(index).field("hostPort"), format!("{protocol}/{ip}/{number}"));
        }
    }
}

fn environment(container: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let list = path.field("env");
    for (index, variable) in container.items("env").iter().enumerate() {
        let path = list.index(index);
        match variable.text("name") {
            "" => errors.required(&path.field("name"), ""),
            name => errors.invalid_all(&path.field("name"), name, name::env_var(name)),
        }
        if variable.has("valueFrom") {
            value_source(variable, &path.field("valueFrom"), errors);
        }
    }
    let list = path.field("envFrom");
    for (index, source) in container.items("envFrom").iter().enumerate() {
        let path = list.index(index);
        let prefix = source.text("prefix");
        if !prefix.is_empty() {
            errors.invalid_all(&path.field("prefix"), prefix, name::env_var(prefix));
        }
        let present: Vec<&str> =
            ["configMapRef", "secretRef"].into_iter().filter(|kind| source.has(kind)).collect();
        for kind in &present {
            match source.at(kind).text("name") {
                "" => errors.required(&path.field(kind).field("name"), ""),
                name => {
                    let path = path.field(kind);
                    errors.invalid_all(&path.field("name"), name, name::dns1123_subdomain(name));
                }
            }
        }
        match present.len() {
            0 => errors.invalid(&list, "", "must specify one of: `configMapRef` or `secretRef`"),
            1 => {}
            _ => errors.invalid(&path, "", "may not have more than one field specified at a time"),
        }
    }
}

fn value_source(variable: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let source = variable.at("valueFrom");
    let kinds = ["fieldRef", "resourceFieldRef", "configMapKeyRef", "secretKeyRef", "fileKeyRef"];
    let present: Vec<&str> = kinds.into_iter().filter(|kind| source.has(kind)).collect();
    for kind in &present {
        let required: &[&str] = match *kind {
            "fieldRef" => &["fieldPath"],
            "resourceFieldRef" => &["resource"],
            "fileKeyRef" => &["volumeName", "path", "key"],
            _ => &["key"],
        };
        let (source, path) = (source.at(kind), path.field(kind));
        for field in required {
            if source.text(field).is_empty() {
                errors.required(&path.field(field), "");
            }
        }
        match *kind {
            "fieldRef" => field_reference(source.text("fieldPath"), &path, errors),
            "resourceFieldRef" => {
                let resource = source.text("resource");
                let known = RESOURCE_FIELDS.contains(&resource) || resource.contains("hugepages-");
                if !resource.is_empty() && !known {
                    errors.not_supported(&path.field("resource"), resource, &RESOURCE_FIELDS);
                }
            }
            "configMapKeyRef" | "secretKeyRef" => {
                let (name, key) = (source.text("name"), source.text("key"));
                errors.invalid_all(&path.field("name"), name, name::dns1123_subdomain(name));
                if !key.is_empty() {
                    errors.invalid_all(&path.field("key"), key, name::config_key(key));
                }
            }
            _ => {}
        }
    }
    match present.len() {
        0 => errors.invalid(
            path,
            "",
            "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`",
        ),
        _ if !variable.text("value").is_empty() => errors.invalid(path, "", "may not be specified when `value` is not empty"),
        1 => {}
        _ => errors.invalid(path, "", "may not have more than one field specified at a time"),
    }
}

/// What an environment variable may hold of its pod.
const POD_FIELDS: [&str; 9] = [
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];

/// What an environment variable may hold of a container's resources.
const RESOURCE_FIELDS: [&str; 6] = [
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
];

fn field_reference(field: &str, path: &Path<'_>, errors: &mut ErrorList) {
    if field.is_empty() {
        return;
    }
    let subscript = field.split_once("['").and_then(|(map, key)| Some((map, key.strip_suffix("']")?)));
    match subscript {
        Some(("metadata.labels", key)) => errors.invalid_all(path, key, name::qualified_name(key)),
        Some(("metadata.annotations", key)) => {
            errors.invalid_all(path, key, name::qualified_name(&key.to_lowercase()));
        }
        _ if POD_FIELDS.contains(&field) => {}
        // Known, but not a single text.
        _ if ["metadata.labels", "metadata.annotations"].contains(&field) => {
            errors.not_supported(&path.field("fieldPath"), field, &POD_FIELDS);
        }
        _ => errors.invalid(
            &path.field("fieldPath"),
            field,
            &format!("error converting fieldPath: field label not supported: {field}"),
        ),
    }
}

fn mounts(container: &Value, volumes: &Volumes<'_>, path: &Path<'_>, errors: &mut ErrorList) {
    let list = path.field("volumeMounts");
    let mut mount_paths = BTreeSet::new();
    for (index, mount) in container.items("volumeMounts").iter().enumerate() {
        let path = list.index(index);
        let (name, mount_path) = (mount.text("name"), mount.text("mountPath"));
        if name.is_empty() {
            errors.required(&path.field("name"), "");
        }
        if !volumes.contains(name) {
            errors.not_found(&path.field("name"), name);
        }
        if mount_path.is_empty() {
            errors.required(&path.field("mountPath"), "");
        }
        if !mount_paths.insert(mount_path) {
            errors.invalid(&path.field("mountPath"), mount_path, "must be unique");
        }
        for field in ["subPath", "subPathExpr"] {
            descending_path(mount.text(field), &list.field(field), errors);
        }
        let propagation = mount.text("mountPropagation");
        let known = ["Bidirectional", "HostToContainer", "None"];
        if !propagation.is_empty() && !known.contains(&propagation) {
            errors.not_supported(&list.field("mountPropagation"), propagation, &known);
        }
        if !mount.text("subPath").is_empty() && !mount.text("subPathExpr").is_empty() {
            let expression = mount.text("subPathExpr");
            errors.invalid(
                &path.field("subPathExpr"),
                expression,
                "subPathExpr and subPath are mutually exclusive",
            );
        }
    }
}

/// A relative path that does not climb.
pub(super) fn descending_path(value: &str, path: &Path<'_>, errors: &mut ErrorList) {
    if value.starts_with('/') {
        errors.invalid(path, value, "must be a relative path");
    }
    if value.split('/').any(|part| part == "..") {
        errors.invalid(path, value, "must not contain '..'");
    }
}

fn lifecycle(
    container: &Value,
    kind: Kind,
    grace_period: Option<i64>,
    path: &Path<'_>,
    errors: &mut ErrorList,
) {
    let fields = ["lifecycle", "livenessProbe", "readinessProbe", "startupProbe"];
    let forbidden = match kind {
        Kind::Regular => None,
        Kind::Init if container.text("restartPolicy") == "Always" => None,
        Kind::Init => Some("may not be set for init containers without restartPolicy=Always"),
        Kind::Ephemeral => Some("cannot be set for an Ephemeral Container"),
    };
    if let Some(reason) = forbidden {
        for field in fields.into_iter().filter(|field| container.has(field)) {
            errors.forbidden(&path.field(field), reason);
        }
        return;
    }
    let lifecycle = path.field("lifecycle");
    for hook in ["postStart", "preStop"] {
        let (action, path) = (container.at("lifecycle").at(hook), lifecycle.field(hook));
        if !action.is_null() {
            handler(action, grace_period, &path, errors);
        }
    }
    for field in &fields[1..] {
        if container.has(field) {
            probe(container.at(field), field, &path.field(field), errors);
        }
    }
}

fn probe(probe: &Value, kind: &str, path: &Path<'_>, errors: &mut ErrorList) {
    handler(probe, None, path, errors);
    for field in
        ["initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"]
    {
        if let Some(number) = probe.number(field).filter(|number| *number < 0) {
            errors.invalid(&path.field(field), number, NOT_NEGATIVE);
        }
    }
    if let Some(seconds) = probe.number("terminationGracePeriodSeconds") {
        if seconds <= 0 {
            errors.invalid(&path.field("terminationGracePeriodSeconds"), seconds, "must be greater than 0");
        }
        if kind == "readinessProbe" {
            errors.invalid(
                &path.field("terminationGracePeriodSeconds"),
                seconds,
                "must not be set for readinessProbes",
            );
        }
    }
    let successes = probe.number("successThreshold").unwrap_or(1);
    if kind != "readinessProbe" && successes != 1 {
        errors.invalid(&path.field("successThreshold"), successes, "must be 1");
    }
}

fn handler(handler: &Value, grace_period: Option<i64>, path: &Path<'_>, errors: &mut ErrorList) {
    let mut found = false;
    for kind in ["exec", "httpGet", "tcpSocket", "grpc", "sleep"] {
        if !handler.has(kind) {
            continue;
        }
        let action = handler.at(kind);
        let path = path.field(kind);
        if std::mem::replace(&mut found, true) {
            errors.forbidden(&path, "may not specify more than 1 handler type");
            continue;
        }
        match kind {
            "exec" if action.items("command").is_empty() => errors.required(&path.field("command"), ""),
            "httpGet" => http_get(action, &path, errors),
            "tcpSocket" => port_number_or_name(action.at("port"), &path.field("port"), errors),
            "grpc" => port_number(action.number("port").unwrap_or_default(), &path.field("port"), errors),
            "sleep" => sleep(action, grace_period, &path, errors),
            _ => {}
        }
    }
    if !found {
        errors.required(path, "must specify a handler type");
    }
}

/// A hook sleeps no longer than its pod may take to end.
fn sleep(action: &Value, grace_period: Option<i64>, path: &Path<'_>, errors: &mut ErrorList) {
    let seconds = action.number("seconds").unwrap_or_default();
    let Some(most) = grace_period else { return };
    if !(0..=most).contains(&seconds) {
        let detail = format!("must be non-negative and less than terminationGracePeriodSeconds ({most})");
        errors.invalid(path, seconds, &detail);
    }
}

fn http_get(action: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    if action.text("path").is_empty() {
        errors.required(&path.field("path"), "");
    }
    port_number_or_name(action.at("port"), &path.field("port"), errors);
    for header in action.items("httpHeaders") {
        let name = header.text("name");
        errors.invalid_all(&path.field("httpHeaders"), name, name::http_header(name));
    }
    let scheme = action.text("scheme");
    if !["HTTP", "HTTPS"].contains(&scheme) {
        errors.not_supported(&path.field("scheme"), scheme, &["HTTP", "HTTPS"]);
    }
}
