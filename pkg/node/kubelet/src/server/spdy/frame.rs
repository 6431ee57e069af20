//! SPDY/3 frames on the wire.

use std::io;

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};

use super::headers::{Decoder, Encoder, Headers};

/// The longest frame that is accepted; upstream's clients send 32 KiB at most.
pub(crate) const MAX_FRAME: usize = 1 << 20;
/// RST_STREAM: the stream is not needed any more.
pub(crate) const CANCEL: u32 = 5;
/// RST_STREAM: the stream was not opened.
pub(crate) const REFUSED: u32 = 3;

const HEAD: usize = 8;
const VERSION: u16 = 0x8003;
const SYN_STREAM: u16 = 1;
const SYN_REPLY: u16 = 2;
const RST_STREAM: u16 = 3;
const PING: u16 = 6;
const GOAWAY: u16 = 7;
const HEADERS: u16 = 8;

/// Whether a frame is its sender's last one on the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fin {
    No,
    Yes,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Frame {
    Open { id: u32, headers: Headers, fin: Fin },
    Reply { id: u32 },
    Reset { id: u32, status: u32 },
    Data { id: u32, data: Bytes, fin: Fin },
    Ping { id: u32 },
    GoAway,
    Ignored,
}

impl Frame {
    /// Takes the first whole frame out of `buffer`; `None` when it holds less.
    pub(crate) fn decode(buffer: &mut BytesMut, decoder: &mut Decoder) -> io::Result<Option<Self>> {
        let Some(head) = buffer.first_chunk::<HEAD>() else { return Ok(None) };
        let (first, second) =
            (u16::from_be_bytes([head[0], head[1]]), u16::from_be_bytes([head[2], head[3]]));
        let length = u32::from_be_bytes([0, head[5], head[6], head[7]]) as usize;
        let fin = if head[4] & 1 == 1 { Fin::Yes } else { Fin::No };
        if length > MAX_FRAME {
            return Err(invalid("frame is too long"));
        }
        if buffer.len() < HEAD + length {
            return Ok(None);
        }
        buffer.advance(HEAD);
        let body = buffer.split_to(length).freeze();
        if first & 0x8000 == 0 {
            let id = u32::from(first) << 16 | u32::from(second);
            return Ok(Some(Self::Data { id, data: body, fin }));
        }
        if first != VERSION {
            return Err(invalid("not SPDY/3"));
        }
        Self::decode_control(second, fin, body, decoder).map(Some)
    }

    fn decode_control(kind: u16, fin: Fin, mut body: Bytes, decoder: &mut Decoder) -> io::Result<Self> {
        let mut word = || -> io::Result<u32> {
            if body.len() < 4 { Err(invalid("frame is too short")) } else { Ok(body.get_u32()) }
        };
        Ok(match kind {
            SYN_STREAM => {
                let id = word()? & 0x7fff_ffff;
                word()?;
                if body.len() < 2 {
                    return Err(invalid("frame is too short"));
                }
                body.advance(2);
                Self::Open { id, headers: decoder.decode(&body)?, fin }
            }
            // The decompressor's state runs through all header blocks, so these are read even if nobody needs them.
            SYN_REPLY | HEADERS => {
                word()?;
                decoder.decode(&body)?;
                Self::Ignored
            }
            RST_STREAM => Self::Reset { id: word()? & 0x7fff_ffff, status: word()? },
            PING => Self::Ping { id: word()? },
            GOAWAY => Self::GoAway,
            _ => Self::Ignored,
        })
    }

    /// Appends the frame to `out`.
    pub(crate) fn encode(&self, encoder: &mut Encoder, out: &mut BytesMut) -> io::Result<()> {
        let mut body = BytesMut::new();
        match self {
            Self::Data { id, data, fin } => {
                out.put_u32(*id);
                put_length(out, *fin, data.len());
                out.put_slice(data);
                return Ok(());
            }
            Self::Open { id, headers, fin } => {
                body.put_u32(*id);
                body.put_u32(0);
                body.put_u16(0);
                encoder.encode(headers, &mut body)?;
                control(out, SYN_STREAM, *fin, &body);
            }
            Self::Reply { id } => {
                body.put_u32(*id);
                encoder.encode(&Headers::default(), &mut body)?;
                control(out, SYN_REPLY, Fin::No, &body);
            }
            Self::Reset { id, status } => {
                body.put_u32(*id);
                body.put_u32(*status);
                control(out, RST_STREAM, Fin::No, &body);
            }
            Self::Ping { id } => {
                body.put_u32(*id);
                control(out, PING, Fin::No, &body);
            }
            Self::GoAway => {
                body.put_u64(0);
                control(out, GOAWAY, Fin::No, &body);
            }
            Self::Ignored => {}
        }
        Ok(())
    }
}

fn control(out: &mut BytesMut, kind: u16, fin: Fin, body: &[u8]) {
    out.put_u16(VERSION);
    out.put_u16(kind);
    put_length(out, fin, body.len());
    out.put_slice(body);
}

fn put_length(out: &mut BytesMut, fin: Fin, length: usize) {
    out.put_u8(u8::from(fin == Fin::Yes));
    out.put_uint(length as u64, 3);
}

pub(crate) fn invalid(text: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}
