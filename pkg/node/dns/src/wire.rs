//! Messages of DNS (RFC 1035, EDNS0 of RFC 6891): queries are read without copying, answers are written into one
//! buffer. What is malformed is an error, never a panic.

use std::net::IpAddr;

pub(crate) const A: u16 = 1;
pub(crate) const NS: u16 = 2;
pub(crate) const CNAME: u16 = 5;
pub(crate) const SOA: u16 = 6;
pub(crate) const PTR: u16 = 12;
pub(crate) const TXT: u16 = 16;
pub(crate) const AAAA: u16 = 28;
pub(crate) const SRV: u16 = 33;
pub(crate) const OPT: u16 = 41;
pub(crate) const IN: u16 = 1;

/// What an answer says of a query that got no records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Code {
    NoError = 0,
    FormatError = 1,
    ServerFailure = 2,
    NoName = 3,
    NotImplemented = 4,
    Refused = 5,
}

const HEADER: usize = 12;
const RESPONSE: u8 = 0x80;
const OPCODE: u8 = 0x78;
const AUTHORITATIVE: u8 = 0x04;
const TRUNCATED: u8 = 0x02;
const RECURSION_DESIRED: u8 = 0x01;
const RECURSION_AVAILABLE: u8 = 0x80;
const CHECKING_DISABLED: u8 = 0x10;
/// The two high bits of a label's length that make it a pointer.
const POINTER: u8 = 0xc0;
const LONGEST_LABEL: u8 = 63;
const LONGEST_NAME: usize = 255;
/// What a client without EDNS0 takes by UDP.
const PLAIN_UDP: usize = 512;
/// What reaches a client by UDP without fragments.
const LARGEST_UDP: usize = 1232;
const LARGEST_TCP: usize = u16::MAX as usize;

/// Why a message cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    /// It ends before it should.
    #[error("the message is too short")]
    Short,
    /// A label is of no known kind, or a name is longer than 255 bytes.
    #[error("malformed name")]
    Name,
    /// It is an answer, and nobody asked.
    #[error("an answer instead of a query")]
    Response,
    /// It does not have exactly one question.
    #[error("{0} questions instead of one")]
    Questions(u16),
}

/// How a message came, which says how long the answer may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    Udp,
    Tcp,
}

/// A name in lower case and without the final dot. Bytes that no host name has are shown as `?`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Name {
    text: [u8; LONGEST_NAME],
    length: usize,
}

impl Name {
    pub(crate) fn as_str(&self) -> &str {
        // It holds ASCII only.
        std::str::from_utf8(&self.text[..self.length]).unwrap_or_default()
    }

    fn push_label(&mut self, label: &[u8]) -> Result<(), Error> {
        let dot = usize::from(self.length > 0);
        let end = self.length + dot + label.len();
        let Some(room) = self.text.get_mut(self.length..end) else { return Err(Error::Name) };
        let (separator, room) = room.split_at_mut(dot);
        separator.fill(b'.');
        for (to, from) in room.iter_mut().zip(label) {
            let plain = from.is_ascii_alphanumeric() || matches!(from, b'-' | b'_');
            *to = if plain { from.to_ascii_lowercase() } else { b'?' };
        }
        self.length = end;
        Ok(())
    }
}

