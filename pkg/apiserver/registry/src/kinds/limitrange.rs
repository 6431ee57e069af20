//! LimitRanges.

use edgek_api::field::{ErrorList, Path};
use edgek_api::name;
use serde_json::Value;

use crate::strategy::{PLAIN, Strategy, UpdateOfMissing};
use edgek_apiserver_admission::fields::Fields;

pub(super) const STRATEGY: Strategy =
    Strategy { default, validate, update_of_missing: UpdateOfMissing::Create, ..PLAIN };

fn validate(range: &Value, errors: &mut ErrorList) {
    let limits = Path::Root("spec.limits");
    for (index, limit) in range.items("spec.limits").iter().enumerate() {
        let (kind, path) = (limit.text("type"), limits.index(index));
        let path = path.field("type");
        let problems = name::qualified_name(kind);
        if !problems.is_empty() {
            errors.invalid_all(&path, kind, problems);
        } else if !kind.contains('/') && !["Pod", "Container", "PersistentVolumeClaim"].contains(&kind) {
            errors.invalid(&path, kind, "must be a standard limit type or fully qualified");
        }
    }
}

fn default(range: &mut Value) {
    for limit in range.object_mut("spec").items_mut("limits") {
        if limit.text("type") != "Container" {
            continue;
        }
        for (from, to) in [("max", "default"), ("default", "defaultRequest"), ("min", "defaultRequest")] {
            let Some(values) = limit.at(from).as_object().cloned() else { continue };
            for (name, quantity) in values {
                limit.object_mut(to).default(&name, quantity);
            }
        }
    }
}
