//! Measures a store of 10,000 pods: its load, lists, and changes with 200 watchers:
//! `cargo run --release -p edgek-store-watch --example cache -- <folder>`.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a measuring program")]

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use edgek_api::resource::Catalog;
use edgek_api::selector::{field, label};
use edgek_base_lifecycle::Scope;
use edgek_store_log::{MemoryLog, Options, SqliteLog};
use edgek_store_watch::{Bookmarks, Collection, Filter, ListOptions, Start, Store, WatchOptions, Window};
use futures::StreamExt as _;
use tokio::time::Instant;

const PODS: usize = 10_000;
const WATCHERS: usize = 200;
const CHANGES: usize = 1000;

#[tokio::main(worker_threads = 2)]
async fn main() {
    let folder = PathBuf::from(std::env::args().nth(1).expect("a folder"));
    fill(&folder).await;

    let start = Instant::now();
    let (store, pods) = open(&folder).await;
    println!("opened and loaded {} pods in {:?}", pods.len(), start.elapsed());
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    println!("{}", status.lines().find(|line| line.starts_with("RssAnon")).unwrap());
    lists(&pods);
    store.close().await.unwrap();

    let memory =
        Store::open(Arc::new(MemoryLog::new()), Catalog::builtin().iter().cloned(), Window::default()).await;
    let memory = memory.unwrap();
    let pods = collection(&memory);
    for watchers in [0, WATCHERS] {
        changes(&pods, watchers).await;
    }
}

async fn fill(folder: &std::path::Path) {
    let (store, pods) = open(folder).await;
    let start = Instant::now();
    let creates = (pods.len()..PODS).map(|number| pods.create(pod(number, 0)));
    futures::stream::iter(creates)
        .buffer_unordered(64)
        .for_each(|created| async { drop(created.unwrap()) })
        .await;
    println!("created up to {PODS} pods of {} bytes at 64 at once in {:?}", pod(0, 0).len(), start.elapsed());
    store.close().await.unwrap();
}

async fn open(folder: &std::path::Path) -> (Store, Collection) {
    let log = Arc::new(SqliteLog::open(folder, Options::default()).unwrap());
    let store = Store::open(log, Catalog::builtin().iter().cloned(), Window::default()).await.unwrap();
    let pods = collection(&store);
    (store, pods)
}

fn collection(store: &Store) -> Collection {
    store.collection(Catalog::builtin().find("", "v1", "pods").unwrap()).unwrap()
}

fn lists(pods: &Collection) {
    let resource = pods.resource().clone();
    let list = |name: &str, labels: &str, fields: &str, namespace: &str, limit| {
        let labels = label::Selector::parse(labels).unwrap();
        let fields = field::Selector::parse(fields, &resource).unwrap();
        let filter = Filter { namespace: namespace.into(), labels, fields };
        let options = ListOptions { filter, limit, ..ListOptions::default() };
        let start = Instant::now();
        let found = (0..20).map(|_| pods.list(&options).unwrap().items.len()).max().unwrap();
        println!("list of {found:5} pods by {name}: {:?}", start.elapsed() / 20);
    };
    list("nothing", "", "", "", 0);
    list("namespace", "", "", "ns-7", 0);
    list("label", "app=web-42", "", "", 0);
    list("node", "", "spec.nodeName=node-42", "", 0);
    list("page", "", "", "", 500);
    list("page of a namespace", "", "", "ns-7", 100);
}

async fn changes(pods: &Collection, watchers: usize) {
    let scope = Scope::root();
    let start = Start::After(pods.list(&ListOptions::default()).unwrap().revision);
    let reading: Vec<_> = (0..watchers)
        .map(|_| {
            let options = WatchOptions { start, bookmarks: Bookmarks::None, filter: Filter::default() };
            let watch = pods.watch(options).unwrap();
            scope.spawn("watcher", watch.take(CHANGES).count())
        })
        .collect();
    let began = Instant::now();
    for number in 0..CHANGES {
        pods.create(pod(number, watchers)).await.unwrap();
        tokio::task::yield_now().await;
    }
    let written = began.elapsed();
    for task in reading {
        assert_eq!(task.join().await, Some(CHANGES));
    }
    let rate = (CHANGES * watchers) as f64 / began.elapsed().as_secs_f64();
    println!("{CHANGES} creates in memory with {watchers} watchers: {written:?}, {rate:.0} events/s");
}

fn pod(number: usize, series: usize) -> Bytes {
    let (namespace, app, node) = (number % 20, number % 100, number % 100);
    let environment: Vec<String> = (0..40)
        .map(|n| format!(r#"{{"name":"VARIABLE_{n}","value":"a value of some length, as they have, {n}"}}"#))
        .collect();
    Bytes::from(format!(
        r#"{{"apiVersion":"v1","kind":"Pod","metadata":{{"creationTimestamp":"2026-01-01T00:00:00Z","labels":{{"app":"web-{app}","pod-template-hash":"5d4f8c7b9"}},"name":"web-{series}-{number}","namespace":"ns-{namespace}","ownerReferences":[{{"apiVersion":"apps/v1","blockOwnerDeletion":true,"controller":true,"kind":"ReplicaSet","name":"web","uid":"6ba7b810-9dad-11d1-80b4-00c04fd430c8"}}],"uid":"6ba7b810-9dad-11d1-80b4-{number:012}"}},"spec":{{"containers":[{{"env":[{}],"image":"registry.local/web:1","name":"web"}}],"nodeName":"node-{node}"}},"status":{{"phase":"Running"}}}}"#,
        environment.join(",")
    ))
}
