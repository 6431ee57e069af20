//! Tests of `logs`.

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
    let with_times = Options { tail: Some(3), stream: Only::Stderr, timestamps: true, ..Options::default() };
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

#[tokio::test]
async fn rotated_files_come_first_whether_compressed_or_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("0.log");
    let line = |number: u32| format!("2026-11-01T10:00:0{number}.000000001Z stdout F {number}\n");
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all((line(1) + &line(2)).as_bytes()).unwrap();
    std::fs::write(folder.path().join("0.log.20261101-100003.gz"), packed.finish().unwrap()).unwrap();
    std::fs::write(folder.path().join("0.log.20261101-100004"), line(3) + &line(4)).unwrap();
    std::fs::write(folder.path().join("0.log.20261101-100004.tmp"), "half").unwrap();
    std::fs::write(&path, line(5)).unwrap();
    let check = async |tail: Option<u64>, expected: &str| {
        let options = Options { tail, ..Options::default() };
        let pieces: Vec<_> = read(&path, options, ended()).await.unwrap().collect().await;
        let text: Vec<u8> = pieces.into_iter().flat_map(|piece| piece.unwrap().to_vec()).collect();
        assert_eq!(String::from_utf8(text).unwrap(), expected, "{tail:?}");
    };
    check(None, "1\n2\n3\n4\n5\n").await;
    check(Some(9), "1\n2\n3\n4\n5\n").await;
    check(Some(4), "2\n3\n4\n5\n").await;
    check(Some(3), "3\n4\n5\n").await;
    check(Some(2), "4\n5\n").await;
    check(Some(1), "5\n").await;
    check(Some(0), "").await;
}
