//! Nodes, namespaces, events, configuration, and who may do what.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::Printer;
use super::object::{Cells, Object, joined, or};
use super::workload::human_seconds;
use crate::object::text;

const RBAC: &str = "rbac.authorization.k8s.io";
const CERTIFICATES: &str = "certificates.k8s.io";
const BINDINGS: &str = "@Name,Role,Age,+Users,+Groups,+ServiceAccounts";

pub(super) const PRINTERS: &[Printer] = &[
    Printer::new("", "Node", NODES, node),
    Printer::new("", "Namespace", "@Name,Status,Age", |o| {
        vec![o.name(), json!(o.text("status.phase")), o.age()]
    }),
    Printer::new("", "Event", EVENTS, event),
    Printer::new("", "Secret", "@Name,Type,Data,Age", |o| {
        vec![o.name(), json!(o.text("type")), json!(o.count("data")), o.age()]
    }),
    Printer::new("", "ConfigMap", "@Name,Data,Age", |o| {
        vec![o.name(), json!(o.count("data") + o.count("binaryData")), o.age()]
    }),
    Printer::new("", "ServiceAccount", "@Name,Age", |o| vec![o.name(), o.age()]),
    Printer::new("", "ComponentStatus", "@Name,Status,Message,Error", component_status),
    Printer::new("", "ResourceQuota", "@Name,Request,Limit,Age", |o| {
        let [requests, limits] = quotas(o);
        vec![o.name(), json!(requests), json!(limits), o.age()]
    }),
    Printer::new("coordination.k8s.io", "Lease", "@Name,Holder,Age", |o| {
        vec![o.name(), json!(o.text("spec.holderIdentity")), o.age()]
    }),
    Printer::new(RBAC, "RoleBinding", BINDINGS, binding),
    Printer::new(RBAC, "ClusterRoleBinding", BINDINGS, binding),
    Printer::new(CERTIFICATES, "CertificateSigningRequest", REQUESTS, |o| {
        let duration = o.get("spec").and_then(|spec| human_seconds(spec, "expirationSeconds"));
        vec![
            o.name(),
            o.age(),
            json!(o.text_or("spec.signerName", "<none>")),
            json!(o.text("spec.username")),
            json!(or(duration.unwrap_or_default(), "<none>")),
            json!(request_state(o)),
        ]
    }),
    Printer::new(CERTIFICATES, "ClusterTrustBundle", "@Name,SignerName", |o| {
        vec![o.name(), json!(o.text_or("spec.signerName", "<none>"))]
    }),
    Printer::new(CERTIFICATES, "PodCertificateRequest", POD_CERTIFICATES, |o| {
        let fields = ["spec.podName", "spec.serviceAccountName", "spec.nodeName", "spec.signerName"];
        let mut state = o.items("status.conditions").iter().map(|condition| text(condition, "type"));
        let state = state.rfind(|kind| matches!(*kind, "Issued" | "Denied" | "Failed")).unwrap_or("Pending");
        let mut cells = vec![o.name()];
        cells.extend(fields.map(|path| json!(o.text(path))));
        cells.extend([json!(state), o.labels("spec.unverifiedUserAnnotations")]);
        cells
    }),
    Printer::new(
        "scheduling.k8s.io",
        "PriorityClass",
        "@Name,#Value,?Global-Default,Age,PreemptionPolicy",
        |o| {
            vec![
                o.name(),
                o.cell("value"),
                json!(o.flag("globalDefault")),
                o.age(),
                json!(o.text("preemptionPolicy")),
            ]
        },
    ),
    Printer::new("node.k8s.io", "RuntimeClass", "@Name,Handler,Age", |o| {
        vec![o.name(), json!(o.text("handler")), o.age()]
    }),
];

const NODES: &str =
    "@Name,Status,Roles,Age,Version,+Internal-IP,+External-IP,+OS-Image,+Kernel-Version,+Container-Runtime";
const EVENTS: &str = "Last Seen,Type,Reason,Object,+Subobject,+Source,Message,+First Seen,+Count,+@Name";
const REQUESTS: &str = "@Name,Age,SignerName,Requestor,RequestedDuration,Condition";
const POD_CERTIFICATES: &str =
    "@Name,PodName,ServiceAccountName,NodeName,SignerName,State,UnverifiedUserAnnotations";

