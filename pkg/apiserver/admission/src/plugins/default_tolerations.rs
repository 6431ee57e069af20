//! `DefaultTolerations`: a pod stays for five minutes on a node that is not ready or cannot be reached.

use async_trait::async_trait;
use serde_json::{Value, json};

use crate::fields::Fields;
use crate::{Error, Operation, Phases, Plugin, Request};

const SECONDS: i64 = 300;

/// The plugin.
pub struct DefaultTolerations;

#[async_trait]
impl Plugin for DefaultTolerations {
    fn phases(&self, request: &Request<'_>) -> Phases {
        let write = matches!(request.operation, Operation::Create | Operation::Update);
        if write && request.is("", "pods") { Phases::Mutate } else { Phases::None }
    }

    async fn mutate(&self, _: &Request<'_>, pod: &mut Value) -> Result<(), Error> {
        for key in ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"] {
            let tolerated = pod.items("spec.tolerations").iter().any(|toleration| {
                [key, ""].contains(&toleration.text("key"))
                    && ["NoExecute", ""].contains(&toleration.text("effect"))
            });
            if !tolerated {
                let mut tolerations = pod.items("spec.tolerations").to_vec();
                tolerations.push(json!({"effect": "NoExecute", "key": key, "operator": "Exists", "tolerationSeconds": SECONDS}));
                pod.object_mut("spec").set("tolerations", tolerations);
            }
        }
        Ok(())
    }
}
