//! Protobuf to canonical values, by the schema. Never panics; depth and memory are bounded by the body.

use std::cell::Cell;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use super::wire::{Content, Reader};
use super::{DecodeError, Envelope, MAGIC};
use crate::json::{self, scalar};
use crate::schema::{self, Alternative, Field, FieldKind, Schema, Type, TypeId};

type Result<T, E = DecodeError> = std::result::Result<T, E>;

/// Decodes a message that stands without an envelope.
///
/// # Errors
/// See [`DecodeError`].
pub fn decode_message(body: &[u8], schema: &Schema, id: TypeId) -> Result<Value> {
    Decoder::new(schema).message(body, id, 0)
}

/// Reads an envelope, after its magic.
pub(super) fn envelope(body: &[u8]) -> Result<Envelope<'_>> {
    let mut envelope = Envelope::default();
    let mut reader = Reader::new(body);
    while let Some((number, content)) = reader.field()? {
        match (number, content) {
            (1, Content::Bytes(meta)) => {
                let mut reader = Reader::new(meta);
                while let Some((number, content)) = reader.field()? {
                    match (number, content) {
                        (1, Content::Bytes(b)) => envelope.api_version = text(b),
                        (2, Content::Bytes(b)) => envelope.kind = text(b),
                        _ => {}
                    }
                }
            }
            (2, Content::Bytes(raw)) => envelope.raw = raw,
            (3, Content::Bytes(encoding)) if !encoding.is_empty() => {
                return Err(DecodeError::Content(text(encoding)));
            }
            (4, Content::Bytes(kind)) if !matches!(kind, b"" | b"application/vnd.kubernetes.protobuf") => {
                return Err(DecodeError::Content(text(kind)));
            }
            _ => {}
        }
    }
    Ok(envelope)
}

/// Decodes an opened envelope.
pub(super) fn object(envelope: &Envelope<'_>, schema: &Schema, id: TypeId) -> Result<Value> {
    Decoder::new(schema).object(envelope, id, 0)
}

struct Decoder<'a> {
    schema: &'a Schema,
    /// How many messages may follow.
    messages: Cell<usize>,
}

/// The numbers of the embedded messages around a field.
#[derive(Clone, Copy, Default)]
struct Wire {
    path: [u16; 3],
    level: usize,
}

impl Wire {
    /// The wire path of a field here; `None` when the schema can't hold such a number.
    fn field(self, number: u32) -> Option<Wire> {
        let mut path = self.path;
        *path.get_mut(self.level)? = u16::try_from(number).ok()?;
        Some(Wire { path, level: self.level + 1 })
    }
}

impl<'a> Decoder<'a> {
    fn new(schema: &'a Schema) -> Self {
        Self { schema, messages: Cell::new(json::MAX_OBJECTS) }
    }

    fn object(&self, envelope: &Envelope<'_>, id: TypeId, depth: usize) -> Result<Value> {
        let mut value = self.message(envelope.raw, id, depth)?;
        let message_type = self.schema.get(id);
        if let Value::Object(object) = &mut value {
            for (name, given) in [("apiVersion", &envelope.api_version), ("kind", &envelope.kind)] {
                if let Some(field) = message_type.field(name).filter(|f| f.wire[0] == 0) {
                    schema::insert(object, field, Value::String(given.clone()));
                }
            }
        }
        Ok(value)
    }

    fn message(&self, body: &[u8], id: TypeId, depth: usize) -> Result<Value> {
        if depth > json::MAX_DEPTH {
            return Err(DecodeError::TooDeep);
        }
        self.messages.set(self.messages.get().checked_sub(1).ok_or(DecodeError::TooMany)?);
        let message_type = self.schema.get(id);
        let mut message = Map::new();
        self.fields(body, message_type, Wire::default(), &mut message, depth)?;
        schema::complete(self.schema, message_type, &mut message);
        Ok(Value::Object(message))
    }

    fn fields(
        &self,
        body: &[u8],
        message_type: &Type,
        around: Wire,
        message: &mut Map<String, Value>,
        depth: usize,
    ) -> Result<()> {
        let mut reader = Reader::new(body);
        while let Some((number, content)) = reader.field()? {
            let Some(wire) = around.field(number) else { continue };
            if let Some(field) = message_type.by_wire(wire.path) {
                self.field(field, content, message, depth)?;
            } else if let Content::Bytes(embedded) = content
                && message_type.embeds(&wire.path[..wire.level])
            {
                self.fields(embedded, message_type, wire, message, depth)?;
            }
        }
        Ok(())
    }

