//! What every backend of the log guarantees, run on each.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use edgek_store_log::{
    Change, CommitError, Conflict, Durability, Error, Log, MemoryLog, Op, Options, Revision, SqliteLog,
    commit,
};
use parking_lot::Mutex;
use tokio::sync::oneshot;

/// One test per backend for each behaviour.
macro_rules! suite {
    ($($behaviour:ident),* $(,)?) => {
        mod memory {
            $(#[tokio::test] async fn $behaviour() { super::$behaviour(super::memory_log()).await; })*
        }
        mod sqlite {
            $(#[tokio::test] async fn $behaviour() {
                let folder = tempfile::tempdir().unwrap();
                super::$behaviour(super::sqlite_log(folder.path())).await;
            })*
        }
    };
}

suite!(
    a_create_gets_the_next_revision_and_refuses_an_existing_key,
    an_update_and_a_delete_need_the_current_revision,
    lazy_ops_are_judged_and_shown_like_durable_ones,
    a_key_may_change_from_lazy_to_durable,
    parallel_ops_are_acknowledged_in_revision_order_and_one_wins_each_race,
    an_op_is_committed_though_its_caller_left,
    a_closed_log_refuses_ops,
    empty_and_large_values_are_kept,
);

fn memory_log() -> Arc<dyn Log> {
    Arc::new(MemoryLog::new())
}

fn sqlite_log(folder: &Path) -> Arc<dyn Log> {
    Arc::new(SqliteLog::open(folder, Options::default()).unwrap())
}

fn op(key: &str, change: Change, durability: Durability) -> Op {
    Op { key: key.into(), change, durability }
}

async fn create(
    log: &Arc<dyn Log>,
    key: &str,
    value: &str,
    durability: Durability,
) -> Result<Revision, String> {
    let change = Change::Create(Bytes::copy_from_slice(value.as_bytes()));
    commit(&**log, op(key, change, durability)).await.map_err(|error| error.to_string())
}

async fn update(
    log: &Arc<dyn Log>,
    key: &str,
    value: &str,
    expected: u64,
    durability: Durability,
) -> Result<Revision, String> {
    let value = Bytes::copy_from_slice(value.as_bytes());
    let change = Change::Update { value, expected: Revision(expected) };
    commit(&**log, op(key, change, durability)).await.map_err(|error| error.to_string())
}

async fn delete(
    log: &Arc<dyn Log>,
    key: &str,
    expected: u64,
    durability: Durability,
) -> Result<Revision, String> {
    let change = Change::Delete { expected: Revision(expected) };
    commit(&**log, op(key, change, durability)).await.map_err(|error| error.to_string())
}

async fn rows(log: &Arc<dyn Log>) -> Vec<(String, u64, String)> {
    let mut rows = Vec::new();
    let mut visit = |row: edgek_store_log::Row<'_>| {
        rows.push((row.key.to_owned(), row.revision.0, String::from_utf8(row.value.to_vec()).unwrap()));
    };
    log.load(&mut visit).await.unwrap();
    rows.sort_unstable();
    rows
}

fn row(key: &str, revision: u64, value: &str) -> (String, u64, String) {
    (key.to_owned(), revision, value.to_owned())
}

const AT_1: &str = "the key is at revision 1";
const MISSING: &str = "the key does not exist";

async fn a_create_gets_the_next_revision_and_refuses_an_existing_key(log: Arc<dyn Log>) {
    use Durability::Durable;
    assert_eq!(log.revision(), Revision(0));
    assert_eq!(create(&log, "/a", "1", Durable).await, Ok(Revision(1)));
    assert_eq!(create(&log, "/b", "2", Durable).await, Ok(Revision(2)));
    assert_eq!(create(&log, "/a", "3", Durable).await, Err(AT_1.into()));
    assert_eq!(log.revision(), Revision(2));
    assert_eq!(rows(&log).await, [row("/a", 1, "1"), row("/b", 2, "2")]);
}

async fn an_update_and_a_delete_need_the_current_revision(log: Arc<dyn Log>) {
    use Durability::Durable;
    assert_eq!(update(&log, "/a", "0", 1, Durable).await, Err(MISSING.into()));
    assert_eq!(delete(&log, "/a", 1, Durable).await, Err(MISSING.into()));
    create(&log, "/a", "1", Durable).await.unwrap();
    assert_eq!(update(&log, "/a", "2", 7, Durable).await, Err(AT_1.into()));
    assert_eq!(delete(&log, "/a", 7, Durable).await, Err(AT_1.into()));
    assert_eq!(update(&log, "/a", "2", 1, Durable).await, Ok(Revision(2)));
    assert_eq!(rows(&log).await, [row("/a", 2, "2")]);
    assert_eq!(delete(&log, "/a", 2, Durable).await, Ok(Revision(3)));
    assert_eq!(rows(&log).await, []);
    assert_eq!(create(&log, "/a", "4", Durable).await, Ok(Revision(4)));
}

