//! What several controllers ask of an object.

use k8s_openapi::api::core::v1::Namespace;

/// Whether new objects may be made in a namespace.
#[expect(clippy::needless_pass_by_value, reason = "a predicate for `is_some_and`")]
pub(crate) fn is_active_namespace(namespace: Namespace) -> bool {
    namespace.metadata.deletion_timestamp.is_none()
}