    fn field(
        &self,
        field: &Field,
        content: Content<'_>,
        message: &mut Map<String, Value>,
        depth: usize,
    ) -> Result<()> {
        match &field.kind {
            FieldKind::List(item) => {
                let list = message.entry(&*field.name).or_insert_with(|| Value::Array(Vec::new()));
                let Value::Array(list) = list else { return Ok(()) };
                self.elements(field, item, content, list, depth)
            }
            FieldKind::Map(kind) => {
                let (key, value) = self.entry(field, kind, content, depth)?;
                let entries = message.entry(&*field.name).or_insert_with(|| Value::Object(Map::new()));
                if let Value::Object(entries) = entries {
                    entries.insert(key, value);
                }
                Ok(())
            }
            kind => {
                let value = self.value(field, kind, content, depth)?;
                schema::insert(message, field, value);
                Ok(())
            }
        }
    }

    /// One element, or a packed run of numbers.
    fn elements(
        &self,
        field: &Field,
        item: &FieldKind,
        content: Content<'_>,
        list: &mut Vec<Value>,
        depth: usize,
    ) -> Result<()> {
        match (item, content) {
            (FieldKind::Bool | FieldKind::Int32 | FieldKind::Int64, Content::Bytes(run)) => {
                let mut run = Reader::new(run);
                while let Some(number) = run.packed()? {
                    list.push(self.value(field, item, Content::Varint(number), depth)?);
                }
            }
            _ => list.push(self.value(field, item, content, depth)?),
        }
        Ok(())
    }

    fn entry(
        &self,
        field: &Field,
        kind: &FieldKind,
        content: Content<'_>,
        depth: usize,
    ) -> Result<(String, Value)> {
        let mut key = String::new();
        let mut value = None;
        let mut reader = Reader::new(bytes(field, content)?);
        while let Some((number, content)) = reader.field()? {
            match number {
                1 => key = text(bytes(field, content)?),
                2 => value = Some(self.value(field, kind, content, depth + 1)?),
                _ => {}
            }
        }
        let value = value.or_else(|| schema::zero(self.schema, kind)).unwrap_or_else(|| empty(kind));
        Ok((key, value))
    }

    fn value(&self, field: &Field, kind: &FieldKind, content: Content<'_>, depth: usize) -> Result<Value> {
        if let (FieldKind::Bool | FieldKind::Int32 | FieldKind::Int64, Content::Varint(number)) =
            (kind, content)
        {
            return Ok(varint(kind, number));
        }
        if let (FieldKind::Double, Content::Fixed64(bits)) = (kind, content) {
            return Ok(double(f64::from_bits(bits)));
        }
        let body = bytes(field, content)?;
        match kind {
            FieldKind::String => Ok(Value::String(text(body))),
            FieldKind::Bytes => Ok(Value::String(STANDARD.encode(body))),
            FieldKind::Time => Ok(moment(body)?.map_or(Ok(Value::Null), scalar::format_time)?),
            FieldKind::MicroTime => Ok(moment(body)?.map_or(Ok(Value::Null), scalar::format_micro_time)?),
            FieldKind::Quantity => quantity(field, body),
            FieldKind::IntOrString => int_or_string(body),
            FieldKind::Json(_) => self.free_form(field, body, depth),
            FieldKind::Strings => strings(field, body, 1),
            FieldKind::SchemaOr(alternative, id) => self.schema_or(field, *alternative, *id, body, depth),
            FieldKind::Message(id) => self.message(body, *id, depth + 1),
            FieldKind::Bool
            | FieldKind::Int32
            | FieldKind::Int64
            | FieldKind::Double
            | FieldKind::List(_)
            | FieldKind::Map(_) => Err(wrong_wire_type(field, content)),
        }
    }

    /// JSON text, or an enveloped message of a kind in the schema.
    fn free_form(&self, field: &Field, body: &[u8], depth: usize) -> Result<Value> {
        let Some(raw) = last_bytes(field, body, 1)?.filter(|raw| !raw.is_empty()) else {
            return Ok(Value::Null);
        };
        let Some(enveloped) = raw.strip_prefix(MAGIC) else {
            let (value, messages) = json::free_form(raw, depth + 1, self.messages.get())?;
            self.messages.set(messages);
            return Ok(value);
        };
        let envelope = envelope(enveloped)?;
        let id = self.schema.by_api_version(&envelope.api_version, &envelope.kind).ok_or_else(|| {
            DecodeError::UnknownKind {
                api_version: envelope.api_version.clone(),
                kind: envelope.kind.clone(),
            }
        })?;
        self.object(&envelope, id, depth + 1)
    }

