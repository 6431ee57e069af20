//! Reads the OpenAPI v3 definitions of every group version.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;
use serde_json::Value;

/// Definition name to its schema.
pub(super) type Definitions = BTreeMap<String, Value>;

/// Merges the definitions of all documents in the folder.
pub(super) fn read(dir: &Path) -> Result<Definitions> {
    let mut definitions = Definitions::new();
    for entry in std::fs::read_dir(dir)? {
        let mut document: Value = serde_json::from_slice(&std::fs::read(entry?.path())?)?;
        if let Value::Object(schemas) = document["components"]["schemas"].take() {
            definitions.extend(schemas);
        }
    }
    Ok(definitions)
}
