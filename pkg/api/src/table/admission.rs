//! What decides over requests: webhooks, policies, flow control, aggregated and migrated APIs.

use serde_json::{Value, json};

use super::Printer;
use super::object::{Cells, Object};
use crate::object::text;

const ADMISSION: &str = "admissionregistration.k8s.io";
const FLOW: &str = "flowcontrol.apiserver.k8s.io";
const POLICY_BINDINGS: &str = "@Name,PolicyName,ParamRef,Age";

pub(super) const PRINTERS: &[Printer] = &[
    Printer::new(ADMISSION, "MutatingWebhookConfiguration", "@Name,#Webhooks,Age", webhooks),
    Printer::new(ADMISSION, "ValidatingWebhookConfiguration", "@Name,#Webhooks,Age", webhooks),
    Printer::new(ADMISSION, "ValidatingAdmissionPolicy", "@Name,#Validations,ParamKind,Age", |o| {
        vec![o.name(), json!(o.count("spec.validations")), json!(param_kind(o)), o.age()]
    }),
    Printer::new(ADMISSION, "MutatingAdmissionPolicy", "@Name,#Mutations,ParamKind,Age", |o| {
        vec![o.name(), json!(o.count("spec.mutations")), json!(param_kind(o)), o.age()]
    }),
    Printer::new(ADMISSION, "ValidatingAdmissionPolicyBinding", POLICY_BINDINGS, policy_binding),
    Printer::new(ADMISSION, "MutatingAdmissionPolicyBinding", POLICY_BINDINGS, policy_binding),
    Printer::new(FLOW, "FlowSchema", SCHEMAS, |o| {
        let dangling =
            o.condition("status.conditions", "Dangling").map_or("?", |condition| text(condition, "status"));
        vec![
            o.name(),
            json!(o.text("spec.priorityLevelConfiguration.name")),
            o.cell("spec.matchingPrecedence"),
            json!(o.text_or("spec.distinguisherMethod.type", "<none>")),
            o.age(),
            json!(dangling),
        ]
    }),
    Printer::new(FLOW, "PriorityLevelConfiguration", LEVELS, |o| {
        let limited = |field: &str| match o.get(&format!("spec.limited.{field}")) {
            Some(number) => number.clone(),
            None => json!("<none>"),
        };
        vec![
            o.name(),
            json!(o.text("spec.type")),
            limited("nominalConcurrencyShares"),
            limited("limitResponse.queuing.queues"),
            limited("limitResponse.queuing.handSize"),
            limited("limitResponse.queuing.queueLengthLimit"),
            o.age(),
        ]
    }),
    Printer::new("apiregistration.k8s.io", "APIService", "@Name,Service,Available,Age", |o| {
        let service = match o.get("spec.service") {
            Some(service) => format!("{}/{}", text(service, "namespace"), text(service, "name")),
            None => "Local".to_owned(),
        };
        vec![o.name(), json!(service), json!(available(o)), o.age()]
    }),
    Printer::new("storagemigration.k8s.io", "StorageVersionMigration", "Name,Resource,Status", |o| {
        let resource = match (o.text("spec.resource.resource"), o.text("spec.resource.group")) {
            (resource, "") => resource.to_owned(),
            (resource, group) => format!("{resource}.{group}"),
        };
        let reached = ["Running", "Succeeded", "Failed"].into_iter().rfind(|kind| o.is_true(kind));
        vec![o.name(), json!(resource), json!(reached.unwrap_or("Unknown"))]
    }),
];

const SCHEMAS: &str = "@Name,PriorityLevel,MatchingPrecedence,DistinguisherMethod,Age,MissingPL";
const LEVELS: &str = "@Name,Type,NominalConcurrencyShares,Queues,HandSize,QueueLengthLimit,Age";

fn webhooks(o: &Object<'_>) -> Cells {
    vec![o.name(), json!(o.count("webhooks")), o.age()]
}

fn param_kind(o: &Object<'_>) -> String {
    match o.get("spec.paramKind") {
        Some(kind) => format!("{}/{}", text(kind, "apiVersion"), text(kind, "kind")),
        None => "<unset>".to_owned(),
    }
}

fn policy_binding(o: &Object<'_>) -> Cells {
    let param = match (o.text("spec.paramRef.name"), o.text_or("spec.paramRef.namespace", "*")) {
        ("", _) if o.get("spec.paramRef.selector").is_some() => o.selector("spec.paramRef.selector"),
        ("", _) => json!("<unset>"),
        (name, namespace) => json!(format!("{namespace}/{name}")),
    };
    vec![o.name(), json!(o.text("spec.policyName")), param, o.age()]
}

fn available(o: &Object<'_>) -> String {
    let condition = o.condition("status.conditions", "Available").unwrap_or(&Value::Null);
    match (text(condition, "status"), text(condition, "reason")) {
        ("", _) => "Unknown".to_owned(),
        ("True", _) => "True".to_owned(),
        (status, reason) => format!("{status} ({reason})"),
    }
}
