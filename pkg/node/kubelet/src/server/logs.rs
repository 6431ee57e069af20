//! Container logs: reads the CRI log format (`<time> <stream> <P|F> <text>`), from the end, since a time, and on as it
//! grows.

use std::collections::VecDeque;
use std::io::{self, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use bytes::{BufMut as _, Bytes, BytesMut};
use futures::StreamExt as _;
use futures::stream::{self, Stream};
use inotify::{EventStream, Inotify, WatchMask};
use tokio::fs::File;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};

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
    let mut file = File::open(path).await?;
    if let Some(lines) = options.tail {
        let start = start_of_last(&mut file, lines).await?;
        file.seek(SeekFrom::Start(start)).await?;
    }
    let watch = if options.follow { Some(watch(path)?) } else { None };
    let left = options.limit;
    let reader = Reader { path: path.to_owned(), file, rest: BytesMut::new(), options, left, live, watch };
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
            self.rest.reserve(BLOCK);
            if self.file.read_buf(&mut self.rest).await? > 0 {
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

/// The offset at which the last `lines` lines begin, found by reading backwards.
async fn start_of_last(file: &mut File, lines: u64) -> io::Result<u64> {
    let length = file.metadata().await?.len();
    if lines == 0 {
        return Ok(length);
    }
    let mut end = length;
    // The newline that ends the last line does not begin another.
    let mut wanted = lines + 1;
    while end > 0 {
        let start = end.saturating_sub(BLOCK as u64);
        let mut block = vec![0; usize::try_from(end - start).unwrap_or(BLOCK)];
        file.seek(SeekFrom::Start(start)).await?;
        file.read_exact(&mut block).await?;
        let newlines: VecDeque<usize> = memchr::memrchr_iter(b'\n', &block).collect();
        for at in newlines {
            wanted -= 1;
            if wanted == 0 {
                return Ok(start + at as u64 + 1);
            }
        }
        end = start;
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    /// A container that runs until the flag is taken back.
    #[derive(Clone)]
    struct Container(Arc<AtomicBool>, Arc<tokio::sync::Notify>);

    impl Live for Container {
        async fn is_running(&self) -> bool {
            self.0.load(Ordering::SeqCst)
        }
        async fn changed(&mut self) {
            self.1.notified().await;
        }
    }

    fn ended() -> Container {
        Container(Arc::new(AtomicBool::new(false)), Arc::default())
    }

    const LOG: &str = "2026-11-01T10:00:00.000000001Z stdout F one
2026-11-01T10:00:01.000000001Z stderr F two
2026-11-01T10:00:02.000000001Z stdout P thr
2026-11-01T10:00:02.000000002Z stdout F ee
";

    async fn check(options: Options, expected: &str) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("0.log");
        std::fs::write(&path, LOG).unwrap();
        let pieces: Vec<_> = read(&path, options.clone(), ended()).await.unwrap().collect().await;
        let text: Vec<u8> = pieces.into_iter().flat_map(|piece| piece.unwrap().to_vec()).collect();
        assert_eq!(String::from_utf8(text).unwrap(), expected, "{options:?}");
    }

    #[tokio::test]
    async fn a_log_is_shown_as_asked() {
        check(Options::default(), "one\ntwo\nthree\n").await;
        check(Options { tail: Some(2), ..Options::default() }, "three\n").await;
        check(Options { tail: Some(0), ..Options::default() }, "").await;
        check(Options { tail: Some(99), ..Options::default() }, "one\ntwo\nthree\n").await;
        check(Options { limit: Some(5), ..Options::default() }, "one\nt").await;
        check(Options { stream: Only::Stderr, ..Options::default() }, "two\n").await;
        let since = "2026-11-01T10:00:01Z".parse::<jiff::Timestamp>().unwrap();
        check(Options { since: Some(since.into()), ..Options::default() }, "two\nthree\n").await;
        let with_times =
            Options { tail: Some(3), stream: Only::Stderr, timestamps: true, ..Options::default() };
        check(with_times, "2026-11-01T10:00:01.000000001Z two\n").await;
    }

    #[tokio::test]
    async fn following_goes_over_a_rotation_and_ends_with_the_container() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("0.log");
        std::fs::write(&path, LOG).unwrap();
        let container = Container(Arc::new(AtomicBool::new(true)), Arc::default());
        let options = Options { follow: true, tail: Some(1), ..Options::default() };
        let mut log = Box::pin(read(&path, options, container.clone()).await.unwrap());
        assert_eq!(log.next().await.unwrap().unwrap(), "ee\n");
        let append = |text: &str| {
            let mut file = std::fs::OpenOptions::new().append(true).create(true).open(&path).unwrap();
            file.write_all(text.as_bytes()).unwrap();
        };
        append("2026-11-01T10:00:03Z stdout F four\n");
        assert_eq!(log.next().await.unwrap().unwrap(), "four\n");
        std::fs::rename(&path, folder.path().join("0.log.1")).unwrap();
        append("2026-11-01T10:00:04Z stdout F five\n");
        assert_eq!(log.next().await.unwrap().unwrap(), "five\n");
        container.0.store(false, Ordering::SeqCst);
        container.1.notify_one();
        assert!(log.next().await.is_none());
    }
}
