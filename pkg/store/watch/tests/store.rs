//! Reads, writes and lists of a store.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use edgek_api::resource::Resource;
use edgek_store_log::{Log, MemoryLog};
use edgek_store_watch::{
    At, Collection, ListOptions, OpenError, ReadError, Start, Store, TokenError, WatchOptions, Window,
    WriteError,
};
use futures::StreamExt as _;
use support::*;

async fn create(maps: &Collection, key: &str, app: Option<&str>) {
    maps.create(config_map(key, "1", app)).await.unwrap();
}

fn options(namespace: &str, labels: &str, fields: &str) -> ListOptions {
    ListOptions { filter: filter(namespace, labels, fields), ..ListOptions::default() }
}

#[tokio::test]
async fn an_object_is_stored_without_and_read_with_its_revision() {
    let store = store(ALL).await;
    let maps = config_maps(&store);
    let created = maps.create(config_map("default/a", "1", None)).await.unwrap();
    let expected = r#"{"apiVersion":"v1","data":{"v":"1"},"kind":"ConfigMap","metadata":{"name":"a","namespace":"default","resourceVersion":"1"}}"#;
    assert_eq!(created.bytes(), expected);
    assert_eq!(maps.get("default", "a").unwrap(), created);
    assert!(maps.get("other", "a").is_none() && maps.get("default", "b").is_none());
    assert_eq!((store.revision(), maps.len()), (revision(1), 1));
}

#[tokio::test]
async fn a_write_that_meets_another_state_gets_the_current_object() {
    let store = store(ALL).await;
    let maps = config_maps(&store);
    let first = maps.create(config_map("d/a", "1", None)).await.unwrap();
    assert!(
        matches!(maps.create(config_map("d/a", "2", None)).await, Err(WriteError::Exists(at)) if at == first)
    );
    let second = maps.update(config_map("d/a", "2", None), first.revision()).await.unwrap();
    let late = maps.update(config_map("d/a", "3", None), first.revision()).await;
    assert!(matches!(late, Err(WriteError::Changed(at)) if at == second));
    assert!(
        matches!(maps.delete("d", "a", first.revision()).await, Err(WriteError::Changed(at)) if at == second)
    );
    let deleted = maps.delete("d", "a", second.revision()).await.unwrap();
    assert_eq!((deleted.revision(), deleted.meta()), (revision(3), second.meta()));
    assert!(matches!(maps.delete("d", "a", second.revision()).await, Err(WriteError::Missing)));
    let late = maps.update(config_map("d/a", "3", None), second.revision()).await;
    assert!(matches!(late, Err(WriteError::Missing)));
    assert!(matches!(maps.create(Bytes::from_static(b"[]")).await, Err(WriteError::Malformed(_))));
}

#[tokio::test]
async fn of_two_writers_at_once_one_wins() {
    let store = store(ALL).await;
    let maps = config_maps(&store);
    let outcomes =
        tokio::join!(maps.create(config_map("d/a", "1", None)), maps.create(config_map("d/a", "2", None)));
    assert!(matches!(outcomes, (Ok(first), Err(WriteError::Exists(at))) if first == at));
}

#[tokio::test]
async fn an_update_that_changes_nothing_is_not_written() {
    let store = store(ALL).await;
    let maps = config_maps(&store);
    let first = maps.create(config_map("d/a", "1", None)).await.unwrap();
    assert_eq!(maps.update(config_map("d/a", "1", None), first.revision()).await.unwrap(), first);
    assert_eq!(maps.update(first.bytes().clone(), first.revision()).await.unwrap(), first);
    assert_eq!(store.revision(), revision(1));
}

