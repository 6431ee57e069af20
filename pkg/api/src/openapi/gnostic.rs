//! The OpenAPI v2 document as gnostic's protobuf (`openapiv2/OpenAPIv2.proto`), which client-go fetches. Made from the
//! JSON of each path and definition.

use serde_json::Value;

use super::Documents;
use super::{description, v2};
use crate::protobuf::Writer;

pub(super) fn document(documents: &Documents<'_>) -> Vec<u8> {
    let text = description::inflate();
    let definitions = v2::definitions(documents, &text);
    let paths = v2::tagged_paths(documents);
    let mut out = Writer::default();
    out.bytes(1, b"2.0");
    out.message(2, |out| strings(out, &v2::info(documents), &[("title", 1), ("version", 2)]));
    out.message(8, |out| {
        for (tag, path) in &paths {
            named(out, 2, &path.path, |out| path_item(out, &v2::path_item(path, tag)));
        }
    });
    out.message(9, |out| {
        for name in v2::names(documents, paths.iter().map(|(_, path)| path)) {
            named(out, 1, &name, |out| schema(out, &definitions.get(&name)));
        }
    });
    out.finish()
}

/// A `NamedX`: a name and a message.
fn named(out: &mut Writer, number: u16, name: &str, value: impl FnOnce(&mut Writer)) {
    out.message(number, |out| {
        out.bytes(1, name.as_bytes());
        out.message(2, value);
    });
}

/// The text and lists of text among a message's fields.
fn strings(out: &mut Writer, value: &Value, numbers: &[(&str, u16)]) {
    for (key, number) in numbers {
        match value.get(key) {
            Some(Value::String(text)) => out.bytes(*number, text.as_bytes()),
            Some(Value::Array(list)) => {
                list.iter().filter_map(Value::as_str).for_each(|text| out.bytes(*number, text.as_bytes()));
            }
            _ => {}
        }
    }
}

/// The extensions `x-...`, each as YAML text, of which JSON is a part.
fn extensions(out: &mut Writer, value: &Value, number: u16) {
    for (key, extension) in value.as_object().into_iter().flatten().filter(|(key, _)| key.starts_with("x-")) {
        named(out, number, key, |out| out.bytes(2, extension.to_string().as_bytes()));
    }
}

fn schema(out: &mut Writer, value: &Value) {
    strings(out, value, &[("$ref", 1), ("format", 2), ("description", 4), ("required", 19)]);
    for value in value["enum"].as_array().into_iter().flatten() {
        // Any.yaml, of which JSON is a part.
        out.message(20, |out| out.bytes(2, value.to_string().as_bytes()));
    }
    if let Some(inner) = value.get("additionalProperties") {
        out.message(21, |out| out.message(1, |out| schema(out, inner)));
    }
    if value.get("type").is_some() {
        out.message(22, |out| strings(out, value, &[("type", 1)]));
    }
    if let Some(items) = value.get("items") {
        out.message(23, |out| out.message(1, |out| schema(out, items)));
    }
    if let Some(Value::Object(properties)) = value.get("properties") {
        out.message(25, |out| {
            for (name, property) in properties {
                named(out, 1, name, |out| schema(out, property));
            }
        });
    }
    extensions(out, value, 31);
}

fn path_item(out: &mut Writer, value: &Value) {
    for (method, number) in [("get", 2), ("put", 3), ("post", 4), ("delete", 5), ("patch", 8)] {
        if let Some(value) = value.get(method) {
            out.message(number, |out| operation(out, value));
        }
    }
    parameters(out, 9, value);
}

fn operation(out: &mut Writer, value: &Value) {
    strings(
        out,
        value,
        &[("tags", 1), ("description", 3), ("operationId", 5), ("produces", 6), ("consumes", 7)],
    );
    parameters(out, 8, value);
    out.message(9, |out| {
        for (code, response) in value["responses"].as_object().into_iter().flatten() {
            named(out, 1, code, |out| out.message(1, |out| self::response(out, response)));
        }
    });
    strings(out, value, &[("schemes", 10)]);
    extensions(out, value, 13);
}

fn response(out: &mut Writer, value: &Value) {
    strings(out, value, &[("description", 1)]);
    if let Some(answer) = value.get("schema") {
        out.message(2, |out| out.message(1, |out| schema(out, answer)));
    }
}

fn parameters(out: &mut Writer, number: u16, value: &Value) {
    for parameter in value["parameters"].as_array().into_iter().flatten() {
        // ParametersItem.parameter
        out.message(number, |out| out.message(1, |out| self::parameter(out, parameter)));
    }
}

fn parameter(out: &mut Writer, value: &Value) {
    let required = i64::from(value["required"] == true);
    match value["in"].as_str() {
        Some("body") => out.message(1, |out| {
            strings(out, value, &[("name", 2), ("in", 3)]);
            out.integer(4, required);
            out.message(5, |out| schema(out, &value["schema"]));
        }),
        // NonBodyParameter.query_parameter_sub_schema
        Some("query") => out.message(2, |out| {
            out.message(3, |out| {
                strings(out, value, &[("in", 2), ("name", 4), ("type", 6)]);
                out.integer(20, 1);
            });
        }),
        // NonBodyParameter.path_parameter_sub_schema
        _ => out.message(2, |out| {
            out.message(4, |out| {
                out.integer(1, required);
                strings(out, value, &[("in", 2), ("name", 4), ("type", 5)]);
                out.integer(19, 1);
            });
        }),
    }
}
