//! Canonical values to protobuf, byte for byte as upstream's generated code writes them: fields in order of number,
//! struct values and plain scalars even when zero, pointers only when set.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use super::wire::Writer;
use crate::json::scalar;
use crate::schema::{Alternative, Field, FieldKind, Presence, Schema, TypeId};

/// Encodes a message without an envelope. What is not of the schema's type is written as zero.
pub fn encode_message(value: &Value, schema: &Schema, id: TypeId) -> Vec<u8> {
    let mut out = Writer::default();
    Encoder { schema }.message(&mut out, id, value);
    out.finish()
}

struct Encoder<'a> {
    schema: &'a Schema,
}

impl Encoder<'_> {
    fn message(&self, out: &mut Writer, id: TypeId, value: &Value) {
        let empty = Map::new();
        let fields: Vec<&Field> = self.schema.get(id).by_number().collect();
        self.fields(out, &fields, 0, value.as_object().unwrap_or(&empty));
    }

    /// Writes fields whose numbers agree up to `level`; those of one embedded message stand together.
    fn fields(&self, out: &mut Writer, fields: &[&Field], level: usize, message: &Map<String, Value>) {
        for group in fields.chunk_by(|a, b| a.wire[level] == b.wire[level]) {
            let [first, ..] = group else { continue };
            let number = first.wire[level];
            if first.wire.get(level + 1).is_some_and(|inner| *inner > 0) {
                out.message(number, |out| self.fields(out, group, level + 1, message));
            } else {
                self.field(out, number, first, message.get(&*first.name).unwrap_or(&Value::Null));
            }
        }
    }

    fn field(&self, out: &mut Writer, number: u16, field: &Field, value: &Value) {
        match &field.kind {
            FieldKind::List(item) => {
                for element in value.as_array().into_iter().flatten() {
                    self.value(out, number, item, element);
                }
            }
            FieldKind::Map(kind) => {
                for (key, entry) in value.as_object().into_iter().flatten() {
                    out.message(number, |out| {
                        out.bytes(1, key.as_bytes());
                        self.value(out, 2, kind, entry);
                    });
                }
            }
            FieldKind::Bytes | FieldKind::Strings if value.is_null() => {}
            _ if value.is_null() && field.presence == Presence::Optional => {}
            kind => self.value(out, number, kind, value),
        }
    }

    /// Writes one value; null is written as the kind's zero.
    fn value(&self, out: &mut Writer, number: u16, kind: &FieldKind, value: &Value) {
        let text = value.as_str().unwrap_or_default();
        match kind {
            FieldKind::Bool => out.integer(number, i64::from(value.as_bool().unwrap_or_default())),
            FieldKind::Int32 | FieldKind::Int64 => out.integer(number, value.as_i64().unwrap_or_default()),
            FieldKind::Double => out.double(number, value.as_f64().unwrap_or_default()),
            FieldKind::String => out.bytes(number, text.as_bytes()),
            FieldKind::Bytes => out.bytes(number, &STANDARD.decode(text).unwrap_or_default()),
            FieldKind::Time => moment(out, number, scalar::parse_time(text).ok()),
            FieldKind::MicroTime => moment(out, number, scalar::parse_micro_time(text).ok()),
            FieldKind::Quantity => {
                out.message(number, |out| out.bytes(1, if text.is_empty() { b"0" } else { text.as_bytes() }));
            }
            FieldKind::IntOrString => out.message(number, |out| {
                out.integer(1, i64::from(value.is_string()));
                out.integer(2, value.as_i64().unwrap_or_default());
                out.bytes(3, text.as_bytes());
            }),
            FieldKind::Json(_) => out.message(number, |out| {
                if !value.is_null() {
                    out.bytes(1, value.to_string().as_bytes());
                }
            }),
            FieldKind::Strings => out.message(number, |out| strings(out, 1, value)),
            FieldKind::SchemaOr(alternative, id) => {
                out.message(number, |out| self.schema_or(out, *alternative, *id, value));
            }
            FieldKind::Message(id) => out.message(number, |out| self.message(out, *id, value)),
            // Lists of lists and maps of maps do not exist in protobuf.
            FieldKind::List(_) | FieldKind::Map(_) => {}
        }
    }

    fn schema_or(&self, out: &mut Writer, alternative: Alternative, id: TypeId, value: &Value) {
        let number = match alternative {
            Alternative::Bool => {
                out.integer(1, i64::from(value.as_bool().unwrap_or(value.is_object())));
                2
            }
            Alternative::Schemas | Alternative::Strings => 1,
        };
        match (alternative, value) {
            (_, Value::Object(_)) => out.message(number, |out| self.message(out, id, value)),
            (Alternative::Schemas, Value::Array(schemas)) => {
                for schema in schemas {
                    out.message(2, |out| self.message(out, id, schema));
                }
            }
            (Alternative::Strings, Value::Array(_)) => strings(out, 2, value),
            _ => {}
        }
    }
}

fn strings(out: &mut Writer, number: u16, list: &Value) {
    for text in list.as_array().into_iter().flatten() {
        out.bytes(number, text.as_str().unwrap_or_default().as_bytes());
    }
}

fn moment(out: &mut Writer, number: u16, moment: Option<scalar::Moment>) {
    out.message(number, |out| {
        if let Some(moment) = moment {
            out.integer(1, moment.seconds);
            out.integer(2, i64::from(moment.nanos));
        }
    });
}
