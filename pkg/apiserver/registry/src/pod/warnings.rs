//! What is allowed in a pod spec but seldom meant, as upstream's `pkg/api/pod/warnings.go`. Left out: warnings about
//! annotations of old and about paths in volumes.

use std::collections::{HashMap, HashSet};

use edgek_api::field::Path;
use edgek_api::name;
use edgek_apiserver_admission::fields::Fields;
use serde_json::Value;

use super::resources::parse;

/// Labels of nodes that have other names now.
const OLD_LABELS: [(&str, &str); 8] = [
    ("app.kubernetes.io/created-by", "deprecated since v1.9"),
    ("beta.kubernetes.io/arch", "deprecated since v1.14; use \"kubernetes.io/arch\" instead"),
    (
        "beta.kubernetes.io/instance-type",
        "deprecated since v1.17; use \"node.kubernetes.io/instance-type\" instead",
    ),
    ("beta.kubernetes.io/os", "deprecated since v1.14; use \"kubernetes.io/os\" instead"),
    (
        "failure-domain.beta.kubernetes.io/region",
        "deprecated since v1.17; use \"topology.kubernetes.io/region\" instead",
    ),
    (
        "failure-domain.beta.kubernetes.io/zone",
        "deprecated since v1.17; use \"topology.kubernetes.io/zone\" instead",
    ),
    ("node-role.kubernetes.io/master", "use \"node-role.kubernetes.io/control-plane\" instead"),
    (
        "scheduler.alpha.kubernetes.io/preferAvoidPods",
        "deprecated since v1.22; use Taints and Tolerations instead",
    ),
];

/// Types of volumes that are no more.
const OLD_VOLUMES: [(&str, &str); 9] = [
    ("photonPersistentDisk", "deprecated in v1.11, non-functional in v1.16+"),
    ("gitRepo", "deprecated in v1.11, and disabled by default in v1.33+"),
    ("scaleIO", "deprecated in v1.16, non-functional in v1.22+"),
    ("flocker", "deprecated in v1.22, non-functional in v1.25+"),
    ("storageOS", "deprecated in v1.22, non-functional in v1.25+"),
    ("quobyte", "deprecated in v1.22, non-functional in v1.25+"),
    ("glusterfs", "deprecated in v1.25, non-functional in v1.26+"),
    ("cephfs", "deprecated in v1.28, non-functional in v1.31+"),
    ("rbd", "deprecated in v1.28, non-functional in v1.31+"),
];

/// The warning about a name that cannot be that of a host; `used` says where it would be one.
pub(crate) fn of_name(object: &Value, used: &str) -> Vec<String> {
    let problems = name::dns1123_label(object.text("metadata.name"));
    if problems.is_empty() {
        return Vec::new();
    }
    let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
    vec![format!(
        "metadata.name: this is used in {used}, which can result in surprising behavior; a DNS label is recommended: [{}]",
        problems.join(" ")
    )]
}

/// The warnings about a pod spec at a path.
pub(crate) fn of_spec(spec: &Value, path: &str) -> Vec<String> {
    let path = Path::Root(path);
    let mut warnings = Vec::new();
    scheduling(spec, &path, &mut warnings);
    for (index, volume) in spec.items("volumes").iter().enumerate() {
        for (source, text) in OLD_VOLUMES.iter().filter(|(source, _)| volume.has(source)) {
            warnings.push(format!("{path}.volumes[{index}].{source}: {text}"));
        }
    }
    duplicates(spec.items("hostAliases"), "ip", &path.field("hostAliases"), &mut warnings);
    duplicates(spec.items("imagePullSecrets"), "name", &path.field("imagePullSecrets"), &mut warnings);
    for (index, secret) in spec.items("imagePullSecrets").iter().enumerate() {
        if secret.text("name").is_empty() {
            warnings.push(format!("{path}.imagePullSecrets[{index}].name: invalid empty name \"\""));
        }
    }
    containers(spec, &path, &mut warnings);
    if spec.number("terminationGracePeriodSeconds").is_some_and(|seconds| seconds < 0) {
        warnings.push(format!(
            "{path}.terminationGracePeriodSeconds: must be >= 0; negative values are invalid and will be treated as 1"
        ));
    }
    affinity(spec, &path, &mut warnings);
    warnings
}

fn old_label(label: &str) -> Option<&'static str> {
    OLD_LABELS.iter().find(|(old, _)| *old == label).map(|(_, text)| *text)
}

fn scheduling(spec: &Value, path: &Path<'_>, warnings: &mut Vec<String>) {
    for (label, _) in spec.entries("nodeSelector") {
        if let Some(text) = old_label(label) {
            warnings.push(format!("{path}.nodeSelector[{label}]: {text}"));
        }
    }
    for (index, constraint) in spec.items("topologySpreadConstraints").iter().enumerate() {
        let path = format!("{path}.topologySpreadConstraints[{index}]");
        let key = constraint.text("topologyKey");
        if let Some(text) = old_label(key) {
            warnings.push(format!("{path}.topologyKey: {key} is {text}"));
        }
        if !constraint.has("labelSelector") {
            warnings.push(format!("{path}.labelSelector: a null labelSelector results in matching no pod"));
        }
    }
}

