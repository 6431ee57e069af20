//! Tables: what `kubectl get` shows of each kind, with the columns and cells of upstream's
//! `kubernetes/pkg/printers/internalversion`. Kinds without a printer of their own show name and time of creation. The
//! registry asks for a [`Printer`] by kind and makes one [`Row`] of each object, in the form in which it is stored.

mod admission;
mod cluster;
mod network;
mod object;
mod pod;
mod storage;
#[cfg(test)]
mod tests;
mod workload;

use std::time::SystemTime;

use serde::Serialize;
use serde_json::{Value, json};

use object::{Cells, Object};

/// How a kind is shown.
pub struct Printer {
    group: &'static str,
    kind: &'static str,
    /// Names with marks: `@` the object's name, `#` an integer, `?` a boolean, `:` a date, `+` only in wide output.
    columns: &'static str,
    cells: fn(&Object<'_>) -> Cells,
    conditions: fn(&Object<'_>) -> Option<Value>,
}

/// A column of a table; `TableColumnDefinition` when encoded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Column {
    /// The title.
    pub name: &'static str,
    /// The OpenAPI type of the cells.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// `name` for the object's name.
    pub format: &'static str,
    /// Always empty.
    pub description: &'static str,
    /// 0, or 1 for columns of wide output only.
    pub priority: u8,
}

/// A row of a table; `TableRow` when encoded, without its object.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// One value for each column.
    pub cells: Vec<Value>,
    /// Whether the object has come to its end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conditions: Option<Value>,
}

impl Printer {
    /// The printer of a kind.
    pub fn of(group: &str, kind: &str) -> &'static Printer {
        let mut printers = [pod::PRINTERS, workload::PRINTERS, network::PRINTERS, storage::PRINTERS]
            .into_iter()
            .chain([cluster::PRINTERS, admission::PRINTERS])
            .flatten();
        // The two groups of events are stored, and shown, as one.
        let group = if kind == "Event" { "" } else { group };
        printers.find(|printer| printer.kind == kind && printer.group == group).unwrap_or(&DEFAULT)
    }

    /// The columns.
    pub fn columns(&self) -> Vec<Column> {
        self.columns.split(',').map(Column::parse).collect()
    }

    /// The row of an object at a moment, from which ages are counted.
    pub fn row(&self, object: &Value, now: SystemTime) -> Row {
        let object = Object::new(object, now);
        Row { cells: (self.cells)(&object), conditions: (self.conditions)(&object) }
    }

    const fn new(
        group: &'static str,
        kind: &'static str,
        columns: &'static str,
        cells: fn(&Object<'_>) -> Cells,
    ) -> Self {
        Self { group, kind, columns, cells, conditions: |_| None }
    }
}

/// Every other kind.
static DEFAULT: Printer = Printer::new("", "", "@Name,:Created At", |o| {
    vec![o.name(), json!(o.text("metadata.creationTimestamp"))]
});

impl Column {
    fn parse(marked: &'static str) -> Self {
        let name = marked.trim_start_matches(['@', '#', '?', ':', '+']);
        let marks = &marked[..marked.len() - name.len()];
        let kind = match marks {
            _ if marks.contains('#') => "integer",
            _ if marks.contains('?') => "boolean",
            _ if marks.contains(':') => "date",
            _ => "string",
        };
        let format = if marks.contains('@') { "name" } else { "" };
        Self { name, kind, format, description: "", priority: u8::from(marks.contains('+')) }
    }
}

impl Row {
    /// The encoded row, with the bytes of the object that is shown beside it.
    pub fn encode(&self, object: &[u8]) -> Vec<u8> {
        let mut row = serde_json::to_vec(self).expect("a row has text keys only");
        row.pop();
        row.extend_from_slice(b",\"object\":");
        row.extend_from_slice(object);
        row.push(b'}');
        row
    }
}
