//! Kills a process with parallel writers at random moments: every acknowledged write is there afterwards, revisions
//! never go back, and the database passes its integrity check. The program starts itself as the writing process.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use bytes::Bytes;
use edgek_base_lifecycle::Scope;
use edgek_store_log::{Change, Durability, Log, Op, Options, Revision, SqliteLog, commit};

const ROUNDS: usize = 25;
const WRITERS: u64 = 8;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let mut arguments = std::env::args().skip(1);
    if arguments.next().as_deref() == Some("write") {
        return runtime.block_on(write(PathBuf::from(arguments.next().unwrap())));
    }
    let folder = tempfile::tempdir().unwrap();
    let mut acknowledged = Acknowledged::default();
    for round in 0..ROUNDS {
        kill_a_writer(folder.path(), &mut acknowledged);
        runtime.block_on(verify(folder.path(), &acknowledged, round));
    }
}

/// What the writing processes said they had been told.
#[derive(Default)]
struct Acknowledged {
    /// The last acknowledged revision of each durable key.
    durable: HashMap<String, u64>,
    last: u64,
}

fn kill_a_writer(folder: &Path, acknowledged: &mut Acknowledged) {
    let program = std::env::current_exe().unwrap();
    let mut child = Command::new(program).arg("write").arg(folder).stdout(Stdio::piped()).spawn().unwrap();
    let enough = RandomState::new().build_hasher().finish() % 1500;
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut seen = 0;
    // After the kill, what was still in the pipe was acknowledged too.
    for line in lines {
        let line = line.unwrap();
        let Some((key, revision)) = line.split_once(' ') else { continue };
        let Ok(revision) = revision.parse() else { panic!("the writer failed: {line}") };
        acknowledged.last = acknowledged.last.max(revision);
        if !key.starts_with("/lazy") {
            let known = acknowledged.durable.entry(key.to_owned()).or_default();
            *known = revision.max(*known);
        }
        seen += 1;
        if seen == enough + 1 {
            child.kill().unwrap();
        }
    }
    assert!(seen > enough, "the writer ended by itself");
    child.wait().unwrap();
}

async fn verify(folder: &Path, acknowledged: &Acknowledged, round: usize) {
    let log = SqliteLog::open(folder, Options::default()).unwrap();
    log.check().await.unwrap();
    let mut found = HashMap::new();
    let mut visit = |row: edgek_store_log::Row<'_>| {
        found.insert(row.key.to_owned(), row.revision.0);
    };
    log.load(&mut visit).await.unwrap();
    assert!(
        log.revision().0 >= acknowledged.last,
        "revisions went back to {} in round {round}",
        log.revision()
    );
    for (key, revision) in &acknowledged.durable {
        let kept = found.get(key);
        assert!(
            kept.is_some_and(|kept| kept >= revision),
            "{key} at {revision} became {kept:?} in round {round}"
        );
    }
    log.close().await.unwrap();
}

/// Writes until it is killed, and prints each acknowledged key and revision.
async fn write(folder: PathBuf) {
    let log = std::sync::Arc::new(SqliteLog::open(&folder, Options::default()).unwrap());
    let mut known = HashMap::new();
    let mut visit = |row: edgek_store_log::Row<'_>| {
        known.insert(row.key.to_owned(), row.revision);
    };
    log.load(&mut visit).await.unwrap();
    let scope = Scope::root();
    let start = log.revision();
    for writer in 0..WRITERS {
        let (log, known) = (log.clone(), known.clone());
        scope.spawn("writer", async move {
            for turn in 0.. {
                let (key, durability) = match turn % 4 {
                    0 => (format!("/new/{start}-{writer}-{turn}"), Durability::Durable),
                    1 => (format!("/lazy/{start}-{writer}-{turn}"), Durability::Lazy),
                    _ => (format!("/kept/{start}-{writer}-{}", turn % 16), Durability::Durable),
                };
                put(&*log, key, durability, &known).await;
            }
        });
    }
    // Objects of former processes are changed too.
    for (key, revision) in known.iter().take(500) {
        update(&*log, key, *revision).await;
    }
    std::future::pending::<()>().await;
}

async fn put(log: &dyn Log, key: String, durability: Durability, known: &HashMap<String, Revision>) {
    assert!(!known.contains_key(&key), "revisions were given out twice: {key} exists");
    let op = Op { key: key.as_str().into(), change: Change::Create(value()), durability };
    match commit(log, op).await {
        Ok(revision) => report(&key, revision),
        Err(edgek_store_log::CommitError::Conflict(edgek_store_log::Conflict::Exists { current })) => {
            update(log, &key, current).await;
        }
        Err(error) => fail(&error),
    }
}

async fn update(log: &dyn Log, key: &str, expected: Revision) {
    let change = Change::Update { value: value(), expected };
    match commit(log, Op { key: key.into(), change, durability: Durability::Durable }).await {
        Ok(revision) => report(key, revision),
        Err(error) => fail(&error),
    }
}

fn value() -> Bytes {
    Bytes::from(vec![b'v'; 1000])
}

fn report(key: &str, revision: Revision) {
    std::io::stdout().write_all(format!("{key} {revision}\n").as_bytes()).unwrap();
}

fn fail(error: &edgek_store_log::CommitError) {
    std::io::stdout().write_all(format!("failed: {error}\n").as_bytes()).unwrap();
}
