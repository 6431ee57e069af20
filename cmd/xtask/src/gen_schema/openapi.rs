//! Reads the OpenAPI definitions of every group version, and keeps them for tests.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use anyhow::{Context, Result};
use flate2::{Compression, GzBuilder};
use serde_json::{Value, json};

const KINDS: &str = "x-kubernetes-group-version-kind";

/// Definition name to its schema.
pub(super) type Definitions = BTreeMap<String, Value>;

/// The v3 definitions of all documents, with the kinds that v2 lists: a v3 document only has those of its own group.
pub(super) fn read(spec: &Path) -> Result<Definitions> {
    let mut definitions = Definitions::new();
    for entry in std::fs::read_dir(spec.join("v3"))? {
        let mut document: Value = serde_json::from_slice(&std::fs::read(entry?.path())?)?;
        if let Value::Object(schemas) = document["components"]["schemas"].take() {
            definitions.extend(schemas);
        }
    }
    for (name, swagger) in read_v2(spec)? {
        if let (Some(definition), Some(kinds)) = (definitions.get_mut(&name), swagger.get(KINDS)) {
            definition[KINDS] = kinds.clone();
        }
    }
    Ok(definitions)
}

fn read_v2(spec: &Path) -> Result<Definitions> {
    let mut swagger: Value = serde_json::from_slice(&std::fs::read(spec.join("swagger.json"))?)?;
    Ok(serde_json::from_value(swagger["definitions"].take())?)
}

/// Writes the definitions of GA packages as servers tell them in v2 and v3, without their prose. The published documents
/// leave the values of enumerations out.
pub(super) fn write_published(
    spec: &Path,
    v3: &Definitions,
    generated: &Generated,
    out: &Path,
) -> Result<()> {
    let published = json!({"v2": bare(&read_v2(spec)?, generated), "v3": bare(v3, generated)});
    let file = GzBuilder::new().write(File::create(out)?, Compression::best());
    serde_json::to_writer(file, &published)?;
    Ok(())
}

/// What upstream generates for the properties that are enumerations.
#[derive(Default)]
pub(super) struct Generated(BTreeMap<(String, String), Enumeration>);

/// A property whose value, or whose elements, are enumerated.
pub(super) struct Enumeration {
    pub(super) values: Vec<String>,
    /// Of a single value; it lists the values too.
    pub(super) description: Option<String>,
}

impl Generated {
    /// Reads `zz_generated.openapi.go`: one Go function a definition, one field a line.
    pub(super) fn parse(source: &str) -> Result<Self> {
        let mut found = BTreeMap::new();
        let (mut function, mut property, mut description) = ("", "", None);
        for line in source.lines() {
            if let Some(rest) = line.strip_prefix("func schema_") {
                function = rest.split('(').next().unwrap_or_default();
            }
            let line = line.trim();
            if let Some(name) = line.strip_prefix('"').and_then(|rest| rest.strip_suffix("\": {")) {
                property = name;
            } else if line == "SchemaProps: spec.SchemaProps{" {
                description = None;
            } else if let Some(text) = line.strip_prefix("Description: ") {
                description = Some(text.trim_end_matches(','));
            } else if let Some(values) = line.strip_prefix("Enum:") {
                let values = values.trim().strip_prefix("[]interface{}{").context("no list of values")?;
                let values = serde_json::from_str(&format!("[{}]", values.trim_end_matches("},")))?;
                let description = description.map(serde_json::from_str).transpose()?;
                let key = (function.to_owned(), property.to_owned());
                found.insert(key, Enumeration { values, description });
            }
        }
        Ok(Self(found))
    }

    /// What there is for a property of a definition.
    pub(super) fn get(&self, definition: &str, property: &str) -> Option<&Enumeration> {
        self.0.get(&(function(definition), property.to_owned()))
    }
}

/// The Go function that makes a definition: named after the last four parts of its package's path, and its type.
fn function(definition: &str) -> String {
    let path = definition.replacen("io.k8s", "k8sio", 1).replace('-', "_");
    let parts: Vec<&str> = path.split('.').collect();
    parts[parts.len().saturating_sub(5)..].join("_")
}

/// What a property is, or holds as a list or map.
fn innermost(property: &mut Value) -> &mut Value {
    for inner in ["items", "additionalProperties"] {
        if property.get(inner).is_some() {
            return innermost(&mut property[inner]);
        }
    }
    property
}

fn bare(definitions: &Definitions, generated: &Generated) -> Value {
    let mut kept: serde_json::Map<String, Value> = definitions
        .iter()
        .filter(|(name, _)| !name.contains("alpha") && !name.contains("beta"))
        .map(|(name, definition)| (name.clone(), definition.clone()))
        .collect();
    for (name, definition) in &mut kept {
        let Some(definition) = definition.as_object_mut() else { continue };
        definition.remove("description");
        let properties = definition.get_mut("properties").and_then(Value::as_object_mut);
        for (field, property) in properties.into_iter().flatten() {
            if let Some(property) = property.as_object_mut() {
                property.remove("description");
            }
            if let Some(found) = generated.get(name, field) {
                innermost(property)["enum"] = json!(found.values);
            }
        }
    }
    Value::Object(kept)
}
