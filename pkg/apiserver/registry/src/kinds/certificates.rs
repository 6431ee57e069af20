//! CertificateSigningRequests: what was asked for never changes, and status starts empty. ClusterTrustBundles: the
//! name begins with the signer's.

use serde_json::Value;

use super::workload::SPEC;
use crate::meta::immutable;
use crate::strategy::{Generation, PLAIN, SPEC_AND_STATUS, Strategy, copy};
use edgek_api::field::{ErrorList, Path};
use edgek_api::name;
use edgek_apiserver_admission::fields::Fields;

pub(super) const STRATEGY: Strategy =
    Strategy { prepare_update, validate, generation: Generation::None, ..SPEC_AND_STATUS };

pub(super) const TRUST_BUNDLE: Strategy = Strategy {
    name: name::Rule::PathSegment,
    validate: validate_bundle,
    validate_update: validate_bundle_update,
    ..PLAIN
};

fn prepare_update(new: &mut Value, old: &Value) {
    copy(new, old, "spec");
}

fn validate(request: &Value, errors: &mut ErrorList) {
    let spec = request.at("spec");
    if spec.text("request").is_empty() {
        errors.required(&SPEC.field("request"), "");
    }
    if spec.items("usages").is_empty() {
        errors.required(&SPEC.field("usages"), "");
    }
    validate_signer(spec.text("signerName"), errors);
}

fn validate_signer(signer: &str, errors: &mut ErrorList) {
    let path = SPEC.field("signerName");
    if signer.is_empty() {
        return errors.required(&path, "");
    }
    let Some((domain, rest)) = signer.split_once('/').filter(|(_, rest)| !rest.contains('/')) else {
        let detail = "must be a fully qualified domain and path of the form 'example.com/signer-name'";
        return errors.invalid(&path, signer, detail);
    };
    let mut labels = |text: &str, check: fn(&str) -> name::Problems| {
        // One label that is wrong says enough.
        if let Some((label, problems)) =
            text.split('.').map(|label| (label, check(label))).find(|(_, problems)| !problems.is_empty())
        {
            let told = problems.iter().map(|problem| format!("validating label {label:?}: {problem}"));
            errors.invalid_all(&path, text, told);
        }
    };
    labels(domain, name::dns1123_label);
    labels(rest, name::dns1123_subdomain);
    if !domain.contains('.') {
        errors.invalid(&path, domain, "should be a domain with at least two segments separated by dots");
    }
}

fn validate_bundle(bundle: &Value, errors: &mut ErrorList) {
    let signer = bundle.text("spec.signerName");
    let name = bundle.text("metadata.name");
    let path = Path::Root("metadata").field("name");
    if signer.is_empty() {
        errors.invalid_all(&path, name, name::dns1123_subdomain(name));
    } else {
        let prefix = signer.replace('/', ":") + ":";
        match name.strip_prefix(&prefix) {
            Some(rest) => errors.invalid_all(&path, name, name::dns1123_subdomain(rest)),
            None => errors.invalid(
                &path,
                name,
                &format!("ClusterTrustBundle for signerName {signer} must be named with prefix {prefix}"),
            ),
        }
        validate_signer(signer, errors);
    }
}

fn validate_bundle_update(new: &Value, old: &Value, errors: &mut ErrorList) {
    let at = "spec.signerName";
    immutable(new.at(at), old.at(at), &SPEC.field("signerName"), errors);
}
