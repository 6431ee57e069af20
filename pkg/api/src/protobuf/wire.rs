//! The protobuf wire format: varints, fixed numbers and length-delimited bytes.

use super::DecodeError;

/// A field's content as it stands on the wire.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Content<'a> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
    Fixed32,
}

impl Content<'_> {
    pub(crate) fn wire_type(&self) -> u8 {
        match self {
            Self::Varint(_) => 0,
            Self::Fixed64(_) => 1,
            Self::Bytes(_) => 2,
            Self::Fixed32 => 5,
        }
    }
}

/// Reads the fields of one message.
pub(crate) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The next field's number and content; `None` at the end of the message.
    pub(crate) fn field(&mut self) -> Result<Option<(u32, Content<'a>)>, DecodeError> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let number = u32::try_from(tag >> 3).map_err(|_| DecodeError::Overflow)?;
        let content = match tag & 7 {
            0 => Content::Varint(self.varint()?),
            1 => Content::Fixed64(u64::from_le_bytes(self.array()?)),
            2 => {
                let len = usize::try_from(self.varint()?).map_err(|_| DecodeError::Overflow)?;
                Content::Bytes(self.take(len)?)
            }
            5 => self.array::<4>().map(|_| Content::Fixed32)?,
            other => {
                let wire_type = u8::try_from(other).unwrap_or(u8::MAX);
                return Err(DecodeError::WireType { wire_type, field: number.to_string() });
            }
        };
        Ok(Some((number, content)))
    }

    /// The next varint of a packed list; `None` at its end.
    pub(crate) fn packed(&mut self) -> Result<Option<u64>, DecodeError> {
        if self.0.is_empty() { Ok(None) } else { self.varint().map(Some) }
    }

    fn varint(&mut self) -> Result<u64, DecodeError> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let [byte] = self.array()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(DecodeError::Overflow)
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or(DecodeError::Truncated)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(DecodeError::Truncated)?;
        self.0 = rest;
        Ok(*taken)
    }
}

/// Appends fields to a message.
#[derive(Default)]
pub(crate) struct Writer(Vec<u8>);

impl Writer {
    pub(crate) fn with_prefix(prefix: &[u8], capacity: usize) -> Self {
        let mut out = Vec::with_capacity(prefix.len() + capacity);
        out.extend_from_slice(prefix);
        Self(out)
    }

    pub(crate) fn finish(self) -> Vec<u8> {
        self.0
    }

    /// A signed integer, negative ones in ten bytes.
    pub(crate) fn integer(&mut self, number: u16, value: i64) {
        self.tag(number, 0);
        self.varint(value.cast_unsigned());
    }

    pub(crate) fn double(&mut self, number: u16, value: f64) {
        self.tag(number, 1);
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn bytes(&mut self, number: u16, bytes: &[u8]) {
        self.tag(number, 2);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    /// An embedded message: written in place, then moved by the one or two bytes its length takes.
    pub(crate) fn message(&mut self, number: u16, write: impl FnOnce(&mut Writer)) {
        self.tag(number, 2);
        let start = self.0.len();
        write(self);
        let mut len = self.0.len() - start;
        let mut at = start;
        while len >= 0x80 {
            self.0.insert(at, low_bits(len as u64) | 0x80);
            len >>= 7;
            at += 1;
        }
        self.0.insert(at, low_bits(len as u64));
    }

    fn tag(&mut self, number: u16, wire_type: u64) {
        self.varint(u64::from(number) << 3 | wire_type);
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(low_bits(value) | 0x80);
            value >>= 7;
        }
        self.0.push(low_bits(value));
    }
}

fn low_bits(value: u64) -> u8 {
    u8::try_from(value & 0x7f).expect("seven bits")
}
