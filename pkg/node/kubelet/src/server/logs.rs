//! Container logs: reads the CRI log format (`<time> <stream> <P|F> <text>`), from the end, since a time, and on as it
//! grows: the files that were rotated away first, the current one last.

mod files;

use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use bytes::{BufMut as _, Bytes, BytesMut};
use futures::StreamExt as _;
use futures::stream::{self, Stream};
use inotify::{EventStream, Inotify, WatchMask};
use tokio::fs::File;
use tokio::io::AsyncReadExt as _;

use files::Old;

/// Bytes read at once.
const BLOCK: usize = 64 << 10;
/// Longer lines do not occur: the writer splits at 16 KiB. What is longer is damaged and cut here.
const MAX_LINE: usize = 256 << 10;

/// What a client wants to see of a log (upstream: `PodLogOptions`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Options {
    pub(super) follow: bool,
    pub(super) timestamps: bool,
    pub(super) tail: Option<u64>,
    pub(super) limit: Option<u64>,
    /// Earlier lines are left out.
    pub(super) since: Option<SystemTime>,
    pub(super) stream: Only,
}

/// Which stream's lines are shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Only {
    #[default]
    All,
    Stdout,
    Stderr,
}

/// Tells whether more may come.
pub(super) trait Live: Send + Sync + 'static {
    /// Whether the container still runs.
    fn is_running(&self) -> impl Future<Output = bool> + Send;

    /// Resolves when something about the container may have changed, as [`Live::is_running`] then tells.
    fn changed(&mut self) -> impl Future<Output = ()> + Send;
}

/// The log at `path` as the client wants it.
///
/// # Errors
/// When the file cannot be opened or watched.
pub(super) async fn read<L: Live>(
    path: &Path,
    options: Options,
    live: L,
) -> io::Result<impl Stream<Item = io::Result<Bytes>> + Send + use<L>> {
    // Watched before anything is read: nothing that comes later is missed.
    let watch = if options.follow { Some(watch(path)?) } else { None };
    let (older, current) = files::of(path, options.tail, options.since).await?;
    let left = options.limit;
    let reader = Reader {
        path: path.to_owned(),
        older,
        file: current,
        rest: BytesMut::new(),
        options,
        left,
        live,
        watch,
    };
    Ok(stream::try_unfold(reader, |mut reader| async move {
        let piece = reader.next().await?;
        Ok(piece.map(|piece| (piece, reader)))
    }))
}

type Watch = EventStream<[u8; 1024]>;

/// Watches the folder: the file grows, and a rotation puts a new one in its place.
fn watch(path: &Path) -> io::Result<Watch> {
    let inotify = Inotify::init()?;
    let folder = path.parent().unwrap_or(Path::new("/"));
    inotify.watches().add(folder, WatchMask::MODIFY | WatchMask::CREATE | WatchMask::MOVED_TO)?;
    inotify.into_event_stream([0; 1024])
}

struct Reader<L> {
    path: PathBuf,
    /// What is read before the current file, the next one last.
    older: Vec<Old>,
    file: File,
    /// Read, but not a whole line yet.
    rest: BytesMut,
    options: Options,
    /// Bytes that may still be sent.
    left: Option<u64>,
    live: L,
    watch: Option<Watch>,
}

impl<L: Live> Reader<L> {
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        loop {
            if self.left == Some(0) {
                return Ok(None);
            }
            // Asked before reading: a container that ends in between has written all it ever will.
            let running = self.live.is_running().await;
            if self.read_block().await? {
                let out = self.take_lines();
                if !out.is_empty() {
                    return Ok(Some(out));
                }
                continue;
            }
            if self.reopen_if_rotated().await? {
                continue;
            }
            let Some(watch) = self.watch.as_mut().filter(|_| running) else { return Ok(None) };
            tokio::select! {
                event = watch.next() => if event.is_none() { return Ok(None) },
                () = self.live.changed() => {}
            }
        }
    }

    /// Whether there was something to read.
    async fn read_block(&mut self) -> io::Result<bool> {
        while let Some(old) = self.older.last_mut() {
            if old.read(&mut self.rest).await? {
                return Ok(true);
            }
            self.older.pop();
        }
        self.rest.reserve(BLOCK);
        Ok(self.file.read_buf(&mut self.rest).await? > 0)
    }

    fn take_lines(&mut self) -> Bytes {
        let mut out = BytesMut::new();
        while let Some(end) =
            memchr::memchr(b'\n', &self.rest).or((self.rest.len() > MAX_LINE).then_some(MAX_LINE))
        {
            let line = self.rest.split_to(end + 1);
            if let Some(line) = Line::parse(&line[..end]).filter(|line| line.matches(&self.options)) {
                line.write(self.options.timestamps, &mut out);
            }
        }
        if let Some(left) = &mut self.left {
            out.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
            *left -= out.len() as u64;
        }
        out.freeze()
    }

    async fn reopen_if_rotated(&mut self) -> io::Result<bool> {
        use std::os::unix::fs::MetadataExt as _;
        if self.watch.is_none() {
            return Ok(false);
        }
        let Ok(there) = tokio::fs::metadata(&self.path).await else { return Ok(false) };
        if there.ino() == self.file.metadata().await?.ino() {
            return Ok(false);
        }
        self.file = File::open(&self.path).await?;
        self.rest.clear();
        Ok(true)
    }
}

/// A line of the CRI format.
#[derive(Debug, PartialEq, Eq)]
struct Line<'a> {
    time: &'a [u8],
    stream: &'a [u8],
    /// Whether the line ends here; otherwise the next one goes on with it.
    whole: bool,
    text: &'a [u8],
}

impl<'a> Line<'a> {
    fn parse(line: &'a [u8]) -> Option<Self> {
        let mut parts = line.splitn(4, |byte| *byte == b' ');
        let (time, stream, tag) = (parts.next()?, parts.next()?, parts.next()?);
        Some(Self { time, stream, whole: tag.first() == Some(&b'F'), text: parts.next().unwrap_or_default() })
    }

    fn matches(&self, options: &Options) -> bool {
        let stream = match options.stream {
            Only::All => true,
            Only::Stdout => self.stream == b"stdout",
            Only::Stderr => self.stream == b"stderr",
        };
        stream && options.since.is_none_or(|since| self.at().is_none_or(|at| at >= since))
    }

    fn at(&self) -> Option<SystemTime> {
        let time: jiff::Timestamp = std::str::from_utf8(self.time).ok()?.parse().ok()?;
        Some(time.into())
    }

    fn write(&self, timestamps: bool, out: &mut BytesMut) {
        if timestamps {
            out.put_slice(self.time);
            out.put_u8(b' ');
        }
        out.put_slice(self.text);
        if self.whole {
            out.put_u8(b'\n');
        }
    }
}

#[cfg(test)]
mod tests;
