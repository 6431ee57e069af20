//! Stores over config maps and pods, and how tests write their objects.

#![allow(dead_code, reason = "each test file uses its part")]

use std::sync::Arc;

use bytes::Bytes;
use edgek_api::resource::{Catalog, Resource};
use edgek_api::selector::{field, label};
use edgek_store_log::{Log, MemoryLog};
use edgek_store_watch::{Collection, Filter, List, Object, Revision, Store, WatchEvent, Window};

pub(crate) fn resource(group: &str, version: &str, plural: &str) -> Arc<Resource> {
    Catalog::builtin().find(group, version, plural).unwrap().clone()
}

pub(crate) async fn store(window: Window) -> Store {
    store_over(Arc::new(MemoryLog::new()), window).await
}

pub(crate) async fn store_over(log: Arc<dyn Log>, window: Window) -> Store {
    let stored =
        Catalog::builtin().iter().filter(|resource| resource.is_stored() && resource.stored_as.is_none());
    Store::open(log, stored.cloned(), window).await.unwrap()
}

pub(crate) fn config_maps(store: &Store) -> Collection {
    store.collection(&resource("", "v1", "configmaps")).unwrap()
}

/// `default/web` with a value and perhaps a label `app`.
pub(crate) fn config_map(key: &str, value: &str, app: Option<&str>) -> Bytes {
    let (namespace, name) = key.split_once('/').unwrap();
    let labels = app.map_or_else(String::new, |app| format!(r#""labels":{{"app":"{app}"}},"#));
    Bytes::from(format!(
        r#"{{"apiVersion":"v1","data":{{"v":"{value}"}},"kind":"ConfigMap","metadata":{{{labels}"name":"{name}","namespace":"{namespace}"}}}}"#
    ))
}

pub(crate) fn filter(namespace: &str, labels: &str, fields: &str) -> Filter {
    let fields = field::Selector::parse(fields, &resource("", "v1", "configmaps")).unwrap();
    Filter { namespace: namespace.into(), labels: label::Selector::parse(labels).unwrap(), fields }
}

pub(crate) fn key(object: &Object) -> String {
    format!("{}/{}", object.meta().namespace, object.meta().name)
}

/// `default/a@1 default/b@2`.
pub(crate) fn items(list: &List) -> String {
    let items: Vec<String> =
        list.items.iter().map(|object| format!("{}@{}", key(object), object.revision())).collect();
    items.join(" ")
}

/// `ADDED default/a@1`.
pub(crate) fn event(event: &WatchEvent) -> String {
    let text = std::str::from_utf8(event.object().bytes()).unwrap();
    let version = format!("\"resourceVersion\":\"{}\"", event.revision());
    assert!(text.contains(&version), "{text} lacks {version}");
    format!("{} {}@{}", event.kind.as_str(), key(event.object()), event.revision())
}

pub(crate) const ALL: Window = Window { age: std::time::Duration::from_secs(3600), bytes: 1 << 30 };

pub(crate) fn revision(number: u64) -> Revision {
    Revision(number)
}
