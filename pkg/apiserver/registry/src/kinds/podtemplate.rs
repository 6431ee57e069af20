//! PodTemplates.

use serde_json::Value;

use crate::pod::{default_template, validate_template, warnings};
use crate::strategy::{Deleted, Generation, PLAIN, Strategy};
use edgek_api::field::{ErrorList, Path};
use edgek_apiserver_admission::fields::Fields;

pub(super) const STRATEGY: Strategy = Strategy {
    default: default_template,
    validate,
    warnings: |new, old| match old {
        Some(old) if old.number("metadata.generation") == new.number("metadata.generation") => Vec::new(),
        _ => warnings::of_spec(new.at("template.spec"), "template.spec"),
    },
    generation: Generation::Counted,
    deleted: Deleted::Object,
    ..PLAIN
};

fn validate(template: &Value, errors: &mut ErrorList) {
    validate_template(template.at("template"), &Path::Root("template"), errors);
}
