//! CertificateSigningRequests: what was asked for never changes, and status starts empty.

use serde_json::Value;

use super::workload::SPEC;
use crate::strategy::{Generation, SPEC_AND_STATUS, Strategy, copy};
use edgek_api::field::ErrorList;
use edgek_apiserver_admission::fields::Fields;

pub(super) const STRATEGY: Strategy =
    Strategy { prepare_update, validate, generation: Generation::None, ..SPEC_AND_STATUS };

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
    let signer = spec.text("signerName");
    if signer.is_empty() {
        errors.required(&SPEC.field("signerName"), "");
    } else if !signer.contains('/') {
        errors.invalid(
            &SPEC.field("signerName"),
            signer,
            "must be a fully qualified domain and path of the form 'example.com/signer-name'",
        );
    }
}