/// Reads a message from its beginning to its end.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reader<'a> {
    message: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(message: &'a [u8], at: usize) -> Self {
        Self { message, at }
    }

    pub(crate) fn at(&self) -> usize {
        self.at
    }

    pub(crate) fn bytes(&mut self, count: usize) -> Result<&'a [u8], Error> {
        let end = self.at.checked_add(count).ok_or(Error::Short)?;
        let bytes = self.message.get(self.at..end).ok_or(Error::Short)?;
        self.at = end;
        Ok(bytes)
    }

    fn u8(&mut self) -> Result<u8, Error> {
        self.bytes(1).map(|bytes| bytes[0])
    }

    pub(crate) fn u16(&mut self) -> Result<u16, Error> {
        self.bytes(2).map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Error> {
        Ok(u32::from(self.u16()?) << 16 | u32::from(self.u16()?))
    }

    /// Reads a name, following pointers. A pointer leads back, so that it ends.
    pub(crate) fn name(&mut self) -> Result<Name, Error> {
        let mut name = Name { text: [0; LONGEST_NAME], length: 0 };
        let mut part = *self;
        let (mut followed, mut limit) = (false, self.at);
        loop {
            let length = part.u8()?;
            if length & POINTER == POINTER {
                let target = usize::from(u16::from_be_bytes([length & !POINTER, part.u8()?]));
                if !followed {
                    self.at = part.at;
                }
                if target >= limit {
                    return Err(Error::Name);
                }
                (followed, limit, part.at) = (true, target, target);
            } else if length > LONGEST_LABEL {
                return Err(Error::Name);
            } else if length == 0 {
                break;
            } else {
                name.push_label(part.bytes(length.into())?)?;
            }
        }
        if !followed {
            self.at = part.at;
        }
        Ok(name)
    }
}

/// One record of a message.
#[derive(Debug)]
pub(crate) struct RecordView<'a> {
    pub(crate) kind: u16,
    pub(crate) class: u16,
    pub(crate) ttl: u32,
    /// Where the TTL stands.
    pub(crate) ttl_at: usize,
    /// At the data.
    pub(crate) data: Reader<'a>,
    pub(crate) data_length: usize,
}

impl<'a> Reader<'a> {
    pub(crate) fn record(&mut self) -> Result<RecordView<'a>, Error> {
        self.name()?;
        let (kind, class) = (self.u16()?, self.u16()?);
        let ttl_at = self.at;
        let ttl = self.u32()?;
        let data_length = self.u16()?.into();
        let data = *self;
        self.bytes(data_length)?;
        Ok(RecordView { kind, class, ttl, ttl_at, data, data_length })
    }
}

/// The numbers of records in a message: answers, authorities, additional.
pub(crate) fn counts(message: &[u8]) -> Result<[u16; 3], Error> {
    let mut reader = Reader::new(message, 6);
    Ok([reader.u16()?, reader.u16()?, reader.u16()?])
}

/// The code of an answer.
pub(crate) fn code(message: &[u8]) -> u8 {
    message.get(3).map_or(0, |flags| flags & 0x0f)
}

/// Whether an answer is cut off.
pub(crate) fn is_truncated(message: &[u8]) -> bool {
    message.get(2).is_some_and(|flags| flags & TRUNCATED != 0)
}

/// Whether a message is the answer to a query.
pub(crate) fn answers(message: &[u8], id: u16, query: &Query<'_>) -> bool {
    let Some(header) = message.get(..HEADER) else { return false };
    let question = message.get(HEADER..query.question_end);
    header[..2] == id.to_be_bytes()
        && header[2] & RESPONSE != 0
        && question.is_some_and(|question| question.eq_ignore_ascii_case(query.question()))
}

/// A query. It has one question.
#[derive(Debug, Clone)]
pub(crate) struct Query<'a> {
    pub(crate) message: &'a [u8],
    pub(crate) name: Name,
    pub(crate) kind: u16,
    pub(crate) class: u16,
    question_end: usize,
    /// How many bytes the client takes by UDP, if it says so.
    edns: Option<u16>,
    wants_security: bool,
}

impl<'a> Query<'a> {
    /// Reads a query.
    pub(crate) fn parse(message: &'a [u8]) -> Result<Self, Error> {
        let header = message.get(..HEADER).ok_or(Error::Short)?;
        if header[2] & RESPONSE != 0 {
            return Err(Error::Response);
        }
        let questions = u16::from_be_bytes([header[4], header[5]]);
        if questions != 1 {
            return Err(Error::Questions(questions));
        }
        let mut reader = Reader::new(message, HEADER);
        let name = reader.name()?;
        let (kind, class) = (reader.u16()?, reader.u16()?);
        let mut query =
            Self { message, name, kind, class, question_end: reader.at, edns: None, wants_security: false };
        let records = counts(message)?.into_iter().map(u32::from).sum();
        for _ in 0..records {
            let record = reader.record()?;
            if record.kind == OPT {
                query.edns = Some(record.class);
                query.wants_security = record.ttl & 0x8000 != 0;
            }
        }
        Ok(query)
    }

