//! SPDY/3 header blocks: names and values, compressed with a fixed dictionary and a state that runs through the
//! whole connection.

use std::collections::BTreeMap;
use std::io;

use bytes::{Buf as _, BufMut as _, BytesMut};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use super::frame::invalid;

/// The dictionary of the SPDY/3 draft, section 2.6.10.1.
static DICTIONARY: &[u8] = include_bytes!("../spdy3.dict");
/// The longest header block, decompressed.
const MAX_BLOCK: usize = 64 << 10;

/// The headers of a stream: lower-case names, the first value of each.
pub(crate) type Headers = BTreeMap<String, String>;

#[derive(Debug)]
pub(crate) struct Decoder(Decompress);

impl Decoder {
    pub(crate) fn new() -> Self {
        Self(Decompress::new(true))
    }

    pub(crate) fn decode(&mut self, block: &[u8]) -> io::Result<Headers> {
        parse(&self.inflate(block)?)
    }

    fn inflate(&mut self, mut block: &[u8]) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        let mut piece = [0; 4096];
        loop {
            let before = (self.0.total_in(), self.0.total_out());
            let status = self.0.decompress(block, &mut piece, FlushDecompress::Sync);
            let used = usize::try_from(self.0.total_in() - before.0).unwrap_or(block.len());
            let made = usize::try_from(self.0.total_out() - before.1).unwrap_or(0);
            block = &block[used..];
            out.extend_from_slice(&piece[..made]);
            match status {
                Err(error) if error.needs_dictionary().is_some() => {
                    self.0.set_dictionary(DICTIONARY).map_err(|_| invalid("header dictionary"))?;
                }
                Err(_) => return Err(invalid("header block is not compressed as it should be")),
                Ok(Status::StreamEnd) => return Ok(out),
                Ok(_) if block.is_empty() && made < piece.len() => return Ok(out),
                Ok(_) if used == 0 && made == 0 => return Err(invalid("header block is damaged")),
                Ok(_) => {}
            }
            if out.len() > MAX_BLOCK {
                return Err(invalid("header block is too long"));
            }
        }
    }
}

fn parse(mut block: &[u8]) -> io::Result<Headers> {
    let mut headers = Headers::new();
    let count = take_u32(&mut block)?;
    for _ in 0..count {
        let name = take_text(&mut block)?.to_ascii_lowercase();
        let values = take_text(&mut block)?;
        let first = values.split('\0').next().unwrap_or_default().to_owned();
        headers.insert(name, first);
    }
    Ok(headers)
}

fn take_u32(block: &mut &[u8]) -> io::Result<u32> {
    if block.len() < 4 { Err(invalid("header block is too short")) } else { Ok(block.get_u32()) }
}

fn take_text(block: &mut &[u8]) -> io::Result<String> {
    let length = take_u32(block)? as usize;
    let (text, rest) = block.split_at_checked(length).ok_or_else(|| invalid("header block is too short"))?;
    *block = rest;
    String::from_utf8(text.to_vec()).map_err(|_| invalid("header is not text"))
}

#[derive(Debug)]
pub(crate) struct Encoder {
    compress: Compress,
    started: Started,
}

#[derive(Debug, PartialEq, Eq)]
enum Started {
    No,
    Yes,
}

impl Encoder {
    pub(crate) fn new() -> Self {
        Self { compress: Compress::new(Compression::fast(), true), started: Started::No }
    }

    /// Appends the compressed block to `out`.
    pub(crate) fn encode(&mut self, headers: &Headers, out: &mut BytesMut) -> io::Result<()> {
        if self.started == Started::No {
            self.compress.set_dictionary(DICTIONARY).map_err(|_| invalid("header dictionary"))?;
            self.started = Started::Yes;
        }
        let mut plain = BytesMut::new();
        plain.put_u32(u32::try_from(headers.len()).unwrap_or(0));
        for (name, value) in headers {
            for text in [name, value] {
                plain.put_u32(u32::try_from(text.len()).unwrap_or(0));
                plain.put_slice(text.as_bytes());
            }
        }
        let mut rest = &plain[..];
        let mut piece = [0; 1024];
        loop {
            let before = (self.compress.total_in(), self.compress.total_out());
            self.compress
                .compress(rest, &mut piece, FlushCompress::Sync)
                .map_err(|_| invalid("compressing headers"))?;
            let used = usize::try_from(self.compress.total_in() - before.0).unwrap_or(rest.len());
            let made = usize::try_from(self.compress.total_out() - before.1).unwrap_or(0);
            rest = &rest[used..];
            out.put_slice(&piece[..made]);
            if rest.is_empty() && made < piece.len() {
                return Ok(());
            }
        }
    }
}
