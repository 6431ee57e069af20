//! JSON values written as block-style YAML.

use serde_json::Value;

/// The YAML of a value, with a final newline.
pub(crate) fn encode(value: &Value) -> String {
    let mut out = String::new();
    match value {
        Value::Object(_) | Value::Array(_) if !is_empty(value) => block(value, 0, &mut out),
        scalar => {
            self::scalar(scalar, &mut out);
            out.push('\n');
        }
    }
    out
}

fn is_empty(value: &Value) -> bool {
    value.as_object().is_some_and(serde_json::Map::is_empty) || value.as_array().is_some_and(Vec::is_empty)
}

/// Writes a list or map whose lines are indented by `indent`; the caller has indented the first one.
fn block(value: &Value, indent: usize, out: &mut String) {
    let mut first = true;
    let mut line = |out: &mut String| {
        if !std::mem::take(&mut first) {
            out.push_str(&" ".repeat(indent));
        }
    };
    match value {
        Value::Array(items) => {
            for item in items {
                line(out);
                out.push_str("- ");
                nested(item, indent + 2, Place::Inline, out);
            }
        }
        Value::Object(fields) => {
            for (key, value) in fields {
                line(out);
                scalar(&Value::String(key.clone()), out);
                out.push(':');
                nested(value, indent, Place::AfterKey, out);
            }
        }
        _ => {}
    }
}

/// Where a value stands: on the line of its dash, or after its key.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Inline,
    AfterKey,
}

fn nested(value: &Value, indent: usize, place: Place, out: &mut String) {
    let composite = matches!(value, Value::Object(_) | Value::Array(_)) && !is_empty(value);
    if !composite {
        if place == Place::AfterKey {
            out.push(' ');
        }
        scalar(value, out);
        out.push('\n');
        return;
    }
    if place == Place::AfterKey {
        let indent = if value.is_array() { indent } else { indent + 2 };
        out.push('\n');
        out.push_str(&" ".repeat(indent));
        return block(value, indent, out);
    }
    block(value, indent, out);
}

fn scalar(value: &Value, out: &mut String) {
    match value {
        Value::String(text) if is_plain(text) => out.push_str(text),
        // Double-quoted YAML reads all escapes of JSON.
        other => out.push_str(&other.to_string()),
    }
}

/// Whether a text is itself in YAML without quotes; when in doubt it is not.
fn is_plain(text: &str) -> bool {
    let first = text.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'/');
    let safe = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/-_.".contains(&byte));
    let special = ["true", "false", "null", "yes", "no", "on", "off", "y", "n", "nan", "inf"];
    first && safe && !special.contains(&text.to_ascii_lowercase().as_str())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn maps_and_lists_are_blocks_and_doubtful_texts_are_quoted() {
        let value = json!({"a": {"b": [1, {"c": "yes", "d": []}], "e": "x y"}, "f": null, "g": [[1]]});
        let expected = "a:\n  b:\n  - 1\n  - c: \"yes\"\n    d: []\n  e: \"x y\"\nf: null\ng:\n- - 1\n";
        assert_eq!(encode(&value), expected);
    }
}
