//! DNS: no bytes make the server panic, as a query or as the answer of another name server.
#![no_main]
#![allow(dead_code, reason = "the modules are those of the server, which needs more of them")]

use libfuzzer_sys::fuzz_target;

#[path = "../../pkg/node/dns/src/answer.rs"]
mod answer;
#[path = "../../pkg/node/dns/src/wire.rs"]
mod wire;

use wire::{Code, Query, Transport, Writer, answers, refuse};

fuzz_target!(|bytes: &[u8]| {
    let mut out = Vec::new();
    match Query::parse(bytes) {
        Ok(query) => {
            for transport in [Transport::Udp, Transport::Tcp] {
                let records = answer::addresses(bytes).unwrap_or_default();
                let mut writer = Writer::new(&mut out, &query, transport, Code::NoError, true);
                records.iter().all(|record| writer.record(wire::Section::Answer, record));
                writer.finish();
                assert!(answers(&out, query.id(), &query), "what is written answers the query");
                query.key(transport);
            }
        }
        Err(error) => drop(refuse(&mut out, bytes, error)),
    }
    let mut older = bytes.to_vec();
    drop((answer::lifetime(bytes), answer::addresses(bytes), answer::grow_older(&mut older, 1)));
});
