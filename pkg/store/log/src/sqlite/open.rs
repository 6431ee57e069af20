//! Opening: the folder, its lock, the database and its version; and what SQLite's errors mean to an operator.

use std::fs::{File, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use edgek_base_sys::files;
use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::table;
use crate::{Error, OpenError, Revision};

/// The page cache of a connection, in KiB: the working set of a commit, as reads are served from memory above.
const PAGE_CACHE_KIB: i64 = 1024;

/// The write-ahead log keeps this size, so that it is overwritten in place; what a burst added is cut off.
const WAL_KEPT_BYTES: i64 = 8 << 20;

/// A database that is ready for its writer.
pub(super) struct Opened {
    pub(super) connection: Connection,
    pub(super) path: Arc<PathBuf>,
    pub(super) reserved: Revision,
    pub(super) lock: FolderLock,
}

/// Held while the folder is in use; the kernel releases it when the process ends, however it ends.
pub(super) struct FolderLock {
    #[expect(dead_code, reason = "held, not read")]
    file: File,
}

pub(super) fn open(folder: &Path) -> Result<Opened, OpenError> {
    let unwritable = |source: io::Error| match source.kind() {
        io::ErrorKind::StorageFull => Error::DiskFull { path: Arc::new(folder.into()) }.into(),
        _ => OpenError::Folder { path: folder.into(), source },
    };
    files::create_dir_private(folder).map_err(unwritable)?;
    let lock = lock(folder, unwritable)?;
    let path = Arc::new(folder.join("state.db"));
    let connection = prepare(&path)?;
    let reserved = table::reserved(&connection).map_err(|error| explain(error, &path))?;
    Ok(Opened { connection, path, reserved, lock })
}

fn lock(folder: &Path, unwritable: impl Fn(io::Error) -> OpenError) -> Result<FolderLock, OpenError> {
    let options = File::options().read(true).write(true).create(true).truncate(false).to_owned();
    let mut file = options.open(folder.join("lock")).map_err(&unwritable)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut pid = String::new();
            let known = file.read_to_string(&mut pid).is_ok() && pid.trim().parse::<u32>().is_ok();
            let holder = if known { format!(" (process {})", pid.trim()) } else { String::new() };
            return Err(OpenError::Locked { path: folder.into(), holder });
        }
        Err(TryLockError::Error(error)) => return Err(unwritable(error)),
    }
    // Only for the message above: on a full disk the lock holds without it.
    let _ = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
    Ok(FolderLock { file })
}

fn prepare(path: &Arc<PathBuf>) -> Result<Connection, OpenError> {
    let explain = |error| explain(error, path);
    let mut connection =
        connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE).map_err(explain)?;
    let pragma =
        |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0)).map_err(explain);
    let (application, version, tables) =
        (pragma("application_id")?, pragma("user_version")?, pragma("schema_version")?);
    let fresh = application == 0 && version == 0 && tables == 0;
    if !fresh && application != table::APPLICATION_ID {
        return Err(OpenError::Foreign { path: path.to_path_buf() });
    }
    if version > table::VERSION {
        return Err(OpenError::NewerVersion {
            path: path.to_path_buf(),
            found: version,
            known: table::VERSION,
        });
    }
    let settings = format!(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 0; \
         PRAGMA journal_size_limit = {WAL_KEPT_BYTES};"
    );
    connection.execute_batch(&settings).map_err(explain)?;
    if fresh {
        table::create(&mut connection).map_err(explain)?;
        files::sync_dir(path.parent().expect("joined to a folder"))
            .map_err(|source| OpenError::Folder { path: path.to_path_buf(), source })?;
    }
    Ok(connection)
}

/// A connection beside the writer's, to read everything.
pub(super) fn reader(path: &Path) -> rusqlite::Result<Connection> {
    connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY)
}

/// A connection beside the writer's, to copy the write-ahead log.
pub(super) fn checkpointer(path: &Path) -> rusqlite::Result<Connection> {
    connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)
}

fn connect(path: &Path, mode: OpenFlags) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(path, mode | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(Duration::from_secs(10))?;
    connection
        .execute_batch(&format!("PRAGMA cache_size = -{PAGE_CACHE_KIB}; PRAGMA trusted_schema = OFF;"))?;
    Ok(connection)
}

/// What an error of SQLite's means to an operator.
pub(super) fn explain(error: rusqlite::Error, path: &Arc<PathBuf>) -> Error {
    let path = path.clone();
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => Error::DiskFull { path },
        Some(ErrorCode::ReadOnly) => Error::ReadOnly { path },
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            Error::Corrupt { path, detail: error.to_string() }
        }
        _ => Error::Io { path, source: Arc::new(error) },
    }
}
