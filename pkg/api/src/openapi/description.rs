//! What types and fields are for, in upstream's prose; compressed in the binary, inflated for one document at a time.

use std::collections::BTreeMap;
use std::io::Read as _;

use flate2::read::ZlibDecoder;
use serde_json::Value;

static PACKED: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptions.zz"));

/// The prose of every type (empty field) and field, as JSON text.
pub(super) struct Descriptions<'a>(BTreeMap<(&'a str, &'a str), &'a str>);

/// The text that `Descriptions::new` reads: type, field and JSON string, separated by tabs.
pub(super) fn inflate() -> String {
    let mut text = String::new();
    ZlibDecoder::new(PACKED).read_to_string(&mut text).expect("the descriptions in the binary are whole");
    text
}

impl<'a> Descriptions<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        let entry = |line: &'a str| {
            let (name, rest) = line.split_once('\t')?;
            let (field, prose) = rest.split_once('\t')?;
            Some(((name, field), prose))
        };
        Self(text.lines().filter_map(entry).collect())
    }

    /// The description of a type, or of one of its fields.
    pub(super) fn get(&self, name: &str, field: &str) -> Option<Value> {
        self.0.get(&(name, field)).and_then(|prose| serde_json::from_str(prose).ok())
    }
}
