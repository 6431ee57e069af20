//! Objects, lists and watch events in the format and view that the client accepts.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use edgek_api::protobuf;
use edgek_api::resource::Resource;
use edgek_api::status::Status;
use edgek_apiserver_admission::fields::Fields;
use edgek_apiserver_registry::{Registry, Stored};
use edgek_store_watch::{EventKind, List, Object, WatchEvent};
use http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use http::{Response, StatusCode};
use http_body_util::BodyExt;
use serde_json::{Value, json};

use crate::answer;
use crate::body::Body;
use crate::list::JsonList;
use crate::negotiate::{Format, Output, View};
use crate::server::Inner;
use crate::table::{self, Header};

/// An object as it is stored.
pub(crate) fn object(
    server: &Inner,
    code: StatusCode,
    resource: &Resource,
    stored: &Stored,
    output: Output,
) -> Response<Body> {
    if output == Output::default() && resource.stored_as.is_none() {
        // The common case: the bytes are the answer.
        return answer::bytes(code, Format::Json.media_type(), stored.0.clone());
    }
    let served = || Registry::served(resource, &stored.0);
    match output.view {
        View::Whole => answer::value(code, &served(), server.schema, Some(resource.type_id), output),
        View::Table => {
            let object = std::iter::once(&*stored.0);
            answer::document(&table::of(resource, object, Header::Columns, output.include), output)
        }
        View::Metadata | View::MetadataList => metadata_answer(server, code, &metadata(&served()), output),
    }
}

/// The `PartialObjectMetadata` of an object.
fn metadata(object: &Value) -> Value {
    json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": object.at("metadata")})
}

fn metadata_answer(server: &Inner, code: StatusCode, value: &Value, output: Output) -> Response<Body> {
    let type_id = server.schema.by_kind("meta.k8s.io", "v1", value.text("kind"));
    match type_id {
        Some(type_id) => answer::value(code, value, server.schema, Some(type_id), output),
        None => answer::document(value, output),
    }
}

/// The metadata of a list.
fn list_meta(list: &List) -> Value {
    let mut meta = json!({"resourceVersion": list.revision.0.to_string()});
    if let Some(token) = &list.token {
        meta.set("continue", token.as_str());
    }
    if let Some(remaining) = list.remaining {
        meta.set("remainingItemCount", remaining);
    }
    meta
}

/// A list or a page of one.
pub(crate) fn list(server: &Inner, resource: &Resource, list: List, output: Output) -> Response<Body> {
    let version = resource.api_version();
    match (output.view, output.format, output.pretty) {
        (View::Whole, Format::Json, false) if resource.stored_as.is_none() => json_list(resource, list),
        (View::Whole, Format::Protobuf, _) => {
            let meta = protobuf::ListMeta {
                resource_version: list.revision.0.to_string(),
                next: list.token.clone().unwrap_or_default(),
                remaining: list.remaining.and_then(|remaining| i64::try_from(remaining).ok()),
            };
            let items: Vec<Vec<u8>> =
                list.items.iter().map(|object| message(server, resource, object)).collect();
            let body = protobuf::list(&version, &resource.list_kind, &meta, items.iter().map(Vec::as_slice));
            answer::bytes(StatusCode::OK, Format::Protobuf.media_type(), body)
        }
        (View::Whole, ..) => {
            let items: Vec<Value> =
                list.items.iter().map(|object| Registry::served(resource, object.bytes())).collect();
            let value = json!({"apiVersion": version, "items": items, "kind": resource.list_kind, "metadata": list_meta(&list)});
            answer::document(&value, output)
        }
        (View::Table, ..) => {
            let items = list.items.iter().map(|object| &**object.bytes());
            let mut table = table::of(resource, items, Header::Columns, output.include);
            table.set("metadata", list_meta(&list));
            answer::document(&table, output)
        }
        (View::Metadata | View::MetadataList, ..) => {
            let items: Vec<Value> = list
                .items
                .iter()
                .map(|object| metadata(&Registry::served(resource, object.bytes())))
                .collect();
            let value = json!({
                "apiVersion": "meta.k8s.io/v1", "items": items, "kind": "PartialObjectMetadataList", "metadata": list_meta(&list),
            });
            metadata_answer(server, StatusCode::OK, &value, output)
        }
    }
}

