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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forward::question;

    const ADDRESS: &[u8] = &[192, 0, 2, 7];

    /// A record of the name that is asked for.
    fn record(kind: u16, ttl: u32, data: &[u8]) -> Vec<u8> {
        let length = u16::try_from(data.len()).unwrap();
        let head = [[0xc0, 12], kind.to_be_bytes(), wire::IN.to_be_bytes()].concat();
        [&head[..], &ttl.to_be_bytes(), &length.to_be_bytes(), data].concat()
    }

    /// The SOA record of a denial that is good for so long.
    fn authority(ttl: u32, negative_ttl: u32) -> Vec<u8> {
        record(wire::SOA, ttl, &[&[0; 18], &negative_ttl.to_be_bytes()[..]].concat())
    }

    fn message(code: Code, answers: &[Vec<u8>], authorities: &[Vec<u8>]) -> Vec<u8> {
        let mut message = question("example.com", wire::A).unwrap();
        message[2] |= 0x80;
        message[3] = code as u8;
        message[7] = u8::try_from(answers.len()).unwrap();
        message[9] = u8::try_from(authorities.len()).unwrap();
        message.extend(answers.iter().chain(authorities).flatten());
        message
    }

    #[test]
    fn an_answer_lasts_as_long_as_its_shortest_record_and_a_denial_as_its_zone_says() {
        let check = |message: &[u8], seconds: u64| {
            assert_eq!(lifetime(message).unwrap(), Duration::from_secs(seconds), "{message:?}");
        };
        let address = |ttl: u32| record(wire::A, ttl, ADDRESS);
        check(&message(Code::NoError, &[address(60), address(20)], &[]), 20);
        for code in [Code::NoName, Code::NoError] {
            check(&message(code, &[], &[authority(300, 30)]), 30);
            check(&message(code, &[], &[authority(10, 30)]), 10);
            check(&message(code, &[], &[]), 0);
        }
        check(&message(Code::ServerFailure, &[], &[authority(300, 30)]), 0);
        let mut cut = message(Code::NoError, &[address(60)], &[]);
        cut[2] |= 0x02;
        check(&cut, 0);
    }

    #[test]
    fn what_was_remembered_lasts_only_as_long_as_is_left() {
        let aged = |seconds: u32| {
            let mut answer = message(Code::NoError, &[record(wire::A, 60, ADDRESS)], &[authority(30, 5)]);
            grow_older(&mut answer, seconds).unwrap();
            answer
        };
        let expected =
            |ttl, zone| message(Code::NoError, &[record(wire::A, ttl, ADDRESS)], &[authority(zone, 5)]);
        assert_eq!(aged(0), expected(60, 30));
        assert_eq!(aged(20), expected(40, 10));
        assert_eq!(aged(50), expected(10, 0));
    }
}