#[tokio::test]
async fn a_store_is_loaded_from_its_log_with_custom_resources_claimed_later() {
    let log: Arc<dyn Log> = Arc::new(MemoryLog::new());
    let custom = |group: &'static str| {
        let like = resource("", "v1", "configmaps");
        Arc::new(Resource { group: group.into(), plural: "maps".into(), ..Resource::clone(&like) })
    };
    let first = store_over(log.clone(), ALL).await;
    create(&config_maps(&first), "d/a", None).await;
    for group in ["b.example", "a.example", "c.example"] {
        create(&first.add(custom(group)).unwrap(), "d/x", None).await;
    }

    let second = store_over(log, ALL).await;
    assert_eq!(second.revision(), revision(4));
    assert_eq!(items(&config_maps(&second).list(&ListOptions::default()).unwrap()), "d/a@1");
    assert!(second.collection(&custom("b.example")).is_none());
    for (group, expected) in
        [("b.example", "d/x@2"), ("c.example", "d/x@4"), ("a.example", "d/x@3"), ("d.example", "")]
    {
        assert_eq!(
            items(&second.add(custom(group)).unwrap().list(&ListOptions::default()).unwrap()),
            expected
        );
    }
    let watch = second.collection(&custom("b.example")).unwrap().watch(WatchOptions::default()).unwrap();
    second.remove(&custom("b.example"));
    assert_eq!(watch.count().await, 1, "the object, then the end");
    assert!(second.collection(&custom("b.example")).is_none());
}

#[tokio::test]
async fn a_damaged_object_is_named_at_start() {
    use edgek_store_log::{Change, Durability, Op, commit};
    let log = MemoryLog::new();
    let change = Change::Create(Bytes::from_static(b"{"));
    let op = Op { key: "/registry/configmaps/d/a".into(), change, durability: Durability::Durable };
    commit(&log, op).await.unwrap();
    let opened = Store::open(Arc::new(log), [resource("", "v1", "configmaps")], ALL).await;
    assert!(matches!(opened, Err(OpenError::Object { key, .. }) if key == "/registry/configmaps/d/a"));
}

#[tokio::test]
async fn lists_are_narrowed_by_namespace_and_selectors() {
    let store = store(ALL).await;
    let maps = config_maps(&store);
    for (key, app) in [("b/x", Some("web")), ("a/x", None), ("a/y", Some("web")), ("ab/x", Some("db"))] {
        create(&maps, key, app).await;
    }
    let check = |namespace, labels, fields, expected: &str| {
        let list = maps.list(&options(namespace, labels, fields)).unwrap();
        assert_eq!((items(&list), list.revision, list.token), (expected.to_owned(), revision(4), None));
    };
    check("", "", "", "a/x@2 a/y@3 ab/x@4 b/x@1");
    check("a", "", "", "a/x@2 a/y@3");
    check("c", "", "", "");
    check("", "app=web", "", "a/y@3 b/x@1");
    check("a", "app in (web,db)", "", "a/y@3");
    check("", "", "metadata.name=x", "a/x@2 ab/x@4 b/x@1");
    check("ab", "", "metadata.name=x", "ab/x@4");
    check("a", "app=web", "metadata.name=x", "");
    check("", "", "metadata.namespace!=a,metadata.name!=y", "ab/x@4 b/x@1");
}

#[tokio::test]
async fn pages_show_one_revision_though_objects_change_between_them() {
    let store = store(ALL).await;
    let maps = config_maps(&store);
    for key in ["d/a", "d/b", "d/c", "d/d", "e/a"] {
        create(&maps, key, None).await;
    }
    let mut list = ListOptions { limit: 2, ..options("d", "", "") };
    let first = maps.list(&list).unwrap();
    assert_eq!((items(&first).as_str(), first.remaining), ("d/a@1 d/b@2", Some(2)));

    maps.delete("d", "c", revision(3)).await.unwrap();
    maps.update(config_map("d/d", "2", None), revision(4)).await.unwrap();
    create(&maps, "d/bb", None).await;
    create(&maps, "d/c", None).await;

    list.token = first.token.unwrap();
    let second = maps.list(&list).unwrap();
    assert_eq!((items(&second).as_str(), second.revision), ("d/c@3 d/d@4", revision(5)));
    assert_eq!((second.token, second.remaining), (None, None));

    list.at = At::Exact(revision(5));
    assert_eq!(maps.list(&list), Err(ReadError::VersionWithContinue));
    list.token = "x".into();
    assert!(matches!(maps.list(&list), Err(ReadError::Continue(TokenError::Malformed(_)))));
}

