//! Decoding request bodies by the schema, with upstream's words for what is wrong.

use edgek_api::json::{self, Unknown};
use edgek_api::schema::{GroupVersionKind, Schema, TypeId};
use edgek_api::status::Status;
use edgek_api::{protobuf, yaml};
use serde_json::{Map, Value};

use crate::error::Rejection;
use crate::negotiate::Format;

/// Where upstream's table of kinds is made, quoted: its errors say so.
const SCHEME: &str = "\"pkg/runtime/scheme.go:111\"";

/// What a body is expected to be.
#[derive(Debug, Clone)]
pub(crate) struct Expected {
    pub(crate) schema: &'static Schema,
    pub(crate) type_id: TypeId,
    pub(crate) gvk: GroupVersionKind,
}

/// A decoded object and what is odd about it.
#[derive(Debug)]
pub(crate) struct Body {
    pub(crate) value: Value,
    pub(crate) warnings: Vec<String>,
}

/// Decodes a body, which may leave its kind out but not name another.
pub(crate) fn body(
    bytes: &[u8],
    format: Format,
    expected: &Expected,
    unknown: Unknown,
) -> Result<Body, Rejection> {
    let Expected { schema, type_id, gvk } = expected;
    let decoded = match format {
        Format::Json => {
            json::decode(bytes, schema, *type_id, unknown).map_err(|error| explain(&error, expected))
        }
        Format::Yaml => {
            yaml::decode(bytes, schema, *type_id, unknown).map_err(|error| explain(&error, expected))
        }
        Format::Protobuf => protobuf::decode(bytes, schema, *type_id)
            .map(|value| json::Decoded { value, problems: Vec::new() })
            .map_err(|error| (!matches!(error, protobuf::DecodeError::Value(_)), error.to_string())),
    };
    let decoded =
        decoded.map_err(|(unrecognized, text)| failed(bytes, format, expected, unrecognized, &text))?;
    let mut value = decoded.value;
    check_version(bytes, &value, expected)?;
    check_kind(&value, expected)?;
    let object = value.as_object_mut().ok_or_else(|| Status::bad_request("the body is not an object"))?;
    set_missing(object, "apiVersion", gvk.api_version());
    set_missing(object, "kind", gvk.kind.to_string());
    Ok(Body { value, warnings: decoded.problems.iter().map(warning).collect() })
}

/// A problem as a warning: of YAML's only what follows the words that every one begins with.
fn warning(problem: &json::Problem) -> String {
    let text = problem.to_string();
    text.strip_prefix("yaml: unmarshal errors:\n  ").map_or(text.clone(), ToOwned::to_owned)
}

/// Whether it is not even known of which kind a body is, and what is wrong with it.
fn explain(error: &json::DecodeError, expected: &Expected) -> (bool, String) {
    let json::DecodeError::Type { given, place, .. } = error else {
        let unrecognized = matches!(error, json::DecodeError::Syntax(_) | json::DecodeError::Yaml(_));
        return (unrecognized, error.to_string());
    };
    // Upstream reads version and kind before anything else.
    let short_name = expected.schema.get(expected.type_id).short_name();
    let own_field = place.strip_prefix("struct field ").and_then(|path| path.strip_prefix(short_name));
    match (place.as_str(), own_field) {
        ("value", _) => (
            true,
            format!(
                "couldn't get version/kind; json parse error: json: cannot unmarshal {given} into Go value of type {VERSION_AND_KIND}"
            ),
        ),
        (_, Some(field @ (".kind" | ".apiVersion"))) => (
            true,
            format!(
                "couldn't get version/kind; json parse error: json: cannot unmarshal {given} into Go struct field {field} of type string"
            ),
        ),
        _ => (false, error.to_string()),
    }
}

/// How Go names the type that upstream reads version and kind with.
const VERSION_AND_KIND: &str =
    r#"struct { APIVersion string "json:\"apiVersion,omitempty\""; Kind string "json:\"kind,omitempty\"" }"#;

fn set_missing(object: &mut Map<String, Value>, field: &str, value: String) {
    let present = object.get(field).and_then(Value::as_str).is_some_and(|text| !text.is_empty());
    if !present {
        object.insert(field.to_owned(), Value::String(value));
    }
}

/// The error of a body that cannot be decoded, as upstream's `transformDecodeError`.
fn failed(bytes: &[u8], format: Format, expected: &Expected, unrecognized: bool, text: &str) -> Rejection {
    let kind = &expected.gvk.kind;
    if unrecognized {
        return unrecognizable(bytes, expected, text);
    }
    // The body may be of another kind altogether; then that is what is wrong with it.
    if format == Format::Json
        && let Ok(value) = serde_json::from_slice::<Value>(bytes)
        && let Err(other) = check_kind(&value, expected)
    {
        return other;
    }
    Status::bad_request(format!(
        "{kind} in version {:?} cannot be handled as a {kind}: {text}",
        expected.gvk.version
    ))
    .into()
}