fn node(o: &Object<'_>) -> Cells {
    let ready = match o.condition("status.conditions", "Ready") {
        Some(condition) if text(condition, "status") == "True" => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    };
    let disabled = o.flag("spec.unschedulable").then_some("SchedulingDisabled");
    let info = |field: &str| o.text_or(&format!("status.nodeInfo.{field}"), "<unknown>");
    let kernel = match o.text("status.nodeInfo.architecture") {
        "" => info("kernelVersion").to_owned(),
        architecture => format!("{} ({architecture})", info("kernelVersion")),
    };
    vec![
        o.name(),
        json!(joined([Some(ready), disabled].into_iter().flatten())),
        json!(or(joined(roles(o).into_iter()), "<none>")),
        o.age(),
        json!(o.text("status.nodeInfo.kubeletVersion")),
        json!(address(o, "InternalIP")),
        json!(address(o, "ExternalIP")),
        json!(info("osImage")),
        json!(kernel),
        json!(info("containerRuntimeVersion")),
    ]
}

fn address<'a>(o: &Object<'a>, kind: &str) -> &'a str {
    let found = o.items("status.addresses").iter().find(|address| text(address, "type") == kind);
    found.map_or("<none>", |address| text(address, "address"))
}

fn roles<'a>(o: &Object<'a>) -> BTreeSet<&'a str> {
    let labels = o.get("metadata.labels").and_then(Value::as_object).into_iter().flatten();
    let role = |(key, value): (&'a String, &'a Value)| match key.as_str() {
        "kubernetes.io/role" => value.as_str(),
        key => key.strip_prefix("node-role.kubernetes.io/"),
    };
    labels.filter_map(role).filter(|role| !role.is_empty()).collect()
}

fn event(o: &Object<'_>) -> Cells {
    let first = match o.get("firstTimestamp") {
        Some(_) => o.since("firstTimestamp"),
        None => o.since("eventTime"),
    };
    let (last, count) = match (o.get("series"), o.get("lastTimestamp")) {
        (Some(_), _) => (o.since("series.lastObservedTime"), o.number("series.count")),
        (None, Some(_)) => (o.since("lastTimestamp"), o.number("count").max(1)),
        (None, None) => (first.clone(), o.number("count").max(1)),
    };
    let kind = o.text("involvedObject.kind").to_lowercase();
    let target = match o.text("involvedObject.name") {
        "" => kind,
        name => format!("{kind}/{name}"),
    };
    let component = o.text_or("source.component", o.text("reportingComponent"));
    let source = match o.text_or("source.host", o.text("reportingInstance")) {
        "" => component.to_owned(),
        instance => format!("{component}, {instance}"),
    };
    vec![
        json!(last),
        json!(o.text("type")),
        json!(o.text("reason")),
        json!(target),
        json!(o.text("involvedObject.fieldPath")),
        json!(source),
        json!(o.text("message").trim()),
        json!(first),
        json!(count),
        o.name(),
    ]
}

fn component_status(o: &Object<'_>) -> Cells {
    let condition = o.condition("conditions", "Healthy").unwrap_or(&Value::Null);
    let status = match text(condition, "status") {
        "" => "Unknown",
        "True" => "Healthy",
        _ => "Unhealthy",
    };
    vec![o.name(), json!(status), json!(text(condition, "message")), json!(text(condition, "error"))]
}

/// What is used of what, for requests and for limits.
fn quotas(o: &Object<'_>) -> [String; 2] {
    let used = o.get("status.used").unwrap_or(&Value::Null);
    let shown = |limits: bool| {
        let hard = o.get("status.hard").and_then(Value::as_object).into_iter().flatten();
        let shown = hard.filter(|(name, _)| name.starts_with("limits.") == limits);
        let shown = shown.map(|(name, hard)| {
            let used = used.get(name).and_then(Value::as_str).unwrap_or("0");
            format!("{name}: {used}/{}", hard.as_str().unwrap_or_default())
        });
        shown.collect::<Vec<_>>().join(", ")
    };
    [shown(false), shown(true)]
}

fn binding(o: &Object<'_>) -> Cells {
    let subjects = |kind: &str| {
        let found = o.items("subjects").iter().filter(|subject| text(subject, "kind") == kind);
        let named = found.map(|subject| match kind {
            "ServiceAccount" => format!("{}/{}", text(subject, "namespace"), text(subject, "name")),
            _ => text(subject, "name").to_owned(),
        });
        json!(named.collect::<Vec<_>>().join(", "))
    };
    vec![
        o.name(),
        json!(format!("{}/{}", o.text("roleRef.kind"), o.text("roleRef.name"))),
        o.age(),
        subjects("User"),
        subjects("Group"),
        subjects("ServiceAccount"),
    ]
}

fn request_state(o: &Object<'_>) -> String {
    let has = |kind: &str| o.condition("status.conditions", kind).is_some();
    let decided = match (has("Denied"), has("Approved")) {
        (true, _) => "Denied",
        (false, true) => "Approved",
        (false, false) => "Pending",
    };
    let failed = has("Failed").then_some("Failed");
    let issued = (!o.text("status.certificate").is_empty()).then_some("Issued");
    joined([Some(decided), failed, issued].into_iter().flatten())
}