#[tokio::test]
async fn the_pages_of_a_big_namespace_hold_each_object_once() {
    let store = store(ALL).await;
    let maps = config_maps(&store);
    for number in 0..10_000 {
        let app = if number % 100 == 0 { "rare" } else { "common" };
        create(&maps, &format!("big/{number:05}"), Some(app)).await;
    }
    // Neighbours in the order of keys, which no page may reach.
    for key in ["bi/a", "big-er/a", "big0/a", "bigger/a"] {
        create(&maps, key, Some("rare")).await;
    }
    let mut page = ListOptions { limit: 333, ..options("big", "", "") };
    let mut seen = 0;
    loop {
        let list = maps.list(&page).unwrap();
        for (number, object) in (seen..).zip(&list.items) {
            assert_eq!(&*object.meta().name, format!("{number:05}"));
        }
        seen += list.items.len();
        let Some(token) = list.token else { break };
        assert_eq!(list.remaining, Some(10_000 - seen));
        page.token = token;
    }
    assert_eq!(seen, 10_000);
    assert_eq!(maps.list(&options("big", "app=rare", "")).unwrap().items.len(), 100);
    assert_eq!(maps.list(&options("", "app=rare", "")).unwrap().items.len(), 104);
    assert_eq!(maps.list(&options("big", "app in (rare,other)", "")).unwrap().items.len(), 100);
    assert_eq!(maps.list(&options("big", "app!=rare", "")).unwrap().items.len(), 9_900);
    assert_eq!(items(&maps.list(&options("big", "", "metadata.name=00042")).unwrap()), "big/00042@43");
}

#[tokio::test]
async fn remaining_objects_are_counted_only_without_a_selector() {
    let store = store(ALL).await;
    let maps = config_maps(&store);
    for key in ["d/a", "d/b", "d/c"] {
        create(&maps, key, Some("web")).await;
    }
    let list = maps.list(&ListOptions { limit: 1, ..options("", "app=web", "") }).unwrap();
    assert_eq!((items(&list).as_str(), list.remaining, list.token.is_some()), ("d/a@1", None, true));
    let whole = maps.list(&ListOptions { limit: 3, ..options("", "", "") }).unwrap();
    assert_eq!((whole.remaining, whole.token), (None, None));
}

#[tokio::test]
async fn a_resource_version_means_what_it_means_upstream() {
    let store = store(ALL).await;
    let maps = config_maps(&store);
    create(&maps, "d/a", None).await;
    create(&maps, "d/b", None).await;
    maps.delete("d", "a", revision(1)).await.unwrap();
    let check = |version, matching, limit, expected: Result<&str, &str>| {
        let at = At::parse(version, matching).unwrap();
        let list = maps.list(&ListOptions { at, limit, ..ListOptions::default() });
        let shown = list.map(|list| format!("{} at {}", items(&list), list.revision));
        let expected = expected.map(str::to_owned).map_err(str::to_owned);
        assert_eq!(shown.map_err(|error| error.to_string()), expected, "{version:?} {matching:?} {limit}");
    };
    check("", "", 0, Ok("d/b@2 at 3"));
    check("0", "", 1, Ok("d/b@2 at 3"));
    check("0", "NotOlderThan", 0, Ok("d/b@2 at 3"));
    check("1", "NotOlderThan", 0, Ok("d/b@2 at 3"));
    check("1", "Exact", 0, Ok("d/a@1 at 1"));
    check("2", "Exact", 0, Ok("d/a@1 d/b@2 at 2"));
    check("2", "", 0, Ok("d/b@2 at 3"));
    check("2", "", 1, Ok("d/a@1 at 2"));
    let future = "Too large resource version: 4, current: 3";
    check("4", "", 0, Err(future));
    check("4", "NotOlderThan", 0, Err(future));
    check("4", "Exact", 0, Err(future));
    assert_eq!(maps.check_revision(revision(4)).unwrap_err().to_string(), future);
    assert_eq!(maps.check_revision(revision(3)), Ok(()));
}

