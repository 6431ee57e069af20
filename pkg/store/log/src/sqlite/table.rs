//! The schema and every SQL statement of the store, one function each.

use rusqlite::{Connection, OptionalExtension as _, Result, params};

use crate::{Change, Conflict, Op, Revision, Row, Visit};

/// Tells a database of edgek's from others; `edgk` in ASCII.
pub(super) const APPLICATION_ID: i64 = 0x6564_676b;

/// The schema's version. A program reads this one and older ones.
pub(super) const VERSION: i64 = 1;

/// A table with an index of keys, rather than one ordered by key: measured, a group of 16 creates of 1 kB costs 3.3 kB of
/// write-ahead log each instead of 10.0, an update of 2.5 kB 4.1 instead of 8.2, one of 600 B 4.1 in both, and the
/// database is a third smaller, since rows of up to 4 kB need no overflow page. `revision` stands before `value` so that
/// judging an op does not read the pages of a larger one.
///
/// `reserved` is a revision that no acknowledged op exceeds.
const SCHEMA: &str = "
    CREATE TABLE objects (
        id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, revision INTEGER NOT NULL, value BLOB NOT NULL
    ) STRICT;
    CREATE TABLE counter (id INTEGER PRIMARY KEY CHECK (id = 0), reserved INTEGER NOT NULL) STRICT;
    INSERT INTO counter VALUES (0, 0);
";

/// Makes an empty database ours.
pub(super) fn create(connection: &mut Connection) -> Result<()> {
    let transaction = connection.transaction()?;
    transaction.execute_batch(SCHEMA)?;
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", VERSION)?;
    transaction.commit()
}

/// Writes one op's change with `revision` if the key is as the op expects it.
pub(super) fn apply(connection: &Connection, op: &Op, revision: Revision) -> Result<Result<(), Conflict>> {
    let changed = match &op.change {
        Change::Create(value) => connection
            .prepare_cached(
                "INSERT INTO objects (key, revision, value) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING",
            )?
            .execute(params![&*op.key, sql(revision), &**value])?,
        Change::Update { value, expected } => connection
            .prepare_cached("UPDATE objects SET revision = ?2, value = ?3 WHERE key = ?1 AND revision = ?4")?
            .execute(params![&*op.key, sql(revision), &**value, sql(*expected)])?,
        Change::Delete { expected } => connection
            .prepare_cached("DELETE FROM objects WHERE key = ?1 AND revision = ?2")?
            .execute(params![&*op.key, sql(*expected)])?,
    };
    match changed {
        0 => Ok(op.change.judge(self::revision(connection, &op.key)?)),
        _ => Ok(Ok(())),
    }
}

/// Writes a row whatever stands there; `None` removes it.
pub(super) fn put(
    connection: &Connection,
    key: &str,
    revision: Revision,
    value: Option<&[u8]>,
) -> Result<()> {
    match value {
        Some(value) => connection
            .prepare_cached(
                "INSERT INTO objects (key, revision, value) VALUES (?1, ?2, ?3)
                 ON CONFLICT (key) DO UPDATE SET revision = ?2, value = ?3",
            )?
            .execute(params![key, sql(revision), value])?,
        None => connection.prepare_cached("DELETE FROM objects WHERE key = ?1")?.execute(params![key])?,
    };
    Ok(())
}

/// The revision a key is at.
pub(super) fn revision(connection: &Connection, key: &str) -> Result<Option<Revision>> {
    let mut statement = connection.prepare_cached("SELECT revision FROM objects WHERE key = ?1")?;
    statement.query_row(params![key], |row| row.get(0).map(from_sql)).optional()
}

/// Shows every row, in the order in which they lie on the disk.
pub(super) fn scan(connection: &Connection, visit: Visit<'_>) -> Result<()> {
    let mut statement = connection.prepare("SELECT key, revision, value FROM objects")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let (key, value) = (row.get_ref(0)?.as_str()?, row.get_ref(2)?.as_blob()?);
        visit(Row { key, revision: from_sql(row.get(1)?), value });
    }
    Ok(())
}

/// The revision that no acknowledged op exceeds.
pub(super) fn reserved(connection: &Connection) -> Result<Revision> {
    connection.query_row("SELECT reserved FROM counter", [], |row| row.get(0).map(from_sql))
}

/// Moves that revision.
pub(super) fn reserve(connection: &Connection, revision: Revision) -> Result<()> {
    connection.prepare_cached("UPDATE counter SET reserved = ?1")?.execute(params![sql(revision)]).map(drop)
}

/// Frames in the write-ahead log, and how many of them the database has.
pub(super) fn wal_frames(connection: &Connection) -> Result<(i64, i64)> {
    connection
        .prepare_cached("PRAGMA wal_checkpoint(NOOP)")?
        .query_row([], |row| Ok((row.get(1)?, row.get(2)?)))
}

/// Copies the write-ahead log into the database, without waiting for anyone.
pub(super) fn checkpoint(connection: &Connection) -> Result<()> {
    connection.prepare_cached("PRAGMA wal_checkpoint(PASSIVE)")?.query_row([], |_| Ok(()))
}

/// What is wrong with the database's structure; empty when nothing is.
pub(super) fn faults(connection: &Connection) -> Result<Vec<String>> {
    let mut statement = connection.prepare("PRAGMA integrity_check(5)")?;
    let found = statement.query_map([], |row| row.get(0))?.collect::<Result<Vec<String>>>()?;
    Ok(found.into_iter().filter(|line| line != "ok").collect())
}

// SQLite's integers are signed; a revision would need a million years of commits to reach the sign bit.
fn sql(revision: Revision) -> i64 {
    revision.0.cast_signed()
}

fn from_sql(revision: i64) -> Revision {
    Revision(revision.cast_unsigned())
}
