//! `LogFile`: a container's log in the CRI format, with rotation and compression. The kubelet and `kubectl logs` read what it writes.
//!
//! A line is `<RFC 3339 time> <stream> <F|P> <text>`; `P` marks a piece of a longer line. Nothing is synced to disk:
//! a power cut may cost the last seconds of a log, never a container.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use jiff::Timestamp;
use tracing::warn;

use crate::Output;

/// Longer lines are written in pieces.
const MAX_LINE: usize = 16 * 1024;

/// How large logs grow (`containerLogMaxSize`, `containerLogMaxFiles`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogLimits {
    /// Bytes of one file.
    pub max_size: u64,
    /// Files of one container, the current one included.
    pub max_files: usize,
}

impl Default for LogLimits {
    fn default() -> Self {
        Self { max_size: 10 << 20, max_files: 5 }
    }
}

/// A container's log, open for appending.
#[derive(Debug)]
pub(super) struct LogFile {
    path: PathBuf,
    limits: LogLimits,
    file: Option<File>,
    size: u64,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

impl LogFile {
    /// Opens the log, going on where an earlier process ended.
    pub(super) fn open(path: &Path, limits: LogLimits) -> Self {
        let mut log = Self {
            path: path.to_owned(),
            limits,
            file: None,
            size: 0,
            stdout: Vec::new(),
            stderr: Vec::new(),
        };
        log.reopen();
        log
    }

    /// Writes the complete lines of `batch`; what follows the last line end waits for more.
    pub(super) fn append(&mut self, batch: &[Output], now: Timestamp) {
        let mut text = Vec::new();
        let time = format!("{now:.9}");
        for output in batch {
            let (name, bytes, pending) = match output {
                Output::Stdout(bytes) => ("stdout", bytes, &mut self.stdout),
                Output::Stderr(bytes) => ("stderr", bytes, &mut self.stderr),
            };
            frame(&time, name, bytes, pending, &mut text);
        }
        self.write(&text);
    }

    /// Writes what has no line end yet, when no more will come or this process ends.
    pub(super) fn flush(&mut self, now: Timestamp) {
        let mut text = Vec::new();
        let time = format!("{now:.9}");
        for (name, pending) in [("stdout", &mut self.stdout), ("stderr", &mut self.stderr)] {
            if !pending.is_empty() {
                record(&time, name, 'P', pending, &mut text);
                *pending = Vec::new();
            }
        }
        self.write(&text);
    }

    fn write(&mut self, text: &[u8]) {
        if text.is_empty() {
            return;
        }
        if self.size > 0 && self.size + text.len() as u64 > self.limits.max_size {
            self.rotate();
        }
        let Some(file) = &mut self.file else { return };
        match file.write_all(text) {
            Ok(()) => self.size += text.len() as u64,
            // The container goes on: a full disk costs its log, not its work.
            Err(error) => warn!(path = %self.path.display(), %error, "container output is lost"),
        }
    }

    fn rotate(&mut self) {
        // Finer than a second: a busy container fills a file in less.
        let time = Timestamp::now().strftime("%Y%m%d-%H%M%S%.9f");
        let target = PathBuf::from(format!("{}.{time}", self.path.display()));
        if let Err(error) = std::fs::rename(&self.path, target) {
            warn!(path = %self.path.display(), %error, "cannot rotate the log");
            return;
        }
        self.reopen();
        let old = rotated(&self.path);
        for path in old.iter().rev().skip(self.limits.max_files.saturating_sub(1)) {
            // Another attempt follows with the next rotation.
            let _ = std::fs::remove_file(path);
        }
        // The newest stays as it is: followers may still read it.
        let older = old.iter().rev().skip(1).take(self.limits.max_files.saturating_sub(2));
        for path in older.filter(|path| path.extension().is_none_or(|end| end != "gz")) {
            if let Err(error) = compress(path) {
                warn!(path = %path.display(), %error, "cannot compress an old log");
            }
        }
    }