    fn schema_or(
        &self,
        field: &Field,
        alternative: Alternative,
        id: TypeId,
        body: &[u8],
        depth: usize,
    ) -> Result<Value> {
        let mut allows = false;
        let mut items = Vec::new();
        let mut reader = Reader::new(body);
        while let Some((number, content)) = reader.field()? {
            match (alternative, number, content) {
                (Alternative::Bool, 1, Content::Varint(given)) => allows = given != 0,
                (Alternative::Bool, 2, _) | (_, 1, _) => {
                    return self.message(bytes(field, content)?, id, depth + 1);
                }
                (Alternative::Schemas, 2, _) => {
                    items.push(self.message(bytes(field, content)?, id, depth + 1)?)
                }
                (Alternative::Strings, 2, _) => items.push(Value::String(text(bytes(field, content)?))),
                _ => {}
            }
        }
        Ok(match alternative {
            Alternative::Bool => Value::Bool(allows),
            _ if items.is_empty() => Value::Null,
            _ => Value::Array(items),
        })
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn bytes<'a>(field: &Field, content: Content<'a>) -> Result<&'a [u8]> {
    match content {
        Content::Bytes(bytes) => Ok(bytes),
        _ => Err(wrong_wire_type(field, content)),
    }
}

fn wrong_wire_type(field: &Field, content: Content<'_>) -> DecodeError {
    DecodeError::WireType { wire_type: content.wire_type(), field: field.name.clone().into_owned() }
}

/// The last length-delimited field with that number.
fn last_bytes<'a>(field: &Field, body: &'a [u8], wanted: u32) -> Result<Option<&'a [u8]>> {
    let mut found = None;
    let mut reader = Reader::new(body);
    while let Some((number, content)) = reader.field()? {
        if number == wanted {
            found = Some(bytes(field, content)?);
        }
    }
    Ok(found)
}

fn varint(kind: &FieldKind, number: u64) -> Value {
    match kind {
        FieldKind::Bool => Value::Bool(number != 0),
        #[expect(clippy::cast_possible_truncation, reason = "protobuf says to keep the low 32 bits")]
        FieldKind::Int32 => Value::from(number as i32),
        _ => Value::from(number.cast_signed()),
    }
}

fn double(float: f64) -> Value {
    json::whole(float).or_else(|| serde_json::Number::from_f64(float)).map_or(Value::Null, Value::Number)
}

/// An empty message is Go's zero time.
fn moment(body: &[u8]) -> Result<Option<scalar::Moment>> {
    let mut moment = scalar::Moment::default();
    let mut reader = Reader::new(body);
    while let Some((number, content)) = reader.field()? {
        match (number, content) {
            (1, Content::Varint(seconds)) => moment.seconds = seconds.cast_signed(),
            (2, Content::Varint(nanos)) => {
                moment.nanos = i32::try_from(nanos).unwrap_or_default().min(999_999_999)
            }
            _ => {}
        }
    }
    Ok((!body.is_empty()).then_some(moment))
}

fn quantity(field: &Field, body: &[u8]) -> Result<Value> {
    let given = last_bytes(field, body, 1)?.unwrap_or(b"0");
    Ok(Value::String(scalar::quantity(&text(given))?))
}

fn int_or_string(body: &[u8]) -> Result<Value> {
    let (mut is_text, mut number, mut string) = (false, 0, String::new());
    let mut reader = Reader::new(body);
    while let Some((field, content)) = reader.field()? {
        match (field, content) {
            (1, Content::Varint(kind)) => is_text = kind == 1,
            (2, Content::Varint(given)) => number = given,
            (3, Content::Bytes(given)) => string = text(given),
            _ => {}
        }
    }
    Ok(if is_text { Value::String(string) } else { varint(&FieldKind::Int32, number) })
}

fn strings(field: &Field, body: &[u8], wanted: u32) -> Result<Value> {
    let mut items = Vec::new();
    let mut reader = Reader::new(body);
    while let Some((number, content)) = reader.field()? {
        if number == wanted {
            items.push(Value::String(text(bytes(field, content)?)));
        }
    }
    Ok(Value::Array(items))
}

/// What a map entry without a value holds, for kinds whose zero canonical JSON leaves out.
fn empty(kind: &FieldKind) -> Value {
    match kind {
        FieldKind::Bytes => Value::from(""),
        FieldKind::Strings => Value::Array(Vec::new()),
        _ => Value::Null,
    }
}
