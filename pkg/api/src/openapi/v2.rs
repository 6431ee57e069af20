//! The OpenAPI v2 document of everything.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::Documents;
use super::definition::{Definitions, Dialect, closure, reference};
use super::description::{self, Descriptions};
use super::path::{self, Body, Operation, PATCHES, PRODUCES, Path};
use super::v3::{object, roots};

/// Written piece by piece, so that only one definition at a time is a tree.
pub(super) fn document(documents: &Documents<'_>) -> String {
    let text = description::inflate();
    let definitions = definitions(documents, &text);
    let mut out = format!(r#"{{"swagger":"2.0","info":{},"paths":"#, info(documents));
    let paths = tagged_paths(documents);
    object(&mut out, paths.iter().map(|(tag, path)| (path.path.as_str(), path_item(path, tag))));
    out.push_str(r#","definitions":"#);
    let names = names(documents, paths.iter().map(|(_, path)| path));
    object(&mut out, names.iter().map(|name| (name.as_str(), definitions.get(name))));
    out.push_str(&format!(r#","securityDefinitions":{},"security":[{{"BearerToken":[]}}]}}"#, security()));
    out
}

/// Makes the definitions, with the given prose.
pub(super) fn definitions<'a>(documents: &'a Documents<'_>, text: &'a str) -> Definitions<'a> {
    Definitions {
        schema: documents.schema,
        dialect: Dialect::V2,
        descriptions: Descriptions::new(text),
        group_versions: documents.group_versions().collect(),
    }
}

pub(super) fn info(documents: &Documents<'_>) -> Value {
    json!({"title": "Kubernetes", "version": documents.version})
}

fn security() -> Value {
    json!({"BearerToken": {
        "type": "apiKey", "in": "header", "name": "authorization", "description": "Bearer Token authentication"
    }})
}

/// Every path of every group and version, with its operations' tag.
pub(super) fn tagged_paths(documents: &Documents<'_>) -> Vec<(String, Path)> {
    let of = |(group, version)| {
        let paths = path::paths(documents.schema, group, version, documents.resources(group, version));
        let tag = path::tag(group, version);
        paths.into_iter().map(move |path| (tag.clone(), path))
    };
    documents.group_versions().flat_map(of).collect()
}

/// The definitions that paths name, and all that those refer to.
pub(super) fn names<'a>(
    documents: &Documents<'_>,
    paths: impl Iterator<Item = &'a Path>,
) -> BTreeSet<String> {
    closure(documents.schema, paths.flat_map(|path| roots(std::slice::from_ref(path))))
}

pub(super) fn path_item(path: &Path, tag: &str) -> Value {
    let mut item = Map::new();
    if !path.names.is_empty() {
        item.insert("parameters".to_owned(), path.names.iter().map(|name| parameter(name, "path")).collect());
    }
    for operation in &path.operations {
        item.insert(operation.method.to_owned(), self::operation(operation, tag));
    }
    Value::Object(item)
}

fn parameter(name: &str, place: &str) -> Value {
    let mut out = json!({"name": name, "in": place, "type": path::parameter_type(name), "uniqueItems": true});
    if place == "path" {
        out["required"] = json!(true);
    }
    out
}

fn operation(operation: &Operation, tag: &str) -> Value {
    let mut parameters: Vec<Value> = operation.query.iter().map(|name| parameter(name, "query")).collect();
    let mut consumes: &[&str] = &["*/*"];
    if let Some(body) = &operation.body {
        let mut entry =
            json!({"name": "body", "in": "body", "schema": reference(Dialect::V2, body.definition())});
        if !matches!(body, Body::Options) {
            entry["required"] = json!(true);
        }
        if matches!(body, Body::Patch) {
            consumes = PATCHES;
        }
        parameters.insert(0, entry);
    }
    let mut out = json!({
        "tags": [tag],
        "description": operation.description,
        "operationId": operation.id,
        "schemes": ["https"],
        "consumes": consumes,
        "produces": if operation.answer.is_some() { PRODUCES } else { &["*/*"] },
        "responses": responses(operation),
    });
    if !parameters.is_empty() {
        out["parameters"] = Value::Array(parameters);
    }
    if let Some(action) = operation.action {
        out["x-kubernetes-action"] = json!(action);
    }
    if let Some(kind) = &operation.kind {
        out["x-kubernetes-group-version-kind"] =
            json!({"group": kind.group, "kind": kind.kind, "version": kind.version});
    }
    out
}

fn responses(operation: &Operation) -> Value {
    let schema = match &operation.answer {
        Some(name) => reference(Dialect::V2, name),
        None => json!({"type": "string"}),
    };
    let mut responses = Map::new();
    for (code, words) in operation.codes {
        responses.insert(code.to_string(), json!({"description": words, "schema": schema}));
    }
    responses.insert("401".to_owned(), json!({"description": "Unauthorized"}));
    Value::Object(responses)
}
