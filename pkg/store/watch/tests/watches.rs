//! What watchers see.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use edgek_store_log::MemoryLog;
use edgek_store_watch::{Bookmarks, Collection, EventKind, Filter, Start, Watch, WatchOptions, Window};
use futures::{FutureExt as _, StreamExt as _};
use support::*;

fn watch(maps: &Collection, filter: Filter, start: Start, bookmarks: Bookmarks) -> Watch {
    maps.watch(WatchOptions { filter, start, bookmarks }).unwrap()
}

/// Everything that waits for the watcher.
fn seen(watch: &mut Watch) -> Vec<String> {
    let mut events = Vec::new();
    while let Some(Some(next)) = watch.next().now_or_never() {
        events.push(event(&next));
    }
    events
}

async fn scenario(maps: &Collection) {
    maps.create(config_map("d/a", "1", Some("web"))).await.unwrap();
    maps.create(config_map("e/a", "1", None)).await.unwrap();
    maps.update(config_map("d/a", "2", Some("web")), revision(1)).await.unwrap();
    maps.update(config_map("d/a", "3", None), revision(3)).await.unwrap();
    maps.update(config_map("d/a", "4", Some("web")), revision(4)).await.unwrap();
    maps.delete("d", "a", revision(5)).await.unwrap();
}

#[tokio::test]
async fn live_and_resumed_watches_see_the_same_changes() {
    let store = store(ALL).await;
    let maps = config_maps(&store);
    let filters = [
        filter("", "", ""),
        filter("d", "", ""),
        filter("", "app=web", ""),
        filter("", "!app", ""),
        filter("d", "", "metadata.name=b"),
    ];
    let mut live: Vec<Watch> =
        filters.iter().map(|filter| watch(&maps, filter.clone(), Start::Now, Bookmarks::None)).collect();
    scenario(&maps).await;
    let expected: [&[&str]; 5] = [
        &[
            "ADDED d/a@1",
            "ADDED e/a@2",
            "MODIFIED d/a@3",
            "MODIFIED d/a@4",
            "MODIFIED d/a@5",
            "DELETED d/a@6",
        ],
        &["ADDED d/a@1", "MODIFIED d/a@3", "MODIFIED d/a@4", "MODIFIED d/a@5", "DELETED d/a@6"],
        &["ADDED d/a@1", "MODIFIED d/a@3", "DELETED d/a@4", "ADDED d/a@5", "DELETED d/a@6"],
        &["ADDED e/a@2", "ADDED d/a@4", "DELETED d/a@5"],
        &[],
    ];
    for ((filter, live), expected) in filters.iter().zip(&mut live).zip(expected) {
        assert_eq!(seen(live), expected, "live {filter:?}");
        for after in 0..=6 {
            let mut resumed = watch(&maps, filter.clone(), Start::After(revision(after)), Bookmarks::None);
            let later = expected
                .iter()
                .filter(|event| event.split('@').next_back().unwrap().parse::<u64>().unwrap() > after);
            assert_eq!(seen(&mut resumed), later.copied().collect::<Vec<_>>(), "after {after} {filter:?}");
        }
    }
}

#[tokio::test]
async fn an_object_that_ceases_to_match_is_deleted_in_its_last_matching_state() {
    let store = store(ALL).await;
    let maps = config_maps(&store);
    let mut watch = watch(&maps, filter("", "app=web", ""), Start::Now, Bookmarks::None);
    scenario(&maps).await;
    let deleted = watch.by_ref().skip(2).next().await.unwrap();
    assert_eq!(deleted.kind, EventKind::Deleted);
    let text = std::str::from_utf8(deleted.object().bytes()).unwrap();
    assert!(text.contains(r#""v":"2""#) && text.contains(r#""resourceVersion":"4""#), "{text}");
}

#[tokio::test]
async fn a_watch_may_start_with_all_objects() {
    let store = store(ALL).await;
    let maps = config_maps(&store);
    for key in ["d/b", "d/a", "e/a"] {
        maps.create(config_map(key, "1", None)).await.unwrap();
    }
    let all = || filter("d", "", "");
    let initial = Start::InitialEvents { not_older_than: revision(3) };
    let mut plain = watch(&maps, all(), Start::Objects, Bookmarks::Allowed);
    let mut silent = watch(&maps, all(), initial, Bookmarks::None);
    let mut marked = watch(&maps, all(), initial, Bookmarks::Allowed);
    maps.create(config_map("d/c", "1", None)).await.unwrap();
    let objects = ["ADDED d/a@2", "ADDED d/b@1", "ADDED d/c@4"];
    assert_eq!(seen(&mut plain), objects);
    assert_eq!(seen(&mut silent), objects);
    let end = marked.by_ref().skip(2).next().await.unwrap();
    let expected = r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"annotations":{"k8s.io/initial-events-end":"true"},"resourceVersion":"3"}}"#;
    assert_eq!((end.kind, end.object().bytes()), (EventKind::Bookmark, &Bytes::from(expected)));
    assert_eq!(seen(&mut marked), ["ADDED d/c@4"]);
}

