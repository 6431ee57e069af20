//! Measures durable commits per second of the SQLite backend at 1, 16 and 64 writers, and the load of what they wrote:
//! `cargo run --release -p edgek-store-log --example commits -- <folder> [seconds]`.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a measuring program")]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use edgek_base_lifecycle::Scope;
use edgek_store_log::{Change, Durability, Log, Op, Options, SqliteLog, commit};
use tokio::time::Instant;

#[tokio::main(worker_threads = 2)]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let folder = PathBuf::from(arguments.next().expect("a folder"));
    let seconds = arguments.next().map_or(5, |text| text.parse().unwrap());
    let log = Arc::new(SqliteLog::open(&folder, Options::default()).unwrap());
    for durability in [Durability::Durable, Durability::Lazy] {
        for writers in [1, 16, 64] {
            measure(&log, durability, writers, Duration::from_secs(seconds)).await;
        }
    }
    log.close().await.unwrap();
    let start = Instant::now();
    let log = SqliteLog::open(&folder, Options::default()).unwrap();
    let (mut rows, mut bytes) = (0, 0);
    log.load(&mut |row| (rows, bytes) = (rows + 1, bytes + row.value.len())).await.unwrap();
    println!("opened and loaded {rows} rows, {} MB, in {:?}", bytes / 1_000_000, start.elapsed());
    log.close().await.unwrap();
}

async fn measure(log: &Arc<SqliteLog>, durability: Durability, writers: usize, time: Duration) {
    let scope = Scope::root();
    let start = Instant::now();
    let tasks: Vec<_> = (0..writers)
        .map(|writer| {
            let log = log.clone();
            scope.spawn("writer", async move {
                let mut latencies = Vec::new();
                while start.elapsed() < time {
                    let turn = latencies.len();
                    let key =
                        format!("/registry/configmaps/default/{durability:?}-{writers}-{writer}-{turn}")
                            .into();
                    let change = Change::Create(Bytes::from(vec![b'v'; 1000]));
                    let began = Instant::now();
                    commit(&*log, Op { key, change, durability }).await.unwrap();
                    latencies.push(began.elapsed());
                }
                latencies
            })
        })
        .collect();
    let mut latencies = Vec::new();
    for task in tasks {
        latencies.extend(task.join().await.unwrap());
    }
    latencies.sort_unstable();
    let at = |share: usize| latencies[(latencies.len() - 1) * share / 1000];
    let rate = latencies.len() as f64 / start.elapsed().as_secs_f64();
    println!(
        "{durability:?} {writers:3} writers: {rate:8.0}/s  p50 {:?}  p99 {:?}  p99.9 {:?}  max {:?}",
        at(500),
        at(990),
        at(999),
        at(1000)
    );
}
