//! `NamespaceLifecycle`: nothing is created in a namespace that does not exist or is ending, and the system's own
//! namespaces stay.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::Value;

use crate::fields::Fields;
use crate::{Cause, Error, Lookup, Operation, Phases, Plugin, Request};

/// The namespaces that cannot be deleted.
const IMMORTAL: [&str; 3] = ["default", "kube-system", "kube-public"];

/// The plugin.
pub struct NamespaceLifecycle {
    objects: Arc<dyn Lookup>,
}

impl NamespaceLifecycle {
    /// The plugin, looking namespaces up in `objects`.
    pub fn new(objects: Arc<dyn Lookup>) -> Self {
        Self { objects }
    }
}

#[async_trait]
impl Plugin for NamespaceLifecycle {
    fn phases(&self, request: &Request<'_>) -> Phases {
        let namespaces = request.group.is_empty() && request.resource == "namespaces";
        match request.operation {
            Operation::Delete if namespaces && IMMORTAL.contains(&request.name) => Phases::Mutate,
            Operation::Create | Operation::Connect if !namespaces && !request.namespace.is_empty() => {
                // Access reviews must not tell which namespaces exist.
                if request.group == "authorization.k8s.io" { Phases::None } else { Phases::Mutate }
            }
            _ => Phases::None,
        }
    }

    async fn mutate(&self, request: &Request<'_>, _: &mut Value) -> Result<(), Error> {
        if request.operation == Operation::Delete {
            return Err(Error::forbidden("this namespace may not be deleted"));
        }
        let name = request.namespace;
        let Some(namespace) = self.objects.get("", "namespaces", "", name) else {
            return Err(Error::NotFound { resource: "namespaces", name: name.to_owned() });
        };
        if request.operation != Operation::Create || namespace.text("status.phase") != "Terminating" {
            return Ok(());
        }
        Err(Error::Forbidden {
            message: format!(
                "unable to create new content in namespace {name} because it is being terminated"
            ),
            cause: Some(Cause {
                kind: "NamespaceTerminating",
                message: format!("namespace {name} is being terminated"),
                field: "metadata.namespace",
            }),
        })
    }
}
