//! What only the SQLite backend has: restarts, the folder's lock, versions, damage, full disks.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use edgek_store_log::{
    Change, CommitError, Durability, Error, Log, Op, OpenError, Options, Revision, SqliteLog, commit,
};

fn open(folder: &Path) -> Result<SqliteLog, OpenError> {
    SqliteLog::open(folder, Options::default())
}

async fn put(
    log: &SqliteLog,
    key: &str,
    value: impl Into<Bytes>,
    durability: Durability,
) -> Result<Revision, CommitError> {
    commit(log, Op { key: key.into(), change: Change::Create(value.into()), durability }).await
}

async fn keys(log: &SqliteLog) -> Vec<(String, u64)> {
    let mut keys = Vec::new();
    log.load(&mut |row| keys.push((row.key.to_owned(), row.revision.0))).await.unwrap();
    keys.sort_unstable();
    keys
}

fn message(folder: &Path) -> String {
    let text = open(folder).map(drop).unwrap_err().to_string();
    text.replace(folder.to_str().unwrap(), "DIR")
}

#[tokio::test]
async fn a_closed_store_goes_on_where_it_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path()).unwrap();
    put(&log, "/a", "1", Durability::Durable).await.unwrap();
    put(&log, "/b", "2", Durability::Lazy).await.unwrap();
    log.close().await.unwrap();
    let files: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|file| file.unwrap().file_name()).collect();
    assert_eq!(files.len(), 2, "only the database and the lock are left: {files:?}");

    let log = open(folder.path()).unwrap();
    assert_eq!(log.revision(), Revision(2));
    assert_eq!(keys(&log).await, [("/a".into(), 1), ("/b".into(), 2)]);
    assert_eq!(put(&log, "/c", "3", Durability::Durable).await.unwrap(), Revision(3));
    log.close().await.unwrap();
}

#[tokio::test]
async fn lazy_ops_reach_the_disk_after_a_while_without_a_durable_one() {
    let folder = tempfile::tempdir().unwrap();
    let log = SqliteLog::open(folder.path(), Options { flush_after: Duration::from_millis(1) }).unwrap();
    put(&log, "/a", "1", Durability::Lazy).await.unwrap();
    let wal = folder.path().join("state.db-wal");
    let written = || fs::read(&wal).unwrap().windows(2).any(|bytes| bytes == b"/a");
    let patience = tokio::time::Instant::now() + Duration::from_secs(20);
    while !written() {
        assert!(tokio::time::Instant::now() < patience, "the op never reached the disk");
        tokio::task::yield_now().await;
    }
    log.close().await.unwrap();
}

#[tokio::test]
async fn a_store_in_use_names_its_holder() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path()).unwrap();
    let expected = format!(
        "DIR is in use by another edgek (process {}): stop it, or choose another data directory",
        std::process::id()
    );
    assert_eq!(message(folder.path()), expected);
    log.close().await.unwrap();
    open(folder.path()).unwrap().close().await.unwrap();
}

#[tokio::test]
async fn databases_of_other_versions_and_programs_are_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    open(folder.path()).unwrap().close().await.unwrap();
    let path = folder.path().join("state.db");
    let change = |sql| rusqlite::Connection::open(&path).unwrap().execute_batch(sql).unwrap();
    change("PRAGMA user_version = 9");
    let newer = "DIR/state.db has schema version 9, this edgek knows up to 1: start the newer edgek, or restore a backup \
                 made before the upgrade";
    assert_eq!(message(folder.path()), newer);
    change("PRAGMA user_version = 1; PRAGMA application_id = 7");
    let foreign = "DIR/state.db is not a database of edgek: choose another data directory, or move it away";
    assert_eq!(message(folder.path()), foreign);
}