async fn lazy_ops_are_judged_and_shown_like_durable_ones(log: Arc<dyn Log>) {
    use Durability::Lazy;
    assert_eq!(create(&log, "/a", "1", Lazy).await, Ok(Revision(1)));
    assert_eq!(create(&log, "/a", "2", Lazy).await, Err(AT_1.into()));
    assert_eq!(update(&log, "/a", "2", 1, Lazy).await, Ok(Revision(2)));
    assert_eq!(log.revision(), Revision(2));
    assert_eq!(rows(&log).await, [row("/a", 2, "2")]);
    assert_eq!(update(&log, "/a", "3", 2, Lazy).await, Ok(Revision(3)));
    assert_eq!(delete(&log, "/a", 2, Lazy).await, Err("the key is at revision 3".into()));
    assert_eq!(delete(&log, "/a", 3, Lazy).await, Ok(Revision(4)));
    assert_eq!(update(&log, "/a", "5", 4, Lazy).await, Err(MISSING.into()));
    assert_eq!(rows(&log).await, []);
    assert_eq!(create(&log, "/a", "5", Lazy).await, Ok(Revision(5)));
    log.flush().await.unwrap();
    log.check().await.unwrap();
    log.compact().await.unwrap();
    assert_eq!(rows(&log).await, [row("/a", 5, "5")]);
}

async fn a_key_may_change_from_lazy_to_durable(log: Arc<dyn Log>) {
    use Durability::{Durable, Lazy};
    create(&log, "/a", "1", Lazy).await.unwrap();
    assert_eq!(create(&log, "/a", "2", Durable).await, Err(AT_1.into()));
    assert_eq!(update(&log, "/a", "2", 1, Durable).await, Ok(Revision(2)));
    assert_eq!(delete(&log, "/a", 2, Lazy).await, Ok(Revision(3)));
    assert_eq!(create(&log, "/a", "4", Durable).await, Ok(Revision(4)));
    assert_eq!(rows(&log).await, [row("/a", 4, "4")]);
}

async fn parallel_ops_are_acknowledged_in_revision_order_and_one_wins_each_race(log: Arc<dyn Log>) {
    let acknowledged = Arc::new(Mutex::new(Vec::new()));
    let mut outcomes = Vec::new();
    for round in 0..100 {
        for racer in 0..4 {
            let durability = if round % 5 == 0 { Durability::Lazy } else { Durability::Durable };
            let change = Change::Create(Bytes::from(format!("{racer}")));
            let (sender, outcome) = oneshot::channel();
            let order = acknowledged.clone();
            let done = move |result: Result<Revision, CommitError>| {
                if let Ok(revision) = result {
                    order.lock().push(revision);
                }
                sender.send(result).unwrap();
            };
            log.submit(op(&format!("/{round}"), change, durability), Box::new(done)).await;
            outcomes.push((round, outcome));
        }
    }
    let mut winners = BTreeMap::new();
    let mut losers = 0;
    for (round, outcome) in outcomes {
        match outcome.await.unwrap() {
            Ok(revision) => assert_eq!(winners.insert(round, revision), None, "two winners in round {round}"),
            Err(CommitError::Conflict(Conflict::Exists { .. })) => losers += 1,
            Err(other) => panic!("{other}"),
        }
    }
    assert_eq!((winners.len(), losers), (100, 300));
    let acknowledged = acknowledged.lock().clone();
    assert!(acknowledged.is_sorted_by(|a, b| a < b), "{acknowledged:?}");
    assert_eq!(log.revision(), *acknowledged.last().unwrap());
}

async fn an_op_is_committed_though_its_caller_left(log: Arc<dyn Log>) {
    let (sender, outcome) = oneshot::channel();
    let done = move |result: Result<Revision, CommitError>| sender.send(result.is_ok()).unwrap();
    let submitted = log.submit(op("/a", Change::Create(Bytes::new()), Durability::Durable), Box::new(done));
    submitted.await;
    drop(log);
    assert!(outcome.await.unwrap());
}

async fn a_closed_log_refuses_ops(log: Arc<dyn Log>) {
    create(&log, "/a", "1", Durability::Lazy).await.unwrap();
    log.close().await.unwrap();
    let closed = Err(Error::Closed.to_string());
    assert_eq!(create(&log, "/b", "1", Durability::Durable).await, closed);
    assert_eq!(create(&log, "/c", "1", Durability::Lazy).await, closed);
}

async fn empty_and_large_values_are_kept(log: Arc<dyn Log>) {
    let large = "x".repeat(3 << 20);
    create(&log, "/empty", "", Durability::Durable).await.unwrap();
    create(&log, "/large", &large, Durability::Durable).await.unwrap();
    create(&log, "/lazy", &large, Durability::Lazy).await.unwrap();
    create(&log, "/lazy-too", &large, Durability::Lazy).await.unwrap();
    let expected = [
        row("/empty", 1, ""),
        row("/large", 2, &large),
        row("/lazy", 3, &large),
        row("/lazy-too", 4, &large),
    ];
    assert_eq!(rows(&log).await, expected);
}