#[test]
fn resource_versions_are_parsed_with_upstreams_words() {
    let check = |version, matching, expected: Result<At, &str>| {
        let parsed = At::parse(version, matching).map_err(|error| error.to_string());
        assert_eq!(parsed, expected.map_err(str::to_owned), "{version} {matching}");
    };
    check("7", "", Ok(At::Unmatched(revision(7))));
    check("7", "Exact", Ok(At::Exact(revision(7))));
    let syntax = r#"resourceVersion: Invalid value: "-1": strconv.ParseUint: parsing "-1": invalid syntax"#;
    check("-1", "", Err(syntax));
    check("+1", "", Err(&syntax.replace("-1", "+1")));
    let range = r#"resourceVersion: Invalid value: "99999999999999999999": strconv.ParseUint: parsing "99999999999999999999": value out of range"#;
    check("99999999999999999999", "", Err(range));
    check("1", "Older", Err("unknown ResourceVersionMatch value: Older"));
}

#[tokio::test]
async fn below_the_window_lists_and_watches_are_expired_but_a_list_can_go_on() {
    let store = store(Window { age: Duration::from_secs(3600), bytes: 2000 }).await;
    let maps = config_maps(&store);
    for key in ["d/a", "d/b", "d/c"] {
        create(&maps, key, None).await;
    }
    let first = maps.list(&ListOptions { limit: 1, ..ListOptions::default() }).unwrap();
    for key in ["d/a1", "d/b1", "d/d", "d/e", "d/f"] {
        create(&maps, key, None).await;
    }
    let next = ListOptions { limit: 2, token: first.token.unwrap(), ..ListOptions::default() };
    let Err(ReadError::ContinueExpired { token }) = maps.list(&next) else { panic!("not expired") };
    let rest = maps.list(&ListOptions { token, ..next }).unwrap();
    assert_eq!((items(&rest).as_str(), rest.revision), ("d/a1@4 d/b@2", revision(8)));
    let exact = ListOptions { at: At::Exact(revision(3)), ..ListOptions::default() };
    assert_eq!(maps.list(&exact), Err(ReadError::ListExpired));
    let watch =
        |after| maps.watch(WatchOptions { start: Start::After(revision(after)), ..WatchOptions::default() });
    assert_eq!(watch(3).unwrap_err().to_string(), "too old resource version: 3 (5)");
    assert!(watch(5).is_ok());
}

#[tokio::test]
async fn old_history_is_forgotten_by_age() {
    let store = store(Window { age: Duration::ZERO, bytes: 1 << 20 }).await;
    let maps = config_maps(&store);
    create(&maps, "d/a", None).await;
    create(&maps, "d/b", None).await;
    let exact = ListOptions { at: At::Exact(revision(0)), ..ListOptions::default() };
    assert_eq!(maps.list(&exact), Err(ReadError::ListExpired));
}

#[tokio::test(start_paused = true)]
async fn lists_expire_by_age_also_where_nothing_changed() {
    let store = store(Window { age: Duration::from_secs(300), bytes: 1 << 20 }).await;
    let maps = config_maps(&store);
    let secrets = store.collection(&resource("", "v1", "secrets")).unwrap();
    create(&maps, "d/a", None).await;
    create(&maps, "d/b", None).await;
    let first = maps.list(&ListOptions { limit: 1, ..ListOptions::default() }).unwrap();
    let next = ListOptions { token: first.token.unwrap(), ..ListOptions::default() };
    for minute in 0..6 {
        assert!(maps.list(&next).is_ok(), "after {minute} minutes");
        create(&secrets, &format!("d/{minute}"), None).await;
        tokio::time::advance(Duration::from_secs(61)).await;
    }
    create(&secrets, "d/last", None).await;
    let Err(ReadError::ContinueExpired { token }) = maps.list(&next) else { panic!("not expired") };
    assert_eq!(items(&maps.list(&ListOptions { token, ..next }).unwrap()), "d/b@2");
}
