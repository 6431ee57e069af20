//! Kubernetes protobuf: messages by the schema's field numbers, inside the `k8s\0` envelope that names their kind.
//! Called by the HTTP layer for bodies and answers. What is encoded once per object (`encode_message`) is put into
//! lists and watch events as bytes.

mod decode;
mod encode;
#[cfg(test)]
mod tests;
mod wire;

use serde_json::Value;

use crate::schema::{Schema, TypeId};
pub(crate) use wire::Writer;
#[cfg(test)]
pub(crate) use wire::{Content, Reader};

pub use decode::decode_message;
pub use encode::encode_message;

/// The first bytes of every enveloped body.
pub const MAGIC: &[u8] = b"k8s\0";

/// Why a body can't be decoded; the client's fault (400).
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The body lacks the `k8s\0` prefix.
    #[error("provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]")]
    NoMagic,
    /// There are no bytes.
    #[error("empty data")]
    Empty,
    /// There is nothing after the prefix.
    #[error("empty body")]
    EmptyEnvelope,
    /// A field is longer than the body.
    #[error("unexpected EOF")]
    Truncated,
    /// A varint of more than 64 bits.
    #[error("proto: integer overflow")]
    Overflow,
    /// A wire type that protobuf does not have, or that the field can't have.
    #[error("proto: wrong wireType = {wire_type} for field {field}")]
    WireType {
        /// The wire type, 0 to 7.
        wire_type: u8,
        /// The JSON name, or the number of an unknown field.
        field: String,
    },
    /// Messages nested more deeply than any real object.
    #[error("exceeded max depth")]
    TooDeep,
    /// More messages than any real object has; each takes far more memory than wire.
    #[error("exceeded max number of messages")]
    TooMany,
    /// A time, quantity or embedded JSON that is not one.
    #[error(transparent)]
    Value(#[from] crate::json::DecodeError),
    /// An embedded object of a kind that is not in the schema.
    #[error("no kind {kind:?} is registered for version {api_version:?}")]
    UnknownKind {
        /// `apps/v1`
        api_version: String,
        /// `Deployment`
        kind: String,
    },
    /// The envelope says that its content is compressed or not protobuf.
    #[error("unsupported content {0:?} in the envelope")]
    Content(String),
}

/// What an envelope holds.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Envelope<'a> {
    /// `apps/v1`; may be empty.
    pub api_version: String,
    /// `Deployment`; may be empty.
    pub kind: String,
    /// The message.
    pub raw: &'a [u8],
}

/// The metadata of a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListMeta {
    /// The revision at which the list was read.
    pub resource_version: String,
    /// The token for the next page; empty on the last.
    pub next: String,
    /// How many objects follow this page, when known.
    pub remaining: Option<i64>,
}

/// Opens an envelope.
///
/// # Errors
/// When the prefix is missing or the envelope is damaged.
pub fn open(body: &[u8]) -> Result<Envelope<'_>, DecodeError> {
    if body.is_empty() {
        return Err(DecodeError::Empty);
    }
    match body.strip_prefix(MAGIC).ok_or(DecodeError::NoMagic)? {
        [] => Err(DecodeError::EmptyEnvelope),
        envelope => decode::envelope(envelope),
    }
}

/// Decodes an enveloped body as the given type. The envelope's apiVersion and kind, if it has them, become fields.
///
/// # Errors
/// See [`DecodeError`].
pub fn decode(body: &[u8], schema: &Schema, id: TypeId) -> Result<Value, DecodeError> {
    decode::object(&open(body)?, schema, id)
}

/// Encodes an object into an envelope that carries its apiVersion and kind.
pub fn encode(value: &Value, schema: &Schema, id: TypeId) -> Vec<u8> {
    let text = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default();
    envelope(text("apiVersion"), text("kind"), &encode_message(value, schema, id))
}

/// Puts an encoded message into an envelope.
pub fn envelope(api_version: &str, kind: &str, message: &[u8]) -> Vec<u8> {
    let mut out = Writer::with_prefix(MAGIC, message.len() + 64);
    write_envelope(&mut out, api_version, kind, message);
    out.finish()
}

fn write_envelope(out: &mut Writer, api_version: &str, kind: &str, message: &[u8]) {
    out.message(1, |meta| {
        meta.bytes(1, api_version.as_bytes());
        meta.bytes(2, kind.as_bytes());
    });
    if !message.is_empty() {
        out.bytes(2, message);
    }
    // contentEncoding and contentType, which upstream always writes.
    out.bytes(3, b"");
    out.bytes(4, b"");
}

/// An enveloped list of encoded messages.
pub fn list<'a>(
    api_version: &str,
    kind: &str,
    meta: &ListMeta,
    items: impl IntoIterator<Item = &'a [u8]>,
) -> Vec<u8> {
    let mut list = Writer::default();
    list.message(1, |out| {
        // selfLink, which upstream writes empty.
        out.bytes(1, b"");
        out.bytes(2, meta.resource_version.as_bytes());
        out.bytes(3, meta.next.as_bytes());
        if let Some(remaining) = meta.remaining {
            out.integer(4, remaining);
        }
    });
    for item in items {
        list.bytes(2, item);
    }
    envelope(api_version, kind, &list.finish())
}

/// A frame of a watch: its length in four bytes, then a bare `WatchEvent` of the given type (`ADDED`) whose object is
/// an enveloped message.
pub fn watch_frame(event_type: &str, api_version: &str, kind: &str, message: &[u8]) -> Vec<u8> {
    let object = envelope(api_version, kind, message);
    let mut out = Writer::with_prefix(&[0; 4], object.len() + 32);
    out.bytes(1, event_type.as_bytes());
    out.message(2, |raw| raw.bytes(1, &object));
    let mut frame = out.finish();
    let len = u32::try_from(frame.len() - 4).expect("an object is far smaller than 4 GiB");
    frame[..4].copy_from_slice(&len.to_be_bytes());
    frame
}