    pub(crate) fn id(&self) -> u16 {
        u16::from_be_bytes([self.message[0], self.message[1]])
    }

    /// Whether it is an ordinary query and no update, notification or the like.
    pub(crate) fn is_standard(&self) -> bool {
        self.message[2] & OPCODE == 0
    }

    /// The bytes of the question.
    pub(crate) fn question(&self) -> &'a [u8] {
        &self.message[HEADER..self.question_end]
    }

    /// What makes the same answer right for two queries.
    pub(crate) fn key(&self, transport: Transport) -> Vec<u8> {
        let mut key = self.question().to_ascii_lowercase();
        let flags = self.message[3] & CHECKING_DISABLED;
        let flags = flags | u8::from(self.edns.is_some()) | u8::from(self.wants_security) << 1;
        key.push(flags | u8::from(transport == Transport::Tcp) << 2);
        key
    }

    /// How long an answer may be.
    fn room(&self, transport: Transport) -> usize {
        match (transport, self.edns) {
            (Transport::Tcp, _) => LARGEST_TCP,
            (Transport::Udp, None) => PLAIN_UDP,
            (Transport::Udp, Some(size)) => usize::from(size).clamp(PLAIN_UDP, LARGEST_UDP),
        }
    }
}

/// Whose record it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Owner {
    /// The name that was asked for.
    Question,
    /// Another one.
    Name(String),
}

/// What a record says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Data {
    Address(IpAddr),
    Alias(String),
    Pointer(String),
    Server(String),
    Service {
        port: u16,
        weight: u16,
        target: String,
    },
    Text(&'static str),
    Authority {
        server: String,
        mailbox: String,
        serial: u32,
        negative_ttl: u32,
    },
    /// The data of an address, as another server gave it.
    Raw(u16, Vec<u8>),
}

impl Data {
    fn kind(&self) -> u16 {
        match self {
            Self::Address(IpAddr::V4(_)) => A,
            Self::Address(IpAddr::V6(_)) => AAAA,
            Self::Alias(_) => CNAME,
            Self::Pointer(_) => PTR,
            Self::Server(_) => NS,
            Self::Service { .. } => SRV,
            Self::Text(_) => TXT,
            Self::Authority { .. } => SOA,
            Self::Raw(kind, _) => *kind,
        }
    }
}

/// A record of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) owner: Owner,
    pub(crate) ttl: u32,
    pub(crate) data: Data,
}

/// Writes the answer to a query.
pub(crate) struct Writer<'a> {
    out: &'a mut Vec<u8>,
    room: usize,
    edns: bool,
    /// Answers, authorities, additional.
    counts: [u16; 3],
}

/// Where in an answer a record stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Section {
    Answer = 0,
    Authority = 1,
    Additional = 2,
}

/// A pointer to the name in the question.
const TO_QUESTION: [u8; 2] = [POINTER, HEADER as u8];
/// The OPT record of an answer without its size.
const OPT_LENGTH: usize = 11;

impl<'a> Writer<'a> {
    /// Begins the answer in an empty buffer. `authoritative` is for names of the cluster.
    pub(crate) fn new(
        out: &'a mut Vec<u8>,
        query: &Query<'_>,
        transport: Transport,
        code: Code,
        authoritative: bool,
    ) -> Self {
        out.clear();
        out.extend_from_slice(&query.message[..2]);
        let kept = query.message[2] & (OPCODE | RECURSION_DESIRED);
        out.push(RESPONSE | kept | if authoritative { AUTHORITATIVE } else { 0 });
        out.push(RECURSION_AVAILABLE | query.message[3] & CHECKING_DISABLED | code as u8);
        out.extend_from_slice(&[0, 1, 0, 0, 0, 0, 0, 0]);
        out.extend_from_slice(query.question());
        let edns = query.edns.is_some();
        let room = query.room(transport) - if edns { OPT_LENGTH } else { 0 };
        Self { out, room, edns, counts: [0; 3] }
    }

