//! The rules of kinds, one file each. A kind that is not listed has none of its own.

mod autoscaler;
mod certificates;
mod configmap;
mod cronjob;
mod daemonset;
mod deployment;
mod disruptionbudget;
mod endpoints;
mod endpointslice;
mod event;
mod flowcontrol;
mod ingress;
mod job;
mod lease;
mod limitrange;
mod namespace;
mod networkpolicy;
mod node;
mod persistentvolume;
mod persistentvolumeclaim;
mod pod;
mod podfailurepolicy;
mod podtemplate;
mod priorityclass;
mod rbac;
mod replicaset;
mod replicationcontroller;
mod resourceclaim;
mod schedule;
mod secret;
pub(crate) mod service;
mod serviceaccount;
mod servicerange;
mod statefulset;
mod storage;
mod webhook;
mod workload;

use edgek_api::field::{ErrorList, Path};
use edgek_apiserver_admission::fields::Fields;
use serde_json::Value;

use crate::pod::NOT_NEGATIVE;
use crate::strategy::{Deleted, Generation, PLAIN, SPEC_AND_STATUS, Strategy};

/// The rules of a resource, `None` when it has none of its own.
pub(crate) fn strategy(group: &str, plural: &str) -> Option<Strategy> {
    Some(match (group, plural) {
        ("", "configmaps") => configmap::STRATEGY,
        ("", "endpoints") => endpoints::STRATEGY,
        ("", "events") | ("events.k8s.io", "events") => event::STRATEGY,
        ("", "limitranges") => limitrange::STRATEGY,
        ("", "namespaces") => namespace::STRATEGY,
        ("", "nodes") => node::STRATEGY,
        ("", "persistentvolumeclaims") => persistentvolumeclaim::STRATEGY,
        ("", "persistentvolumes") => persistentvolume::STRATEGY,
        ("", "pods") => pod::STRATEGY,
        ("", "podtemplates") => podtemplate::STRATEGY,
        ("", "replicationcontrollers") => replicationcontroller::STRATEGY,
        ("", "resourcequotas") => Strategy {
            validate: validate_quota,
            generation: Generation::None,
            deleted: Deleted::Object,
            ..SPEC_AND_STATUS
        },
        ("", "secrets") => secret::STRATEGY,
        ("", "serviceaccounts") => serviceaccount::STRATEGY,
        ("", "services") => service::STRATEGY,
        (
            "admissionregistration.k8s.io",
            "mutatingwebhookconfigurations" | "validatingwebhookconfigurations",
        ) => webhook::CONFIGURATION,
        ("admissionregistration.k8s.io", "mutatingadmissionpolicies" | "validatingadmissionpolicies") => {
            webhook::POLICY
        }
        ("admissionregistration.k8s.io", "validatingadmissionpolicybindings") => {
            Strategy { generation: Generation::Counted, ..PLAIN }
        }
        ("apiregistration.k8s.io", "apiservices") => {
            Strategy { default: default_api_service, generation: Generation::None, ..SPEC_AND_STATUS }
        }
        ("apps", "controllerrevisions") => Strategy { validate: validate_revision, ..PLAIN },
        ("apps", "daemonsets") => daemonset::STRATEGY,
        ("apps", "deployments") => deployment::STRATEGY,
        ("apps", "replicasets") => replicaset::STRATEGY,
        ("apps", "statefulsets") => statefulset::STRATEGY,
        ("autoscaling", "horizontalpodautoscalers") => autoscaler::STRATEGY,
        ("batch", "cronjobs") => cronjob::STRATEGY,
        ("batch", "jobs") => job::STRATEGY,
        ("certificates.k8s.io", "certificatesigningrequests") => certificates::STRATEGY,
        ("certificates.k8s.io", "clustertrustbundles") => certificates::TRUST_BUNDLE,
        ("coordination.k8s.io", "leases") => lease::STRATEGY,
        ("discovery.k8s.io", "endpointslices") => endpointslice::STRATEGY,
        ("flowcontrol.apiserver.k8s.io", "flowschemas") => flowcontrol::SCHEMA,
        ("flowcontrol.apiserver.k8s.io", "prioritylevelconfigurations") => flowcontrol::LEVEL,
        ("networking.k8s.io", "ingresses") => ingress::STRATEGY,
        ("networking.k8s.io", "ingressclasses") => ingress::CLASS,
        ("networking.k8s.io", "networkpolicies") => networkpolicy::STRATEGY,
        ("networking.k8s.io", "ipaddresses") => servicerange::ADDRESS,
        ("networking.k8s.io", "servicecidrs") => servicerange::CIDR,
        ("policy", "poddisruptionbudgets") => disruptionbudget::STRATEGY,
        ("rbac.authorization.k8s.io", "clusterroles" | "roles") => rbac::ROLE,
        ("rbac.authorization.k8s.io", "clusterrolebindings" | "rolebindings") => rbac::BINDING,
        ("resource.k8s.io", "resourceclaims" | "resourceclaimtemplates") => resourceclaim::STRATEGY,
        ("resource.k8s.io", "deviceclasses" | "resourceslices") => {
            Strategy { generation: Generation::Counted, ..resourceclaim::STRATEGY }
        }
        ("scheduling.k8s.io", "priorityclasses") => priorityclass::STRATEGY,
        ("storage.k8s.io", "storageclasses") => storage::CLASS,
        ("storage.k8s.io", "csidrivers") => storage::DRIVER,
        ("storage.k8s.io", "csinodes" | "volumeattributesclasses") => {
            Strategy { deleted: Deleted::Object, ..PLAIN }
        }
        ("storage.k8s.io", "volumeattachments") => {
            Strategy { generation: Generation::None, deleted: Deleted::Object, ..SPEC_AND_STATUS }
        }
        _ => return None,
    })
}

fn default_api_service(service: &mut Value) {
    if let Some(target) = service.at_mut("spec.service") {
        target.default("port", 443);
    }
}

fn validate_quota(quota: &Value, errors: &mut ErrorList) {
    let path = Path::Root("spec.hard");
    for (name, value) in quota.entries("spec.hard") {
        let text = value.as_str().unwrap_or_default();
        if text.starts_with('-') {
            errors.invalid(&path.key(name), text, NOT_NEGATIVE);
        }
    }
}

fn validate_revision(revision: &Value, errors: &mut ErrorList) {
    if !revision.has("data") {
        errors.required(&Path::Root("data"), "data is mandatory");
    }
    if let Some(number) = revision.number("revision").filter(|number| *number < 0) {
        errors.invalid(&Path::Root("revision"), number, NOT_NEGATIVE);
    }
}
