//! The OpenAPI v3 document of one group and version.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::Documents;
use super::definition::{Definitions, Dialect, closure, reference};
use super::description::{self, Descriptions};
use super::path::{self, Body, Operation, PATCHES, PRODUCES, Path};

/// Written piece by piece, so that only one definition at a time is a tree.
pub(super) fn document(documents: &Documents<'_>, group: &str, version: &str) -> String {
    let paths = path::paths(documents.schema, group, version, documents.resources(group, version));
    let text = description::inflate();
    let definitions = Definitions {
        schema: documents.schema,
        dialect: Dialect::V3,
        descriptions: Descriptions::new(&text),
        group_versions: if group.is_empty() { vec![("", "v1")] } else { vec![("", "v1"), (group, version)] },
    };
    let info = json!({"title": "Kubernetes", "version": documents.version});
    let mut out = format!(r#"{{"openapi":"3.0.0","info":{info},"paths":"#);
    let tag = path::tag(group, version);
    object(&mut out, paths.iter().map(|p| (p.path.as_str(), path_item(p, &tag))));
    out.push_str(r#","components":{"schemas":"#);
    let names = closure(documents.schema, roots(&paths));
    object(&mut out, names.iter().map(|name| (name.as_str(), definitions.get(name))));
    let schemes = json!({"BearerToken": {
        "type": "apiKey", "in": "header", "name": "authorization", "description": "Bearer Token authentication"
    }});
    out.push_str(&format!(r#","securitySchemes":{schemes}}}}}"#));
    out
}

/// Appends a JSON object.
pub(super) fn object<'a>(out: &mut String, entries: impl Iterator<Item = (&'a str, Value)>) {
    out.push('{');
    for (at, (key, value)) in entries.enumerate() {
        let comma = if at > 0 { "," } else { "" };
        out.push_str(&format!("{comma}{}:{value}", Value::from(key)));
    }
    out.push('}');
}

/// The definitions that paths name.
pub(super) fn roots(paths: &[Path]) -> BTreeSet<String> {
    let operations = paths.iter().flat_map(|path| &path.operations);
    operations
        .flat_map(|operation| {
            let body = operation.body.as_ref().map(|body| body.definition().to_owned());
            body.into_iter().chain(operation.answer.clone())
        })
        .collect()
}

fn path_item(path: &Path, tag: &str) -> Value {
    let mut item = Map::new();
    if !path.names.is_empty() {
        let parameter = |name: &&str| {
            json!({
                "name": name, "in": "path", "required": true,
                "schema": {"type": "string", "uniqueItems": true},
            })
        };
        item.insert("parameters".to_owned(), path.names.iter().map(parameter).collect());
    }
    for operation in &path.operations {
        item.insert(operation.method.to_owned(), self::operation(operation, tag));
    }
    Value::Object(item)
}

fn operation(operation: &Operation, tag: &str) -> Value {
    let mut out = json!({
        "tags": [tag],
        "description": operation.description,
        "operationId": operation.id,
        "responses": responses(operation),
    });
    if !operation.query.is_empty() {
        let parameter = |name: &&str| {
            json!({
                "name": name, "in": "query",
                "schema": {"type": path::parameter_type(name), "uniqueItems": true},
            })
        };
        out["parameters"] = operation.query.iter().map(parameter).collect();
    }
    if let Some(body) = &operation.body {
        let types = if matches!(body, Body::Patch) { PATCHES } else { &["*/*"] };
        out["requestBody"] = json!({"content": content(types, &reference(Dialect::V3, body.definition()))});
        if !matches!(body, Body::Options) {
            out["requestBody"]["required"] = json!(true);
        }
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
    let answer = match &operation.answer {
        Some(name) => content(PRODUCES, &reference(Dialect::V3, name)),
        None => content(&["*/*"], &json!({"type": "string"})),
    };
    let mut responses = Map::new();
    for (code, words) in operation.codes {
        responses.insert(code.to_string(), json!({"description": words, "content": answer}));
    }
    responses.insert("401".to_owned(), json!({"description": "Unauthorized"}));
    Value::Object(responses)
}

fn content(types: &[&str], schema: &Value) -> Value {
    types.iter().map(|media_type| ((*media_type).to_owned(), json!({ "schema": schema }))).collect()
}
