//! `Chain`: authorizers asked in order (upstream's union authorizer).

use std::sync::Arc;

use edgek_apiserver_authn::User;

use crate::{Attributes, Authorizer, Decision, PolicyRule};

/// The first authorizer that allows or denies decides; when none does, their reasons are told together.
pub struct Chain(pub Vec<Arc<dyn Authorizer>>);

impl Authorizer for Chain {
    fn authorize(&self, attributes: &Attributes<'_>) -> Decision {
        let mut reasons = Vec::new();
        for authorizer in &self.0 {
            match authorizer.authorize(attributes) {
                Decision::NoOpinion { reason } if reason.is_empty() => {}
                Decision::NoOpinion { reason } => reasons.push(reason),
                decided => return decided,
            }
        }
        Decision::NoOpinion { reason: reasons.join("\n") }
    }

    fn rules(&self, user: &User, namespace: &str) -> Vec<PolicyRule> {
        self.0.iter().flat_map(|authorizer| authorizer.rules(user, namespace)).collect()
    }
}
