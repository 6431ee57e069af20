//! Webhook configurations and admission policies.

use serde_json::{Value, json};

use crate::strategy::{Generation, PLAIN, SPEC_AND_STATUS, Strategy};
use edgek_apiserver_admission::fields::Fields;

pub(super) const CONFIGURATION: Strategy =
    Strategy { default: default_configuration, generation: Generation::Counted, ..PLAIN };
pub(super) const POLICY: Strategy = Strategy { default: default_policy, ..SPEC_AND_STATUS };

fn default_configuration(configuration: &mut Value) {
    let mutating = configuration.text("kind") == "MutatingWebhookConfiguration";
    for webhook in configuration.items_mut("webhooks") {
        webhook.default("failurePolicy", "Fail");
        webhook.default("timeoutSeconds", 10);
        matching(webhook);
        if mutating {
            webhook.default("reinvocationPolicy", "Never");
        }
        for rule in webhook.items_mut("rules") {
            rule.default("scope", "*");
        }
        if let Some(service) = webhook.at_mut("clientConfig.service") {
            service.default("port", 443);
        }
    }
}

fn default_policy(policy: &mut Value) {
    let spec = policy.object_mut("spec");
    spec.default("failurePolicy", "Fail");
    if let Some(constraints) = spec.at_mut("matchConstraints") {
        matching(constraints);
        for rules in ["resourceRules", "excludeResourceRules"] {
            for rule in constraints.items_mut(rules) {
                rule.default("scope", "*");
            }
        }
    }
}

fn matching(value: &mut Value) {
    value.default("matchPolicy", "Equivalent");
    value.default("namespaceSelector", json!({}));
    value.default("objectSelector", json!({}));
}