#[tokio::test]
async fn damage_is_named() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("state.db"), vec![b'x'; 8192]).unwrap();
    let error = open(folder.path()).map(drop).unwrap_err();
    assert!(matches!(error, OpenError::Store(Error::Corrupt { .. })), "{error:?}");

    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path()).unwrap();
    for number in 0..200 {
        put(&log, &format!("/{number}"), vec![b'v'; 900], Durability::Durable).await.unwrap();
    }
    log.check().await.unwrap();
    log.close().await.unwrap();
    let path = folder.path().join("state.db");
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2 / 4096 * 4096;
    bytes[middle..middle + 4096].fill(0x5a);
    fs::write(&path, bytes).unwrap();
    let log = open(folder.path()).unwrap();
    let load = log.load(&mut |_| {}).await.unwrap_err();
    let check = log.check().await.unwrap_err();
    assert!(matches!((&load, &check), (Error::Corrupt { .. }, Error::Corrupt { .. })), "{load:?} {check:?}");
}

#[tokio::test]
async fn a_folder_that_cannot_be_written_is_named() {
    let text = message(Path::new("/proc/edgek"));
    assert_eq!(text, "DIR cannot be written: make it writable for edgek, or choose another data directory");
}

#[tokio::test]
async fn the_write_ahead_log_stays_small_under_load() {
    for durability in [Durability::Durable, Durability::Lazy] {
        let folder = tempfile::tempdir().unwrap();
        let log = open(folder.path()).unwrap();
        let value = Bytes::from(vec![b'v'; 256 << 10]);
        for number in 0..300 {
            put(&log, &format!("/{number}"), value.clone(), durability).await.unwrap();
        }
        let size = fs::metadata(folder.path().join("state.db-wal")).unwrap().len();
        assert!(size < 40 << 20, "{size} bytes after 75 MiB of {durability:?} commits");
        log.close().await.unwrap();
    }
}

/// On a small file system of its own, which needs root to mount.
mod full_disk {
    use super::*;
    use std::process::Command;

    struct Mount(tempfile::TempDir);

    impl Mount {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let mounted = Command::new("mount")
                .args(["-t", "tmpfs", "-o", "size=2m", "edgek-test"])
                .arg(folder.path())
                .status();
            assert!(mounted.is_ok_and(|status| status.success()), "mounting a tmpfs needs root");
            Self(folder)
        }
    }

    impl Drop for Mount {
        fn drop(&mut self) {
            let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
        }
    }

    #[tokio::test]
    async fn a_full_disk_refuses_every_op_and_recovers_when_there_is_space() {
        let mount = Mount::new();
        let folder = mount.0.path();
        let log = open(folder).unwrap();
        put(&log, "/a", "1", Durability::Durable).await.unwrap();
        let filler = folder.join("filler");
        let _ = fs::write(&filler, vec![0; 4 << 20]);

        let error = put(&log, "/b", vec![b'v'; 100_000], Durability::Durable).await.unwrap_err();
        assert!(matches!(error, CommitError::Failed(Error::DiskFull { .. })), "{error:?}");
        assert_eq!(log.revision(), Revision(1));
        assert_eq!(keys(&log).await, [("/a".into(), 1)]);
        put(&log, "/lease", "1", Durability::Lazy).await.expect("heartbeats need no disk");

        fs::remove_file(&filler).unwrap();
        put(&log, "/b", vec![b'v'; 100_000], Durability::Durable).await.unwrap();
        assert_eq!(keys(&log).await.len(), 3);
        log.check().await.unwrap();
        log.close().await.unwrap();
        let log = open(folder).unwrap();
        assert_eq!(keys(&log).await.len(), 3);
        log.close().await.unwrap();
    }

    #[tokio::test]
    async fn a_read_only_file_system_is_named() {
        let mount = Mount::new();
        open(mount.0.path()).unwrap().close().await.unwrap();
        let remounted = Command::new("mount").args(["-o", "remount,ro"]).arg(mount.0.path()).status();
        assert!(remounted.unwrap().success());
        let expected = "DIR cannot be written: make it writable for edgek, or choose another data directory";
        assert_eq!(message(mount.0.path()), expected);
    }

    #[tokio::test]
    async fn a_full_disk_at_start_is_named() {
        let mount = Mount::new();
        let _ = fs::write(mount.0.path().join("filler"), vec![0; 4 << 20]);
        let expected = "no space left to write DIR/state.db: free some, writing then resumes by itself";
        assert_eq!(message(mount.0.path()), expected);
    }
}
