//! Validation of the security contexts of a pod and of its containers.

use serde_json::Value;

use edgek_api::field::{ErrorList, Path};
use edgek_apiserver_admission::fields::Fields;

/// Validates the `securityContext` of a pod.
pub(super) fn pod(context: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    for field in ["fsGroup", "runAsUser", "runAsGroup"] {
        id(context.at(field), &path.field(field), errors);
    }
    let groups = path.field("supplementalGroups");
    for (index, group) in context.items("supplementalGroups").iter().enumerate() {
        id(group, &groups.index(index), errors);
    }
    let sysctls = path.field("sysctls");
    for (index, sysctl) in context.items("sysctls").iter().enumerate() {
        let path = sysctls.index(index);
        sysctl_name(sysctl.text("name"), &path.field("name"), errors);
    }
    supported(context, "fsGroupChangePolicy", &["Always", "OnRootMismatch"], path, errors);
    seccomp(context, path, errors);
}

/// Validates the `securityContext` of a container.
pub(super) fn container(context: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    for field in ["runAsUser", "runAsGroup"] {
        id(context.at(field), &path.field(field), errors);
    }
    supported(context, "procMount", &["Default", "Unmasked"], path, errors);
    seccomp(context, path, errors);
    if context.at("allowPrivilegeEscalation") != &Value::Bool(false) {
        return;
    }
    if context.flag("privileged") {
        let detail = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true";
        errors.invalid(path, context.clone(), detail);
    }
    if context.items("capabilities.add").iter().any(|capability| capability == "CAP_SYS_ADMIN") {
        let detail = "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN";
        errors.invalid(path, context.clone(), detail);
    }
}

fn id(value: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    if let Some(id) = value.as_i64().filter(|id| !(0..=i64::from(i32::MAX)).contains(id)) {
        errors.invalid(path, id, "must be between 0 and 2147483647, inclusive");
    }
}

/// A field that may be absent, or one of a few values.
fn supported(context: &Value, field: &str, values: &[&str], path: &Path<'_>, errors: &mut ErrorList) {
    let value = context.text(field);
    if !value.is_empty() && !values.contains(&value) {
        errors.not_supported(&path.field(field), value, values);
    }
}

fn seccomp(context: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let profile = context.at("seccompProfile");
    if profile.is_null() {
        return;
    }
    let path = path.field("seccompProfile");
    let given = !profile.text("localhostProfile").is_empty();
    match profile.text("type") {
        "Localhost" if !given => {
            errors.required(&path.field("localhostProfile"), "must be set when seccomp type is Localhost")
        }
        "RuntimeDefault" | "Unconfined" if given => errors.invalid(
            &path.field("localhostProfile"),
            profile.at("localhostProfile").clone(),
            "can only be set when seccomp type is Localhost",
        ),
        "Localhost" | "RuntimeDefault" | "Unconfined" => {}
        "" => errors.required(&path.field("type"), "type is required when seccompProfile is set"),
        other => {
            let types = ["Localhost", "RuntimeDefault", "Unconfined"];
            errors.not_supported(&path.field("type"), other, &types);
        }
    }
}

fn sysctl_name(name: &str, path: &Path<'_>, errors: &mut ErrorList) {
    if name.is_empty() {
        errors.required(path, "");
        return;
    }
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte);
    let is_segment = |segment: &str| {
        let ends = |byte: Option<u8>| byte.is_some_and(|byte| inner(byte) && !b"-_".contains(&byte));
        ends(segment.bytes().next()) && ends(segment.bytes().last()) && segment.bytes().all(inner)
    };
    if name.len() > 253 || !name.split(['.', '/']).all(is_segment) {
        errors.invalid(
            path,
            name,
            r"must have at most 253 characters and match regex ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$",
        );
    }
}
