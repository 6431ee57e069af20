//! Reads the OpenAPI definitions of every group version, and keeps them for tests.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use anyhow::Result;
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

/// Writes the definitions of GA packages as published in v2 and v3, without their prose.
pub(super) fn write_published(spec: &Path, v3: &Definitions, out: &Path) -> Result<()> {
    let published = json!({"v2": bare(&read_v2(spec)?), "v3": bare(v3)});
    let file = GzBuilder::new().write(File::create(out)?, Compression::best());
    serde_json::to_writer(file, &published)?;
    Ok(())
}

fn bare(definitions: &Definitions) -> Value {
    let mut kept: serde_json::Map<String, Value> = definitions
        .iter()
        .filter(|(name, _)| !name.contains("alpha") && !name.contains("beta"))
        .map(|(name, definition)| (name.clone(), definition.clone()))
        .collect();
    for definition in kept.values_mut().filter_map(Value::as_object_mut) {
        definition.remove("description");
        let properties = definition.get_mut("properties").and_then(Value::as_object_mut);
        for property in properties.into_iter().flat_map(|p| p.values_mut()).filter_map(Value::as_object_mut) {
            property.remove("description");
        }
    }
    Value::Object(kept)
}