#[tokio::test]
async fn a_watch_cannot_start_in_the_future() {
    let store = store(ALL).await;
    let maps = config_maps(&store);
    for start in [Start::After(revision(1)), Start::InitialEvents { not_older_than: revision(1) }] {
        let error = maps.watch(WatchOptions { start, ..WatchOptions::default() }).unwrap_err();
        assert_eq!(error.to_string(), "Too large resource version: 1, current: 0");
    }
}

#[tokio::test]
async fn a_bookmark_before_the_end_covers_what_other_collections_did() {
    let store = store(ALL).await;
    let maps = config_maps(&store);
    let secrets = store.collection(&resource("", "v1", "secrets")).unwrap();
    let mut watch = watch(&maps, Filter::default(), Start::Now, Bookmarks::Allowed);
    assert!(watch.bookmark().is_none(), "nothing has moved");
    secrets.create(config_map("d/s", "1", None)).await.unwrap();
    assert_eq!(event(&watch.bookmark().unwrap()), "BOOKMARK /@1");
    assert!(watch.bookmark().is_none(), "nothing has moved since");
    maps.create(config_map("d/a", "1", None)).await.unwrap();
    assert!(watch.bookmark().is_none(), "an event waits");
    assert_eq!(seen(&mut watch), ["ADDED d/a@2"]);
    assert!(watch.bookmark().is_none(), "the event said so");
}

#[tokio::test(start_paused = true)]
async fn a_watcher_without_news_gets_a_bookmark_once_a_minute_when_others_change() {
    let store = store(ALL).await;
    let maps = config_maps(&store);
    let mut quiet = watch(&maps, filter("quiet", "", ""), Start::Now, Bookmarks::Allowed);
    let mut without = watch(&maps, filter("quiet", "", ""), Start::Now, Bookmarks::None);
    for number in 0..5 {
        maps.create(config_map(&format!("d/{number}"), "1", None)).await.unwrap();
        tokio::time::advance(Duration::from_secs(35)).await;
    }
    assert_eq!(seen(&mut quiet), ["BOOKMARK /@3", "BOOKMARK /@5"]);
    assert!(seen(&mut without).is_empty());
}

#[tokio::test]
async fn a_slow_watcher_is_closed_after_what_it_was_sent() {
    let store = store(ALL).await;
    let maps = config_maps(&store);
    let slow = watch(&maps, Filter::default(), Start::Now, Bookmarks::None);
    for number in 0..1100 {
        maps.create(config_map(&format!("d/{number}"), "1", None)).await.unwrap();
    }
    let events: Vec<_> = slow.collect().await;
    assert_eq!(events.len(), 1024);
    let last = events.last().unwrap().revision();
    let resumed = watch(&maps, Filter::default(), Start::After(last), Bookmarks::None);
    store.close().await.unwrap();
    assert_eq!(resumed.count().await, 76);
    let metrics = edgek_base_telemetry::metrics::render();
    assert!(
        metrics.contains("apiserver_terminated_watchers_total{group=\"\",resource=\"configmaps\"} 1"),
        "{metrics}"
    );
}

#[tokio::test]
async fn watchers_of_one_change_share_its_bytes_and_its_other_form() {
    let store = store(ALL).await;
    let maps = config_maps(&store);
    let mut first = watch(&maps, Filter::default(), Start::Now, Bookmarks::None);
    let mut second = watch(&maps, Filter::default(), Start::Now, Bookmarks::None);
    let created = maps.create(config_map("d/a", "1", None)).await.unwrap();
    let (first, second) = (first.next().await.unwrap(), second.next().await.unwrap());
    assert!(Arc::ptr_eq(first.object(), &created) && Arc::ptr_eq(second.object(), &created));
    assert_eq!(first.frame.encoded(|_| Bytes::from_static(b"made once")), "made once");
    assert_eq!(second.frame.encoded(|_| unreachable!("made before")), "made once");
}

#[tokio::test]
async fn a_dropped_watch_is_forgotten() {
    let store = store_over(Arc::new(MemoryLog::new()), Window::default()).await;
    let maps = config_maps(&store);
    let watches: Vec<Watch> =
        (0..10).map(|_| watch(&maps, Filter::default(), Start::Now, Bookmarks::None)).collect();
    assert_eq!(maps.watchers(), 10);
    drop(watches);
    assert_eq!(maps.watchers(), 0);
}
