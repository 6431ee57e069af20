//! Validation of labels, annotations and label selectors, as upstream's `metav1/validation`.

use edgek_api::name;
use serde_json::Value;

use edgek_api::field::{ErrorList, Path};
use edgek_apiserver_admission::fields::Fields;

/// The most bytes that all annotations of an object may have, keys included.
const MAX_ANNOTATIONS: usize = 256 * 1024;

/// Validates a map of labels.
pub(crate) fn validate(labels: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    for (key, value) in labels.as_object().into_iter().flatten() {
        errors.invalid_all(path, key, name::qualified_name(key));
        let value = value.as_str().unwrap_or_default();
        errors.invalid_all(path, value, name::label_value(value));
    }
}

/// Validates a map of annotations.
pub(crate) fn validate_annotations(annotations: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let mut total = 0;
    for (key, value) in annotations.as_object().into_iter().flatten() {
        errors.invalid_all(path, key, name::qualified_name(&key.to_lowercase()));
        total += key.len() + value.as_str().map_or(0, str::len);
    }
    if total > MAX_ANNOTATIONS {
        errors.too_long(path, MAX_ANNOTATIONS);
    }
}

/// Validates a `LabelSelector`.
pub(crate) fn validate_selector(selector: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    validate(selector.at("matchLabels"), &path.field("matchLabels"), errors);
    let expressions = path.field("matchExpressions");
    for (index, expression) in selector.items("matchExpressions").iter().enumerate() {
        let item = expressions.index(index);
        let key = expression.text("key");
        errors.invalid_all(&item.field("key"), key, name::qualified_name(key));
        let values = expression.items("values");
        match expression.text("operator") {
            "In" | "NotIn" if values.is_empty() => {
                errors
                    .required(&item.field("values"), "must be specified when `operator` is 'In' or 'NotIn'");
            }
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                errors.forbidden(
                    &item.field("values"),
                    "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
                );
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            other => errors.invalid(&item.field("operator"), other, "not a valid selector operator"),
        }
        for (index, value) in values.iter().enumerate() {
            let value = value.as_str().unwrap_or_default();
            errors.invalid_all(&item.field("values").index(index), value, name::label_value(value));
        }
    }
}

/// Whether a selector selects everything, because it says nothing.
pub(crate) fn selects_all(selector: &Value) -> bool {
    selector.at("matchLabels").as_object().is_none_or(serde_json::Map::is_empty)
        && selector.items("matchExpressions").is_empty()
}

/// Whether a valid `LabelSelector` selects an object with these labels.
pub(crate) fn matches(selector: &Value, labels: &Value) -> bool {
    let value_of = |key: &str| labels.get(key).and_then(Value::as_str);
    selector.entries("matchLabels").all(|(key, wanted)| value_of(key) == wanted.as_str())
        && selector.items("matchExpressions").iter().all(|expression| {
            let value = value_of(expression.text("key"));
            let listed =
                value.is_some_and(|value| expression.items("values").iter().any(|listed| listed == value));
            match expression.text("operator") {
                "In" => listed,
                "NotIn" => !listed,
                "Exists" => value.is_some(),
                _ => value.is_none(),
            }
        })
}
