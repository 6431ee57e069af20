//! Configuration files: flat YAML whose keys are the names of settings.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_saphyr::Spanned;

use crate::problem::{Place, Problems};

/// One file, read but not checked against the schema.
#[derive(Debug, Clone)]
pub struct ConfigFile {
    /// Where it was read, for messages.
    pub path: PathBuf,
    /// Its entries by key as written (`key+` appends to what earlier files said).
    pub entries: BTreeMap<String, Entry>,
}

/// The values of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The line it stands on, counted from 1.
    pub line: u64,
    /// One value, or those of a list.
    pub values: Vec<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Raw {
    Bool(bool),
    Int(i64),
    Text(String),
    List(Vec<Raw>),
    Null(()),
}

impl Raw {
    fn scalar(self) -> Option<String> {
        match self {
            Self::Bool(value) => Some(value.to_string()),
            Self::Int(value) => Some(value.to_string()),
            Self::Text(value) => Some(value),
            Self::List(_) | Self::Null(()) => None,
        }
    }

    fn values(self) -> Option<Vec<String>> {
        match self {
            Self::Null(()) => Some(vec![]),
            Self::List(items) => items.into_iter().map(Self::scalar).collect(),
            scalar => Some(vec![scalar.scalar()?]),
        }
    }
}

impl ConfigFile {
    /// Reads the text of a file.
    ///
    /// # Errors
    /// A YAML mistake, a key that stands twice, or a value that is neither a scalar nor a list of scalars.
    pub fn parse(path: &Path, text: &str) -> Result<Self, Problems> {
        let mut problems = Problems::default();
        let raw: BTreeMap<String, Spanned<Raw>> = if text
            .lines()
            .all(|l| l.trim().is_empty() || l.trim().starts_with('#'))
        {
            BTreeMap::new()
        } else {
            match serde_saphyr::from_str_with_options(text, serde_saphyr::options! { strict_booleans: true })
            {
                Ok(raw) => raw,
                Err(error) => {
                    let line = error.location().map_or(1, |location| location.line());
                    let message = error.without_snippet().to_string();
                    let text = message.lines().next().unwrap_or("not YAML").to_owned();
                    problems.add(&Place::File(path.to_owned(), line), text);
                    return Err(problems);
                }
            }
        };
        let mut entries = BTreeMap::new();
        for (key, value) in raw {
            let line = value.referenced.line();
            match value.value.values() {
                Some(values) => {
                    entries.insert(key, Entry { line, values });
                }
                None => {
                    let text = format!("{key}: expected a value or a list of values");
                    problems.add(&Place::File(path.to_owned(), line), text);
                }
            }
        }
        if problems.0.is_empty() { Ok(Self { path: path.to_owned(), entries }) } else { Err(problems) }
    }
}
