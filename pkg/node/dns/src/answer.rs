//! What is read of other name servers' answers: how long they last, and the addresses in them.

use std::time::Duration;

use crate::wire::{self, Code, Data, Error, Owner, Reader, Record};

/// At the first record of a message.
fn records(message: &[u8]) -> Result<(Reader<'_>, [u16; 3]), Error> {
    let counts = wire::counts(message)?;
    let mut reader = Reader::new(message, 12);
    reader.name()?;
    reader.bytes(4)?;
    Ok((reader, counts))
}

/// How long an answer may be remembered.
pub(crate) fn lifetime(answer: &[u8]) -> Result<Duration, Error> {
    let (mut reader, [answers, authorities, additional]) = records(answer)?;
    let exists = wire::code(answer) == Code::NoError as u8;
    if wire::is_truncated(answer) || !(exists || wire::code(answer) == Code::NoName as u8) {
        return Ok(Duration::ZERO);
    }
    let mut seconds = None;
    let total = u32::from(answers) + u32::from(authorities) + u32::from(additional);
    for index in 0..total {
        let mut record = reader.record()?;
        if record.kind == wire::OPT {
            continue;
        }
        let mut ttl = record.ttl;
        if index >= answers.into() && record.kind == wire::SOA {
            record.data.name()?;
            record.data.name()?;
            record.data.bytes(16)?;
            ttl = ttl.min(record.data.u32()?);
        } else if answers == 0 {
            continue;
        }
        seconds = Some(seconds.unwrap_or(ttl).min(ttl));
    }
    Ok(Duration::from_secs(seconds.unwrap_or(0).into()))
}

/// Takes time that has passed off the lifetimes of all records.
pub(crate) fn grow_older(answer: &mut [u8], seconds: u32) -> Result<(), Error> {
    let mut ttls = Vec::new();
    let (mut reader, counts) = records(answer)?;
    for _ in 0..counts.into_iter().map(u32::from).sum() {
        let record = reader.record()?;
        if record.kind != wire::OPT {
            ttls.push((record.ttl_at, record.ttl));
        }
    }
    for (at, ttl) in ttls {
        answer[at..at + 4].copy_from_slice(&ttl.saturating_sub(seconds).to_be_bytes());
    }
    Ok(())
}

/// The addresses and aliases in an answer, to be given as part of another one.
///
/// # Errors
/// The answer cannot be read.
pub(crate) fn addresses(answer: &[u8]) -> Result<Vec<Record>, Error> {
    let (mut reader, [answers, ..]) = records(answer)?;
    let mut found = Vec::new();
    for _ in 0..answers {
        let owner = Reader::new(answer, reader.at()).name()?;
        let mut record = reader.record()?;
        let data = match record.kind {
            wire::CNAME => Data::Alias(record.data.name()?.as_str().to_owned()),
            wire::A | wire::AAAA => Data::Raw(record.kind, record.data.bytes(record.data_length)?.to_vec()),
            _ => continue,
        };
        found.push(Record { owner: Owner::Name(owner.as_str().to_owned()), ttl: record.ttl, data });
    }
    Ok(found)
}
