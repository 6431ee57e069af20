//! `Responder`: the answer to one message. Names of the cluster are answered from memory at once, all others after
//! another name server was asked.

use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::RwLock;

use crate::answer::addresses;
use crate::forward::{self, Forwarder};
use crate::wire::{self, Code, Data, Error, Owner, Query, Record, Section, Transport, Writer};
use crate::zone::{Answer, TTL, Zone};

/// How many aliases of the cluster's own names follow each other.
const LONGEST_CHAIN: usize = 8;

/// Answers messages.
#[derive(Debug)]
pub(crate) struct Responder {
    pub(crate) zone: RwLock<Zone>,
    /// Whether the zone holds all names: before that nobody knows which do not exist.
    pub(crate) is_complete: AtomicBool,
    pub(crate) forwarder: Forwarder,
}

/// What is to be done with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reply {
    /// The answer is written.
    Ready,
    /// Another name server must be asked.
    Later,
    /// It deserves no answer.
    None,
}

impl Responder {
    /// Writes the answer, if it is known.
    pub(crate) fn at_once(&self, message: &[u8], transport: Transport, out: &mut Vec<u8>) -> Reply {
        let query = match Query::parse(message) {
            Ok(query) => query,
            Err(error) => return if wire::refuse(out, message, error) { Reply::Ready } else { Reply::None },
        };
        if !query.is_standard() {
            return fail(out, &query, transport, Code::NotImplemented);
        }
        if query.class != wire::IN {
            return fail(out, &query, transport, Code::Refused);
        }
        let zone = self.zone.read();
        match zone.answer(query.name.as_str(), query.kind) {
            Answer::Foreign => {
                drop(zone);
                match self.forwarder.remembered(&query, transport) {
                    Some(answer) => {
                        *out = answer;
                        Reply::Ready
                    }
                    None => Reply::Later,
                }
            }
            _ if !self.is_complete.load(Ordering::Relaxed) => {
                fail(out, &query, transport, Code::ServerFailure)
            }
            Answer::Alias(_) if matches!(query.kind, wire::A | wire::AAAA) => Reply::Later,
            Answer::Alias(target) => {
                let alias = Record { owner: Owner::Question, ttl: TTL, data: Data::Alias(target) };
                write(out, &query, transport, &[alias], &[])
            }
            Answer::Records { mut answers, additional } if !answers.is_empty() => {
                // Clients tend to take the first.
                let first = usize::from(query.id()) % answers.len();
                answers.rotate_left(first);
                write(out, &query, transport, &answers, &additional)
            }
            Answer::Records { .. } => deny(out, &query, transport, Code::NoError, &zone),
            Answer::NoName => deny(out, &query, transport, Code::NoName, &zone),
        }
    }

    /// Writes the answer to a message for which [`Self::at_once`] said [`Reply::Later`].
    pub(crate) async fn later(&self, message: &[u8], transport: Transport, out: &mut Vec<u8>) {
        let Ok(query) = Query::parse(message) else { return };
        let alias = match self.zone.read().answer(query.name.as_str(), query.kind) {
            Answer::Alias(target) => Some(target),
            _ => None,
        };
        let Some(target) = alias else {
            match self.forwarder.ask(&query, transport).await {
                Some(answer) => *out = answer,
                None => drop(fail(out, &query, transport, Code::ServerFailure)),
            }
            return;
        };
        match self.follow(target, query.kind, transport).await {
            Ok(records) => drop(write(out, &query, transport, &records, &[])),
            Err(()) => drop(fail(out, &query, transport, Code::ServerFailure)),
        }
    }

    /// The records of an alias, down to the addresses: stub resolvers do not ask again.
    async fn follow(&self, target: String, kind: u16, transport: Transport) -> Result<Vec<Record>, ()> {
        let mut records =
            vec![Record { owner: Owner::Question, ttl: TTL, data: Data::Alias(target.clone()) }];
        let mut target = target;
        for _ in 0..LONGEST_CHAIN {
            let answer = self.zone.read().answer(&target, kind);
            match answer {
                Answer::Alias(next) => {
                    let owner = Owner::Name(std::mem::replace(&mut target, next.clone()));
                    records.push(Record { owner, ttl: TTL, data: Data::Alias(next) });
                }
                Answer::Records { answers, .. } => {
                    let named = answers
                        .into_iter()
                        .map(|record| Record { owner: Owner::Name(target.clone()), ..record });
                    records.extend(named);
                    return Ok(records);
                }
                Answer::NoName => return Ok(records),
                Answer::Foreign => {
                    records.extend(self.ask(&target, kind, transport).await.ok_or(())?);
                    return Ok(records);
                }
            }
        }
        Err(())
    }

    /// What other name servers say of a name.
    async fn ask(&self, name: &str, kind: u16, transport: Transport) -> Option<Vec<Record>> {
        let message = forward::question(name, kind)?;
        let query = Query::parse(&message).ok()?;
        let answer = match self.forwarder.remembered(&query, transport) {
            Some(answer) => answer,
            None => self.forwarder.ask(&query, transport).await?,
        };
        addresses(&answer).ok()
    }
}

fn write(
    out: &mut Vec<u8>,
    query: &Query<'_>,
    transport: Transport,
    answers: &[Record],
    additional: &[Record],
) -> Reply {
    let mut writer = Writer::new(out, query, transport, Code::NoError, true);
    let complete = answers.iter().all(|record| writer.record(Section::Answer, record));
    if complete {
        // What does not fit there is asked for again.
        let _ = additional.iter().all(|record| writer.record(Section::Additional, record));
    }
    writer.finish();
    Reply::Ready
}

/// Says that there is nothing, and for how long that is so.
fn deny(out: &mut Vec<u8>, query: &Query<'_>, transport: Transport, code: Code, zone: &Zone) -> Reply {
    let mut writer = Writer::new(out, query, transport, code, true);
    writer.record(Section::Authority, &zone.authority());
    writer.finish();
    Reply::Ready
}

/// Says that there is no answer.
pub(crate) fn fail(out: &mut Vec<u8>, query: &Query<'_>, transport: Transport, code: Code) -> Reply {
    Writer::new(out, query, transport, code, false).finish();
    Reply::Ready
}

/// The answer to a query for which there is no room.
pub(crate) fn overloaded(out: &mut Vec<u8>, message: &[u8], transport: Transport) -> Result<(), Error> {
    let query = Query::parse(message)?;
    fail(out, &query, transport, Code::ServerFailure);
    Ok(())
}