/// The message of an object in protobuf.
fn message(server: &Inner, resource: &Resource, object: &Object) -> Vec<u8> {
    protobuf::encode_message(&Registry::served(resource, object.bytes()), server.schema, resource.type_id)
}

fn json_list(resource: &Resource, list: List) -> Response<Body> {
    let version = Value::String(resource.api_version());
    let kind = Value::String(resource.list_kind.to_string());
    let head = format!(r#"{{"apiVersion":{version},"kind":{kind},"metadata":{},"items":["#, list_meta(&list));
    let body = JsonList::new(head.into_bytes(), list.items);
    let length = body.len();
    let mut response = Response::new(body.boxed_unsync());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(Format::Json.media_type()));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    response
}

/// Frames the events of one watch.
pub(crate) struct EventEncoder {
    server: Arc<Inner>,
    resource: Arc<Resource>,
    version: String,
    output: Output,
    /// The first table of a stream names the columns; the others do not repeat them.
    header: Header,
}

impl EventEncoder {
    pub(crate) fn new(server: Arc<Inner>, resource: Arc<Resource>, output: Output) -> Self {
        let version = resource.api_version();
        Self { server, resource, version, output, header: Header::Columns }
    }

    /// One framed event.
    pub(crate) fn event(&mut self, event: &WatchEvent) -> Bytes {
        let kind = event.kind.as_str();
        match (self.output.view, self.output.format) {
            (View::Whole, Format::Json) if self.resource.stored_as.is_none() => {
                json_frame(kind, event.object().bytes())
            }
            (View::Whole, Format::Protobuf) => {
                let (server, resource) = (&self.server, &self.resource);
                // The frame has room for one encoding: that of the version in which the object is stored.
                let own = resource.stored_as.is_some().then(|| message(server, resource, event.object()));
                let shared = || event.frame.encoded(|object| message(server, resource, object).into());
                let message = own.as_deref().unwrap_or_else(|| shared());
                protobuf::watch_frame(kind, &self.version, &resource.kind, message).into()
            }
            (View::Whole, _) => {
                self.text_frame(kind, &Registry::served(&self.resource, event.object().bytes()))
            }
            (View::Metadata | View::MetadataList, _) => {
                let value = metadata(&Registry::served(&self.resource, event.object().bytes()));
                self.frame(kind, &value)
            }
            (View::Table, _) => {
                let bytes = &**event.object().bytes();
                let mut table =
                    table::of(&self.resource, std::iter::once(bytes), self.header, self.output.include);
                self.header = Header::Omitted;
                table.set("metadata", json!({"resourceVersion": event.revision().0.to_string()}));
                if event.kind == EventKind::Bookmark {
                    let object = metadata(&Registry::served(&self.resource, bytes));
                    table.set("rows", json!([{"cells": [], "object": object}]));
                }
                self.text_frame(kind, &table)
            }
        }
    }

    /// The event that ends a watch with an error.
    pub(crate) fn error(&self, status: &Status) -> Bytes {
        self.frame("ERROR", &serde_json::to_value(status).unwrap_or_default())
    }

    fn frame(&self, kind: &str, value: &Value) -> Bytes {
        let (version, object_kind) = (value.text("apiVersion"), value.text("kind"));
        let type_id = self.server.schema.by_api_version(version, object_kind);
        match (self.output.format, type_id) {
            (Format::Protobuf, Some(type_id)) => {
                let message = protobuf::encode_message(value, self.server.schema, type_id);
                protobuf::watch_frame(kind, version, object_kind, &message).into()
            }
            _ => self.text_frame(kind, value),
        }
    }

    fn text_frame(&self, kind: &str, value: &Value) -> Bytes {
        if self.output.format == Format::Yaml {
            let event = json!({"object": value, "type": kind});
            let mut bytes = b"---\n".to_vec();
            bytes.extend(answer::encode_text(&event, self.output));
            return bytes.into();
        }
        json_frame(kind, value.to_string().as_bytes())
    }
}

/// `{"type":"ADDED","object":...}` and a newline.
fn json_frame(kind: &str, object: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(object.len() + 40);
    frame.put_slice(br#"{"type":""#);
    frame.put_slice(kind.as_bytes());
    frame.put_slice(br#"","object":"#);
    frame.put_slice(object);
    frame.put_slice(b"}\n");
    frame.freeze()
}