    fn reopen(&mut self) {
        match OpenOptions::new().append(true).create(true).open(&self.path) {
            Ok(file) => {
                self.size = file.metadata().map_or(0, |metadata| metadata.len());
                self.file = Some(file);
            }
            Err(error) => {
                warn!(path = %self.path.display(), %error, "cannot open the log, container output is lost");
                self.file = None;
            }
        }
    }
}

/// Splits bytes into records; the rest after the last line end goes to `pending`.
fn frame(time: &str, stream: &str, bytes: &[u8], pending: &mut Vec<u8>, text: &mut Vec<u8>) {
    for piece in bytes.split_inclusive(|&b| b == b'\n') {
        let (line, ended) = match piece.split_last() {
            Some((b'\n', line)) => (line, true),
            _ => (piece, false),
        };
        pending.extend_from_slice(line);
        while pending.len() > MAX_LINE || (pending.len() == MAX_LINE && !ended) {
            record(time, stream, 'P', &pending[..MAX_LINE], text);
            pending.drain(..MAX_LINE);
        }
        if ended {
            record(time, stream, 'F', pending, text);
            pending.clear();
        }
    }
    if pending.is_empty() {
        *pending = Vec::new();
    }
}

fn record(time: &str, stream: &str, tag: char, line: &[u8], text: &mut Vec<u8>) {
    text.extend_from_slice(format!("{time} {stream} {tag} ").as_bytes());
    text.extend_from_slice(line);
    text.push(b'\n');
}

/// Puts `<path>.gz` in place of a file.
fn compress(path: &Path) -> io::Result<()> {
    let with = |end: &str| PathBuf::from(format!("{}.{end}", path.display()));
    let mut encoder = GzEncoder::new(File::create(with("tmp"))?, Compression::fast());
    io::copy(&mut File::open(path)?, &mut encoder)?;
    encoder.finish()?;
    std::fs::rename(with("tmp"), with("gz"))?;
    std::fs::remove_file(path)
}

/// The rotated files of a log, oldest first.
fn rotated(path: &Path) -> Vec<PathBuf> {
    let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else { return Vec::new() };
    let prefix = format!("{}.", name.to_string_lossy());
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let named = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(&prefix));
    let mut paths: Vec<_> = named.map(|entry| entry.path()).collect();
    // The rest of a compression that was cut short.
    paths.retain(|path| path.extension().is_none_or(|end| end != "tmp"));
    paths.sort();
    paths
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: &str = "2026-01-02T03:04:05.000000006Z";

    fn write(limits: LogLimits, batches: &[Output]) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        let mut log = LogFile::open(&path, limits);
        for output in batches {
            log.append(std::slice::from_ref(output), NOW.parse().unwrap());
        }
        log.flush(NOW.parse().unwrap());
        (dir, path)
    }

    #[test]
    fn lines_are_written_whole_and_the_rest_as_a_piece() {
        let batches = [
            Output::Stdout("one\ntwo ".into()),
            Output::Stderr("bad\n\n".into()),
            Output::Stdout("parts\nrest".into()),
        ];
        let (_dir, path) = write(LogLimits::default(), &batches);
        let expected = ["stdout F one", "stderr F bad", "stderr F ", "stdout F two parts", "stdout P rest"];
        let expected: String = expected.iter().map(|line| format!("{NOW} {line}\n")).collect();
        assert_eq!(std::fs::read_to_string(path).unwrap(), expected);
    }

    #[test]
    fn long_lines_are_written_in_pieces() {
        let check = |length: usize, pieces: &[(char, usize)]| {
            let line = "x".repeat(length) + "\n";
            let (_dir, path) = write(LogLimits::default(), &[Output::Stdout(line.into())]);
            let text = std::fs::read_to_string(path).unwrap();
            let found: Vec<_> = text
                .lines()
                .map(|line| {
                    let mut fields = line.splitn(4, ' ').skip(2);
                    (fields.next().unwrap().chars().next().unwrap(), fields.next().unwrap().len())
                })
                .collect();
            assert_eq!(found, pieces, "{length}");
        };
        check(MAX_LINE, &[('F', MAX_LINE)]);
        check(MAX_LINE + 1, &[('P', MAX_LINE), ('F', 1)]);
        check(2 * MAX_LINE + 5, &[('P', MAX_LINE), ('P', MAX_LINE), ('F', 5)]);
    }

    #[test]
    fn a_full_file_is_rotated_old_ones_are_compressed_and_the_oldest_removed() {
        let limits = LogLimits { max_size: 100, max_files: 3 };
        let batches: Vec<_> =
            (0..8).map(|n| Output::Stdout(format!("{n}{}\n", "x".repeat(40)).into())).collect();
        let (_dir, path) = write(limits, &batches);
        let old = rotated(&path);
        let numbers = |path: &Path| {
            let mut text = String::new();
            let file = File::open(path).unwrap();
            if path.extension().is_some_and(|end| end == "gz") {
                io::Read::read_to_string(&mut flate2::read::GzDecoder::new(file), &mut text).unwrap();
            } else {
                text = io::read_to_string(file).unwrap();
            }
            text.lines().map(|line| line.split(' ').nth(3).unwrap()[..1].to_owned()).collect::<String>()
        };
        assert_eq!(old.iter().map(|path| numbers(path)).collect::<Vec<_>>(), ["5", "6"]);
        let compressed: Vec<bool> = old.iter().map(|path| path.to_string_lossy().ends_with(".gz")).collect();
        assert_eq!(compressed, [true, false]);
        assert_eq!(numbers(&path), "7");
    }

    #[test]
    fn a_reopened_log_goes_on_where_it_ended() {
        let (_dir, path) = write(LogLimits::default(), &[Output::Stdout("before\n".into())]);
        let mut log = LogFile::open(&path, LogLimits::default());
        log.append(&[Output::Stdout("after\n".into())], NOW.parse().unwrap());
        assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 2);
    }
}
