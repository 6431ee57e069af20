//! `NodeTaint`: a new node takes no pods until it is ready. The node lifecycle controller takes the taint away.

use async_trait::async_trait;
use serde_json::{Value, json};

use crate::fields::Fields;
use crate::{Error, Operation, Phases, Plugin, Request};

const NOT_READY: &str = "node.kubernetes.io/not-ready";

/// The plugin.
pub struct NodeTaint;

#[async_trait]
impl Plugin for NodeTaint {
    fn phases(&self, request: &Request<'_>) -> Phases {
        let create = request.operation == Operation::Create;
        if create && request.is("", "nodes") { Phases::Mutate } else { Phases::None }
    }

    async fn mutate(&self, _: &Request<'_>, node: &mut Value) -> Result<(), Error> {
        let mut taints = node.items("spec.taints").to_vec();
        let known =
            taints.iter().any(|taint| taint.text("key") == NOT_READY && taint.text("effect") == "NoSchedule");
        if !known {
            taints.push(json!({"effect": "NoSchedule", "key": NOT_READY}));
            node.object_mut("spec").set("taints", taints);
        }
        Ok(())
    }
}
