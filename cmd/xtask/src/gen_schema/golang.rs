//! Reads the structs of a gofmt-ed Go file: one field a line, JSON and protobuf facts in its tag.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};

/// A Go struct's fields in order.
#[derive(Debug, Default)]
pub(super) struct Struct {
    pub(super) fields: Vec<Field>,
}

/// A field with a JSON name, or an embedded struct that JSON inlines.
#[derive(Debug)]
pub(super) struct Field {
    /// `None` for an inlined struct.
    pub(super) json: Option<String>,
    /// As written: `*int32`, `[]Container`, `metav1.ObjectMeta`.
    pub(super) go_type: String,
    pub(super) omitempty: bool,
    pub(super) omitzero: bool,
    /// The protobuf field number; 0 for none.
    pub(super) number: u16,
}

/// Adds every struct of the file.
pub(super) fn parse(source: &str, structs: &mut BTreeMap<String, Struct>) -> Result<()> {
    let mut lines = source.lines();
    while let Some(line) = lines.next() {
        let Some(rest) = line.strip_prefix("type ") else { continue };
        if let Some(name) = rest.strip_suffix(" struct{}") {
            structs.insert(name.to_owned(), Struct::default());
        }
        let Some(name) = rest.strip_suffix(" struct {") else { continue };
        let mut fields = Vec::new();
        for line in lines.by_ref().take_while(|line| *line != "}") {
            let line = line.trim();
            if !line.is_empty() && !line.starts_with("//") {
                fields.extend(parse_field(line).with_context(|| format!("{name}: {line}"))?);
            }
        }
        structs.insert(name.to_owned(), Struct { fields });
    }
    Ok(())
}

/// `None` for a field that JSON leaves out.
fn parse_field(line: &str) -> Result<Option<Field>> {
    let mut parts = line.split('`');
    let declaration = parts.next().unwrap_or_default().trim();
    let Some(tag) = parts.next() else { return Ok(None) };
    let (embedded, go_type) = match declaration.split_once(char::is_whitespace) {
        Some((_, go_type)) => (false, go_type.trim().to_owned()),
        None => (true, declaration.to_owned()),
    };
    // No tag: the type marshals itself, and the table treats it as special.
    let Some(options) = tag_value(tag, "json") else { return Ok(None) };
    let mut options = options.split(',');
    let json = options.next().unwrap_or_default();
    let options: Vec<&str> = options.collect();
    if json == "-" {
        return Ok(None);
    }
    if json.is_empty() && !embedded {
        bail!("no JSON name");
    }
    let number = match tag_value(tag, "protobuf").and_then(|p| p.split(',').nth(1)) {
        Some(number) => number.parse()?,
        None => 0,
    };
    Ok(Some(Field {
        json: (!json.is_empty()).then(|| json.to_owned()),
        go_type,
        omitempty: options.contains(&"omitempty"),
        omitzero: options.contains(&"omitzero"),
        number,
    }))
}

fn tag_value<'a>(tag: &'a str, key: &str) -> Option<&'a str> {
    let start = tag.find(&format!("{key}:\""))? + key.len() + 2;
    let len = tag[start..].find('"')?;
    Some(&tag[start..start + len])
}
