//! Answers: objects, values and errors as responses.

use std::fmt::Write;

use bytes::Bytes;
use edgek_api::protobuf;
use edgek_api::schema::{Schema, TypeId};
use edgek_api::status::Status;
use http::header::{
    CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, WARNING,
};
use http::{Response, StatusCode};
use serde_json::Value;

use crate::body::{Body, empty, full};
use crate::error::Rejection;
use crate::negotiate::{Accept, Format, Output};

/// The value of `Content-Type` for text.
pub(crate) const TEXT: &str = "text/plain; charset=utf-8";

/// A response of this body.
pub(crate) fn bytes(code: StatusCode, media_type: &'static str, body: impl Into<Bytes>) -> Response<Body> {
    let body = body.into();
    let mut response = Response::new(full(body.clone()));
    *response.status_mut() = code;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    response
}

/// A response of plain text.
pub(crate) fn text(code: StatusCode, body: impl Into<Bytes>) -> Response<Body> {
    let mut response = bytes(code, TEXT, body);
    response
        .headers_mut()
        .insert(HeaderName::from_static("x-content-type-options"), HeaderValue::from_static("nosniff"));
    response
}

/// A JSON value of a type, in the format the client accepts.
pub(crate) fn value(
    code: StatusCode,
    value: &Value,
    schema: &Schema,
    type_id: Option<TypeId>,
    output: Output,
) -> Response<Body> {
    bytes(code, output.format.media_type(), encode(value, schema, type_id, output))
}

/// A JSON value that is never written as protobuf (tables, documents).
pub(crate) fn document(value: &Value, output: Output) -> Response<Body> {
    let format = if output.format == Format::Protobuf { Format::Json } else { output.format };
    let output = Output { format, ..output };
    bytes(StatusCode::OK, format.media_type(), encode_text(value, output))
}

/// Encodes a value in a format.
pub(crate) fn encode(value: &Value, schema: &Schema, type_id: Option<TypeId>, output: Output) -> Vec<u8> {
    match (output.format, type_id) {
        (Format::Protobuf, Some(type_id)) => protobuf::encode(value, schema, type_id),
        _ => encode_text(value, output),
    }
}

pub(crate) fn encode_text(value: &Value, output: Output) -> Vec<u8> {
    let encoded = match (output.format, output.pretty) {
        (Format::Yaml, _) => return crate::yaml::encode(value).into_bytes(),
        (_, true) => serde_json::to_vec_pretty(value),
        (_, false) => serde_json::to_vec(value),
    };
    encoded.expect("JSON values have text keys only")
}

/// The answer to a request that failed.
pub(crate) fn rejection(rejection: &Rejection, accept: &Accept) -> Response<Body> {
    match rejection {
        Rejection::NoSuchPath => text(StatusCode::NOT_FOUND, "404 page not found\n"),
        Rejection::Status(status) => self::status(status, accept),
        Rejection::Warned(rejection, warnings) => warn(self::rejection(rejection, accept), warnings.clone()),
        Rejection::Continue(status, token) => {
            let mut body = serde_json::to_value(status).unwrap_or_default();
            body["metadata"]["continue"] = token.as_str().into();
            status_value(status, &body, accept)
        }
    }
}

/// A `Status` with its own code.
pub(crate) fn status(status: &Status, accept: &Accept) -> Response<Body> {
    let body = serde_json::to_value(status).unwrap_or_default();
    status_value(status, &body, accept)
}

fn status_value(status: &Status, body: &Value, accept: &Accept) -> Response<Body> {
    let schema = Schema::builtin();
    let code = StatusCode::from_u16(status.code).unwrap_or(StatusCode::OK);
    let mut response = value(code, body, schema, schema.by_kind("", "v1", "Status"), accept.error());
    let seconds = status.details.as_ref().map_or(0, |details| details.retry_after_seconds);
    if seconds > 0 {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// The same without its body, for HEAD.
pub(crate) fn without_body(response: Response<Body>) -> Response<Body> {
    response.map(|_| empty())
}

/// Adds warnings before those that are there.
pub(crate) fn warn_first(response: Response<Body>, warnings: Vec<String>) -> Response<Body> {
    let later: Vec<HeaderValue> = response.headers().get_all(WARNING).iter().cloned().collect();
    let mut response = response;
    response.headers_mut().remove(WARNING);
    let mut response = warn(response, warnings);
    for warning in later {
        response.headers_mut().append(WARNING, warning);
    }
    response
}

/// Adds warnings, each a header of its own, as upstream: code 299, agent `-`.
pub(crate) fn warn(mut response: Response<Body>, warnings: Vec<String>) -> Response<Body> {
    for warning in warnings {
        let mut quoted = String::with_capacity(warning.len() + 8);
        for letter in warning.chars() {
            match letter {
                '"' | '\\' => quoted.extend(['\\', letter]),
                control if control.is_control() => {}
                other => quoted.push(other),
            }
        }
        let mut header = String::new();
        let _ = write!(header, "299 - \"{quoted}\"");
        if let Ok(value) = HeaderValue::from_bytes(header.as_bytes()) {
            response.headers_mut().append(WARNING, value);
        }
    }
    response
}