/// The error of a body of which not even the kind can be told.
fn unrecognizable(bytes: &[u8], expected: &Expected, text: &str) -> Rejection {
    let kind = &expected.gvk.kind;
    let summary = summary(bytes);
    Status::bad_request(format!(
        "the object provided is unrecognized (must be of type {kind}): {text} ({summary})"
    ))
    .into()
}

fn check_version(bytes: &[u8], value: &Value, expected: &Expected) -> Result<(), Rejection> {
    let version = value.get("apiVersion").and_then(Value::as_str).unwrap_or_default();
    if version.matches('/').count() < 2 {
        return Ok(());
    }
    Err(unrecognizable(bytes, expected, &format!("unexpected GroupVersion string: {version}")))
}

fn check_kind(value: &Value, expected: &Expected) -> Result<(), Rejection> {
    let Expected { schema, gvk, .. } = expected;
    let text = |field: &str| value.get(field).and_then(Value::as_str).filter(|text| !text.is_empty());
    let own_version = gvk.api_version();
    let (api_version, kind) = (text("apiVersion").unwrap_or(&own_version), text("kind").unwrap_or(&gvk.kind));
    if api_version == own_version && kind == gvk.kind {
        return Ok(());
    }
    let version = api_version.rsplit('/').next().unwrap_or(api_version);
    let Some(other) = schema.by_api_version(api_version, kind) else {
        return Err(Status::bad_request(format!(
            "{kind} in version {version:?} cannot be handled as a {}: no kind {kind:?} is registered for version {api_version:?} in scheme {SCHEME}",
            gvk.kind
        ))
        .into());
    };
    if kind == gvk.kind {
        return Err(Status::bad_request(format!(
            "the API version in the data ({api_version}) does not match the expected API version ({own_version})"
        ))
        .into());
    }
    let expected_type = schema.get(expected.type_id).short_name();
    Err(Status::bad_request(format!(
        "{kind} in version {version:?} cannot be handled as a {}: converting ({}) to ({}): unknown conversion",
        gvk.kind,
        schema.get(other).go_name(),
        internal_type(&gvk.group, expected_type),
    ))
    .into())
}

/// How Go names upstream's internal type of a kind.
pub(crate) fn internal_type(group: &str, kind: &str) -> String {
    let package = match group {
        "" | "events.k8s.io" => "core",
        _ => group.split('.').next().unwrap_or_default(),
    };
    format!("{package}.{kind}")
}

/// The beginning of a body for an error, as upstream's `summarizeData`.
fn summary(bytes: &[u8]) -> String {
    const MAX: usize = 30;
    let more = if bytes.len() > MAX { " ..." } else { "" };
    let start = &bytes[..bytes.len().min(MAX)];
    match bytes.first() {
        None => "<empty>".to_owned(),
        Some(b'{') => format!("{}{more}", String::from_utf8_lossy(start)),
        Some(_) => format!("{}{more}", start.iter().map(|byte| format!("{byte:02x}")).collect::<String>()),
    }
}

/// Decodes options, which may say any group's version of their kind, or none.
pub(crate) fn options(
    bytes: &[u8],
    format: Format,
    expected: &Expected,
    unknown: Unknown,
) -> Result<Value, Rejection> {
    let Expected { schema, type_id, .. } = expected;
    let decoded = match format {
        Format::Json => json::decode(bytes, schema, *type_id, unknown)
            .map(|decoded| decoded.value)
            .map_err(|error| explain(&error, expected).1),
        Format::Yaml => yaml::decode(bytes, schema, *type_id, unknown)
            .map(|decoded| decoded.value)
            .map_err(|error| explain(&error, expected).1),
        Format::Protobuf => protobuf::decode(bytes, schema, *type_id).map_err(|error| error.to_string()),
    };
    let value = decoded.map_err(Status::bad_request)?;
    let text = |field: &str| value.get(field).and_then(Value::as_str).unwrap_or_default();
    let (kind, version) = (text("kind"), text("apiVersion"));
    if !kind.is_empty() && kind != expected.gvk.kind {
        return Err(Status::bad_request(format!(
            "no kind {kind:?} is registered for version {version:?} in scheme {SCHEME}"
        ))
        .into());
    }
    Ok(value)
}
