//! The built-in plugins, one file each.

mod certificate_requester;
mod certificate_rights;
mod default_tolerations;
mod namespace_lifecycle;
mod node_restriction;
mod node_taint;
mod priority;
mod rbac_escalation;
mod runtime_class;
mod service_account;

pub use certificate_requester::CertificateRequester;
pub use certificate_rights::CertificateRights;
pub use default_tolerations::DefaultTolerations;
pub use namespace_lifecycle::NamespaceLifecycle;
pub use node_restriction::NodeRestriction;
pub use node_taint::NodeTaint;
pub use priority::Priority;
pub use rbac_escalation::RbacEscalation;
pub use runtime_class::RuntimeClass;
pub use service_account::ServiceAccount;
