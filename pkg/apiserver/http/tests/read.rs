//! Lists, watches, views and documents.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use serde_json::{Value, json};
use support::Test;

const MAPS: &str = "/api/v1/namespaces/a/configmaps";

async fn maps(test: &Test, names: &[&str]) {
    for name in names {
        test.create(
            MAPS,
            json!({"metadata": {"name": name, "labels": {"first": &name[..1]}}, "data": {"k": "v"}}),
        )
        .await;
    }
}

fn names(list: &Value) -> Vec<&str> {
    list["items"].as_array().unwrap().iter().map(|item| item["metadata"]["name"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_list_comes_in_pages_of_one_revision() {
    let test = Test::start().await;
    maps(&test, &["a1", "a2", "b1"]).await;
    let first = test.get(&format!("{MAPS}?limit=2")).await;
    assert_eq!((first["kind"].as_str().unwrap(), names(&first)), ("ConfigMapList", vec!["a1", "a2"]));
    assert_eq!(first["metadata"]["remainingItemCount"], 1);
    maps(&test, &["b2"]).await;
    let token = first["metadata"]["continue"].as_str().unwrap();
    let second = test.get(&format!("{MAPS}?limit=2&continue={token}")).await;
    assert_eq!(names(&second), ["b1"], "the second page shows what was there with the first");
    assert_eq!(second["metadata"]["resourceVersion"], first["metadata"]["resourceVersion"]);
}

#[tokio::test]
async fn selectors_narrow_lists() {
    let test = Test::start().await;
    maps(&test, &["a1", "a2", "b1"]).await;
    assert_eq!(names(&test.get(&format!("{MAPS}?labelSelector=first%20in%20(a)")).await), ["a1", "a2"]);
    assert_eq!(names(&test.get(&format!("{MAPS}?fieldSelector=metadata.name%3Db1")).await), ["b1"]);
    assert_eq!(names(&test.get("/api/v1/configmaps").await), ["a1", "a2", "b1"]);
    test.create("/api/v1/namespaces/a/pods", json!({"metadata": {"name": "p"}, "spec": {"nodeName": "n", "containers": [{"name": "c", "image": "x"}]}})).await;
    assert_eq!(names(&test.get("/api/v1/pods?fieldSelector=spec.nodeName%3Dn").await), ["p"]);
    assert!(names(&test.get("/api/v1/pods?fieldSelector=spec.nodeName%3Do").await).is_empty());
}

#[tokio::test]
async fn a_watch_tells_changes_in_order_and_starts_where_the_list_ended() {
    let test = Test::start().await;
    maps(&test, &["a1"]).await;
    let list = test.get(MAPS).await;
    let revision = list["metadata"]["resourceVersion"].as_str().unwrap();
    maps(&test, &["a2"]).await;
    let mut events = test.watch(&format!("{MAPS}?watch=1&resourceVersion={revision}"), &[]).await;
    test.merge(&format!("{MAPS}/a1"), json!({"data": {"k": "w"}})).await;
    test.json("DELETE", &format!("{MAPS}/a2"), json!({})).await;
    let mut seen = Vec::new();
    let mut last = 0;
    for _ in 0..3 {
        let (kind, object) = events.next().await.unwrap();
        let version: u64 = object["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap();
        assert!(version > last);
        last = version;
        seen.push(format!("{kind} {}", object["metadata"]["name"].as_str().unwrap()));
    }
    assert_eq!(seen, ["ADDED a2", "MODIFIED a1", "DELETED a2"]);
}

#[tokio::test]
async fn initial_events_end_with_a_bookmark() {
    let test = Test::start().await;
    maps(&test, &["a1", "a2"]).await;
    let query = "watch=1&sendInitialEvents=true&allowWatchBookmarks=true&resourceVersionMatch=NotOlderThan&resourceVersion=";
    let mut events = test.watch(&format!("{MAPS}?{query}"), &[]).await;
    assert_eq!(events.next().await.unwrap().0, "ADDED");
    assert_eq!(events.next().await.unwrap().0, "ADDED");
    let (kind, object) = events.next().await.unwrap();
    assert_eq!(
        (kind.as_str(), &object["metadata"]["annotations"]["k8s.io/initial-events-end"]),
        ("BOOKMARK", &json!("true"))
    );
}

#[tokio::test]
async fn a_watch_ends_when_its_time_is_over_and_when_the_server_ends() {
    let test = Test::start().await;
    let mut events = test.watch(&format!("{MAPS}?watch=1&timeoutSeconds=1"), &[]).await;
    assert!(events.next().await.is_none());
    let mut events = test.watch(&format!("{MAPS}?watch=1"), &[]).await;
    test.scope.cancel();
    assert!(events.next().await.is_none());
}

#[tokio::test]
async fn a_watch_of_an_object_that_ceases_to_match_sees_it_deleted() {
    let test = Test::start().await;
    maps(&test, &["a1"]).await;
    let mut events = test.watch(&format!("{MAPS}?watch=1&labelSelector=first%3Da"), &[]).await;
    assert_eq!(events.next().await.unwrap().0, "ADDED");
    test.merge(&format!("{MAPS}/a1"), json!({"metadata": {"labels": {"first": "z"}}})).await;
    assert_eq!(events.next().await.unwrap().0, "DELETED");
}

#[tokio::test]
async fn objects_are_shown_as_tables_and_metadata() {
    let test = Test::start().await;
    maps(&test, &["a1"]).await;
    let table = test
        .send("GET", MAPS, &[("accept", "application/json;as=Table;v=v1;g=meta.k8s.io,application/json")], "")
        .await
        .json();
    assert_eq!((&table["kind"], &table["columnDefinitions"][0]["name"]), (&json!("Table"), &json!("Name")));
    assert_eq!(table["rows"][0]["cells"][0], "a1");
    assert_eq!(table["rows"][0]["object"]["kind"], "PartialObjectMetadata");
    let accept = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
    let metadata = test.send("GET", MAPS, &[("accept", accept)], "").await.json();
    assert_eq!(metadata["kind"], "PartialObjectMetadataList");
    assert_eq!(metadata["items"][0]["metadata"]["name"], "a1");
    assert!(metadata["items"][0].get("data").is_none());
    let yaml = test.send("GET", &format!("{MAPS}/a1"), &[("accept", "application/yaml")], "").await;
    assert!(
        String::from_utf8(yaml.bytes)
            .unwrap()
            .starts_with("apiVersion: v1\ndata:\n  k: v\nkind: ConfigMap\n")
    );
}

#[tokio::test]
async fn the_api_describes_itself() {
    let test = Test::start().await;
    assert_eq!(test.get("/version").await["minor"], "37");
    assert_eq!(test.get("/api").await["versions"], json!(["v1"]));
    assert!(
        test.get("/apis").await["groups"].as_array().unwrap().iter().any(|group| group["name"] == "apps")
    );
    let resources = test.get("/api/v1").await;
    assert!(resources["resources"].as_array().unwrap().iter().any(|resource| resource["name"] == "pods"));
    let aggregated = test
        .send(
            "GET",
            "/apis",
            &[(
                "accept",
                "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json",
            )],
            "",
        )
        .await;
    assert_eq!(aggregated.json()["kind"], "APIGroupDiscoveryList");
    let tag = aggregated.headers["etag"].to_str().unwrap().to_owned();
    let again = test
        .send(
            "GET",
            "/apis",
            &[
                ("accept", "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"),
                ("if-none-match", &tag),
            ],
            "",
        )
        .await;
    assert_eq!(again.code, 304);
    let index = test.get("/openapi/v3").await;
    let url = index["paths"]["apis/apps/v1"]["serverRelativeURL"].as_str().unwrap().to_owned();
    let document = test.get(&url).await;
    assert!(document["components"]["schemas"].get("io.k8s.api.apps.v1.Deployment").is_some());
    assert!(test.get("/openapi/v2").await["definitions"].get("io.k8s.api.core.v1.Pod").is_some());
    for path in ["/healthz", "/livez", "/readyz"] {
        assert_eq!(test.send("GET", path, &[], "").await.bytes, b"ok");
    }
    assert!(
        String::from_utf8(test.send("GET", "/readyz?verbose", &[], "").await.bytes)
            .unwrap()
            .ends_with("readyz check passed\n")
    );
    assert_eq!(test.send("GET", "/nothing", &[], "").await.bytes, b"404 page not found\n");
}
