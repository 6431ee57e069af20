//! PodTemplates.

use serde_json::Value;

use crate::pod::{default_template, validate_template};
use crate::strategy::{Deleted, Generation, PLAIN, Strategy};
use edgek_api::field::{ErrorList, Path};
use edgek_apiserver_admission::fields::Fields;

pub(super) const STRATEGY: Strategy = Strategy {
    default: default_template,
    validate,
    generation: Generation::Counted,
    deleted: Deleted::Object,
    ..PLAIN
};

fn validate(template: &Value, errors: &mut ErrorList) {
    validate_template(template.at("template"), &Path::Root("template"), errors);
}
