//! The files of one log: the current one and those that were rotated away, of which old ones are compressed.

use std::io::{self, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use bytes::{Buf as _, BytesMut};
use flate2::write::GzDecoder;
use tokio::fs::File;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};

use super::BLOCK;

/// A file that was rotated away.
pub(super) struct Old {
    file: File,
    unpack: Option<GzDecoder<Vec<u8>>>,
    /// Lines at its beginning that are not wanted.
    skip: u64,
}

impl Old {
    async fn open(path: &Path) -> io::Result<Self> {
        let packed = path.extension().is_some_and(|end| end == "gz");
        let unpack = packed.then(|| GzDecoder::new(Vec::new()));
        Ok(Self { file: File::open(path).await?, unpack, skip: 0 })
    }

    /// Reads a block of what is wanted; whether there was any.
    pub(super) async fn read(&mut self, out: &mut BytesMut) -> io::Result<bool> {
        let mut block = BytesMut::with_capacity(BLOCK);
        loop {
            block.clear();
            if self.file.read_buf(&mut block).await? == 0 {
                return Ok(false);
            }
            if let Some(decoder) = &mut self.unpack {
                decoder.write_all(&block)?;
                decoder.flush()?;
                block = BytesMut::from(&*std::mem::take(decoder.get_mut()));
            }
            while self.skip > 0 && !block.is_empty() {
                let end = memchr::memchr(b'\n', &block);
                self.skip -= u64::from(end.is_some());
                block.advance(end.map_or(block.len(), |end| end + 1));
            }
            if !block.is_empty() {
                out.extend_from_slice(&block);
                return Ok(true);
            }
        }
    }

    async fn lines(path: &Path) -> io::Result<u64> {
        let (mut old, mut text, mut lines) = (Self::open(path).await?, BytesMut::new(), 0);
        while old.read(&mut text).await? {
            lines += memchr::memchr_iter(b'\n', &text).count() as u64;
            text.clear();
        }
        Ok(lines)
    }
}

/// The files of the log at `path` that hold its last `tail` lines and those since a time: rotated ones, the newest first,
/// and the current one, each at the first wanted line.
pub(super) async fn of(
    path: &Path,
    tail: Option<u64>,
    since: Option<SystemTime>,
) -> io::Result<(Vec<Old>, File)> {
    let mut current = File::open(path).await?;
    let mut missing = match tail {
        Some(lines) => {
            let (start, missing) = start_of_last(&mut current, lines).await?;
            current.seek(SeekFrom::Start(start)).await?;
            Some(missing)
        }
        None => None,
    };
    let mut older = Vec::new();
    for path in rotated(path) {
        let written = tokio::fs::metadata(&path).await.and_then(|meta| meta.modified());
        if missing == Some(0) || since.is_some_and(|since| written.is_ok_and(|at| at < since)) {
            break;
        }
        // Files may vanish or be compressed meanwhile: the oldest lines are then gone.
        let Ok(mut old) = Old::open(&path).await else { break };
        if let Some(missing) = &mut missing {
            let Ok(lines) = Old::lines(&path).await else { break };
            old.skip = lines.saturating_sub(*missing);
            *missing = missing.saturating_sub(lines);
        }
        older.push(old);
    }
    Ok((older, current))
}

/// The rotated files of a log, the newest first.
fn rotated(path: &Path) -> Vec<PathBuf> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else { return Vec::new() };
    let prefix = format!("{}.", name.to_string_lossy());
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let wanted = entries.filter(|entry| {
        let name = entry.file_name().to_string_lossy().into_owned();
        name.starts_with(&prefix) && !name.ends_with(".tmp")
    });
    let mut paths: Vec<PathBuf> = wanted.map(|entry| entry.path()).collect();
    paths.sort_by(|a, b| b.cmp(a));
    paths
}

/// The offset at which the last `lines` lines begin, found by reading backwards, and how many of them are not here.
async fn start_of_last(file: &mut File, lines: u64) -> io::Result<(u64, u64)> {
    let length = file.metadata().await?.len();
    if lines == 0 {
        return Ok((length, 0));
    }
    let mut end = length;
    // The newline that ends the last line does not begin another.
    let mut wanted = lines + 1;
    while end > 0 {
        let start = end.saturating_sub(BLOCK as u64);
        let mut block = vec![0; usize::try_from(end - start).unwrap_or(BLOCK)];
        file.seek(SeekFrom::Start(start)).await?;
        file.read_exact(&mut block).await?;
        let newlines: Vec<usize> = memchr::memrchr_iter(b'\n', &block).collect();
        for at in newlines {
            wanted -= 1;
            if wanted == 0 {
                return Ok((start + at as u64 + 1, 0));
            }
        }
        end = start;
    }
    Ok((0, wanted - 1))
}
