//! Reads the messages of a `generated.proto` file.

use std::collections::BTreeMap;

use anyhow::{Context, Result};

/// Field number to type as written: `optional string`, `repeated Container`, `map<string, .k8s.io...Quantity>`.
pub(super) type Message = BTreeMap<u16, String>;

/// Every message by name.
pub(super) fn parse(source: &str) -> Result<BTreeMap<String, Message>> {
    let mut messages = BTreeMap::new();
    let mut lines = source.lines();
    while let Some(line) = lines.next() {
        let Some(name) = line.strip_prefix("message ").and_then(|rest| rest.strip_suffix(" {")) else {
            continue;
        };
        let mut message = Message::new();
        for line in lines.by_ref().take_while(|line| *line != "}") {
            let line = line.trim();
            if line.is_empty() || line.starts_with("//") {
                continue;
            }
            let (number, kind) = parse_field(line).with_context(|| format!("{name}: {line}"))?;
            message.insert(number, kind);
        }
        messages.insert(name.to_owned(), message);
    }
    Ok(messages)
}

/// `optional string name = 1;`
fn parse_field(line: &str) -> Result<(u16, String)> {
    let (declaration, number) = line.trim_end_matches(';').split_once(" = ").context("no number")?;
    let (kind, _name) = declaration.rsplit_once(' ').context("no name")?;
    Ok((number.parse()?, kind.to_owned()))
}