fn duplicates(items: &[Value], field: &str, path: &Path<'_>, warnings: &mut Vec<String>) {
    let mut seen = HashSet::new();
    for (index, item) in items.iter().enumerate() {
        let value = item.text(field);
        if !seen.insert(value) {
            warnings.push(format!("{path}[{index}].{field}: duplicate {field} {value:?}"));
        }
    }
}

fn containers(spec: &Value, path: &Path<'_>, warnings: &mut Vec<String>) {
    let all: Vec<(String, &Value)> = ["initContainers", "containers", "ephemeralContainers"]
        .into_iter()
        .flat_map(|list| {
            let path = path.field(list);
            spec.items(list)
                .iter()
                .enumerate()
                .map(move |(index, item)| (path.index(index).to_string(), item))
                .collect::<Vec<_>>()
        })
        .collect();
    for (path, container) in &all {
        fractions(container, path, warnings);
        hidden_variables(container, path, warnings);
    }
    let ports: Vec<(String, &Value)> = all
        .iter()
        .flat_map(|(path, container)| {
            let ports = container.items("ports").iter().enumerate();
            ports.map(move |(index, port)| (format!("{path}.ports[{index}]"), port))
        })
        .collect();
    same_ports(&ports, warnings);
    let mut names: HashMap<&str, &str> = HashMap::new();
    for (path, port) in &ports {
        let name = port.text("name");
        if name.is_empty() {
            continue;
        }
        match names.get(name) {
            Some(first) => warnings.push(format!(
                "{path}: duplicate port name {name:?} with {first}, services and probes that select ports by name will use {first}"
            )),
            None => drop(names.insert(name, path)),
        }
    }
}

/// Parts of bytes.
fn fractions(container: &Value, path: &str, warnings: &mut Vec<String>) {
    for name in ["memory", "ephemeral-storage"] {
        for kind in ["limits", "requests"] {
            let quantity = container.at("resources").at(kind).get(name).and_then(parse);
            if let Some(quantity) = quantity.filter(|quantity| quantity.milli_value() % 1000 != 0) {
                let text = quantity.to_string();
                warnings.push(format!(
                    "{path}.resources.{kind}[{name}]: fractional byte value {text:?} is invalid, must be an integer"
                ));
            }
        }
    }
}

/// Variables that hide one of the same name without using it.
fn hidden_variables(container: &Value, path: &str, warnings: &mut Vec<String>) {
    let mut seen = HashSet::new();
    for (index, variable) in container.items("env").iter().enumerate() {
        let (name, value) = (variable.text("name"), variable.text("value"));
        if seen.insert(name) {
            continue;
        }
        let reference = format!("$({name})");
        if variable.has("valueFrom") || value == reference || !value.contains(&reference) {
            warnings.push(format!(
                "{path}.env[{index}]: hides previous definition of {name:?}, which may be dropped when using apply"
            ));
        }
    }
}

fn same_ports(ports: &[(String, &Value)], warnings: &mut Vec<String>) {
    let number = |port: &Value, field: &str| port.number(field).unwrap_or_default();
    for (at, (path, port)) in ports.iter().enumerate() {
        let same = |other: &&(String, &Value)| {
            number(other.1, "containerPort") == number(port, "containerPort")
                && other.1.text("protocol") == port.text("protocol")
        };
        for (other_path, other) in ports[..at].iter().filter(same) {
            let (host, other_host) = (number(port, "hostPort"), number(other, "hostPort"));
            let (ip, other_ip) = (port.text("hostIP"), other.text("hostIP"));
            let how = if ip == other_ip && host == other_host {
                "duplicate"
            } else if host == 0 || other_host == 0 {
                "overlapping"
            } else if host == other_host && ip.is_empty() != other_ip.is_empty() {
                "dangerously ambiguous"
            } else {
                continue;
            };
            warnings.push(format!("{path}: {how} port definition with {other_path}"));
        }
    }
}

/// Terms that select no pod.
fn affinity(spec: &Value, path: &Path<'_>, warnings: &mut Vec<String>) {
    for kind in ["podAffinity", "podAntiAffinity"] {
        for (list, below) in [
            ("requiredDuringSchedulingIgnoredDuringExecution", ""),
            ("preferredDuringSchedulingIgnoredDuringExecution", "podAffinityTerm."),
        ] {
            let terms = spec.at("affinity").at(kind).items(list);
            for (index, term) in terms.iter().enumerate() {
                if !term.has(&format!("{below}labelSelector")) {
                    warnings.push(format!(
                        "{path}.affinity.{kind}.{list}[{index}].{below}labelSelector: a null labelSelector results in matching no pod"
                    ));
                }
            }
        }
    }
}