    /// Adds a record; whether there was room for it. A missing answer is marked as cut off.
    pub(crate) fn record(&mut self, section: Section, record: &Record) -> bool {
        let before = self.out.len();
        match &record.owner {
            Owner::Question => self.out.extend_from_slice(&TO_QUESTION),
            Owner::Name(name) => write_name(self.out, name),
        }
        self.out.extend_from_slice(&record.data.kind().to_be_bytes());
        self.out.extend_from_slice(&IN.to_be_bytes());
        self.out.extend_from_slice(&record.ttl.to_be_bytes());
        let length_at = self.out.len();
        self.out.extend_from_slice(&[0, 0]);
        write_data(self.out, &record.data);
        let length = u16::try_from(self.out.len() - length_at - 2);
        if let (Ok(length), true) = (length, self.out.len() <= self.room) {
            self.out[length_at..length_at + 2].copy_from_slice(&length.to_be_bytes());
            self.counts[section as usize] += 1;
            return true;
        }
        self.out.truncate(before);
        if section == Section::Answer {
            self.out[2] |= TRUNCATED;
        }
        false
    }

    /// Writes the end.
    pub(crate) fn finish(mut self) {
        if self.edns {
            self.out.push(0);
            self.out.extend_from_slice(&OPT.to_be_bytes());
            self.out.extend_from_slice(&(LARGEST_UDP as u16).to_be_bytes());
            self.out.extend_from_slice(&[0; 6]);
            self.counts[2] += 1;
        }
        for (index, count) in self.counts.into_iter().enumerate() {
            let at = 6 + 2 * index;
            self.out[at..at + 2].copy_from_slice(&count.to_be_bytes());
        }
    }
}

fn write_name(out: &mut Vec<u8>, name: &str) {
    for label in name.split('.').filter(|label| !label.is_empty()) {
        // Names of objects have short labels; a longer one of an ExternalName is cut, as the wire has no room for it.
        let label = &label.as_bytes()[..label.len().min(LONGEST_LABEL.into())];
        out.push(label.len() as u8);
        out.extend_from_slice(label);
    }
    out.push(0);
}

fn write_data(out: &mut Vec<u8>, data: &Data) {
    match data {
        Data::Address(IpAddr::V4(ip)) => out.extend_from_slice(&ip.octets()),
        Data::Address(IpAddr::V6(ip)) => out.extend_from_slice(&ip.octets()),
        Data::Alias(name) | Data::Pointer(name) | Data::Server(name) => write_name(out, name),
        Data::Service { port, weight, target } => {
            for number in [0, *weight, *port] {
                out.extend_from_slice(&number.to_be_bytes());
            }
            write_name(out, target);
        }
        Data::Text(text) => {
            out.push(text.len() as u8);
            out.extend_from_slice(text.as_bytes());
        }
        Data::Authority { server, mailbox, serial, negative_ttl } => {
            write_name(out, server);
            write_name(out, mailbox);
            for number in [*serial, 7200, 1800, 86400, *negative_ttl] {
                out.extend_from_slice(&number.to_be_bytes());
            }
        }
        Data::Raw(_, bytes) => out.extend_from_slice(bytes),
    }
}

/// The answer to a message that is no query: its header alone, if there is one to answer.
pub(crate) fn refuse(out: &mut Vec<u8>, message: &[u8], error: Error) -> bool {
    let Some(header) = message.get(..HEADER).filter(|_| error != Error::Response) else { return false };
    out.clear();
    out.extend_from_slice(&header[..2]);
    out.push(RESPONSE | header[2] & (OPCODE | RECURSION_DESIRED));
    out.push(RECURSION_AVAILABLE | Code::FormatError as u8);
    out.extend_from_slice(&[0; 8]);
    true
}
