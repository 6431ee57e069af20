//! `kill -9` of edgek at random moments under parallel writers.
//!
//! After each restart every acknowledged write is there with its content, and so is everything that a watch has shown;
//! revisions never go back; a watch that goes on from before the kill is told to list again, or gets everything.

use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::io::Write as _;
use std::process::Command;
use std::thread;
use std::time::Duration;

use edgek_tests::api::{Connection, Server};
use edgek_tests::{Host, pause};
use hyper::{Method, StatusCode};
use serde_json::{Value, json};

const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";
const WRITERS: usize = 4;
/// The objects of one writer.
const SLOTS: u64 = 16;

#[test]
fn nothing_acknowledged_is_lost_by_killing_the_control_plane_200_times() {
    kill_repeatedly(200, &["--disable=node"]);
}

#[test]
fn nothing_acknowledged_is_lost_by_killing_a_whole_node_10_times() {
    kill_repeatedly(10, &[]);
}

fn kill_repeatedly(rounds: usize, flags: &[&str]) {
    let mut host = Host::new();
    let mut writers: Vec<Writer> = (0..WRITERS).map(Writer::new).collect();
    let mut known = Known::default();
    for round in 1..=rounds {
        // Every fifth kill meets a server that starts.
        if round % 5 == 0 {
            host.launch(flags);
            pause(random(Duration::from_millis(100)));
            host.kill_server();
        } else {
            live(&mut host, flags, &mut writers, &mut known);
        }
        if round % 20 == 0 {
            // Straight to the terminal: it takes a minute.
            let _ = writeln!(std::io::stderr(), "{round} of {rounds} kills, {} writes kept", known.writes);
        }
    }
    assert!(known.writes > rounds, "too few writes to mean anything: {}", known.writes);
    let database = host.data_dir().join("server/db/state.db");
    let check = Command::new("sqlite3").arg(database).arg("PRAGMA integrity_check").output();
    assert_eq!(String::from_utf8_lossy(&check.expect("sqlite3").stdout), "ok\n");
    host.serve(flags);
    assert_eq!(host.stop_server(), Some(0));
}

/// What the lives of the server so far have shown.
#[derive(Default)]
struct Known {
    /// The highest revision of any answer.
    revision: u64,
    /// Where a watch stopped.
    watched: Option<u64>,
    writes: usize,
}

/// One life of the server: what it kept, then more writes, until it is killed.
fn live(host: &mut Host, flags: &[&str], writers: &mut [Writer], known: &mut Known) {
    let (api, mut connection) = host.serve(flags);
    let state = State::read(&mut connection);
    assert!(
        state.revision >= known.revision,
        "the list went back from {} to {}",
        known.revision,
        state.revision
    );
    for slot in writers.iter_mut().flat_map(|writer| &mut writer.slots) {
        slot.verify(&state);
    }
    if let Some(revision) = known.watched {
        resume(connection, revision, &state);
    }
    let floor = state.revision;
    let (events, written) = thread::scope(|threads| {
        let watching = spawn(threads, || watch(&api, floor));
        let writing: Vec<_> = writers.iter_mut().map(|w| spawn(threads, || w.write(&api, floor))).collect();
        pause(random(Duration::from_millis(250)));
        // The threads end because their connections break.
        host.kill_server();
        let written: Vec<u64> = writing.into_iter().flat_map(|w| w.join().expect("a writer")).collect();
        (watching.join().expect("the watch"), written)
    });
    let last = events.last().map_or(floor, |event| event.revision);
    for revision in written.iter().filter(|revision| **revision <= last) {
        assert!(events.iter().any(|event| event.revision == *revision), "the watch missed {revision}");
    }
    for slot in writers.iter_mut().flat_map(|writer| &mut writer.slots) {
        slot.learn(&events);
    }
    known.watched = Some(last);
    known.writes += written.len();
    known.revision = written.into_iter().chain([floor, last]).max().unwrap_or_default();
}

fn spawn<'scope, T: Send + 'scope>(
    threads: &'scope thread::Scope<'scope, '_>,
    work: impl FnOnce() -> T + Send + 'scope,
) -> thread::ScopedJoinHandle<'scope, T> {
    thread::Builder::new().name("client".to_owned()).spawn_scoped(threads, work).expect("a thread")
}

fn random(below: Duration) -> Duration {
    let number = RandomState::new().build_hasher().finish();
    Duration::from_micros(number % u64::try_from(below.as_micros()).expect("a short time"))
}

/// An object as an answer shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Content {
    revision: u64,
    text: String,
}

fn revision(object: &Value) -> u64 {
    let text = object["metadata"]["resourceVersion"].as_str().unwrap_or_default();
    text.parse().unwrap_or_else(|_| panic!("no revision in {object}"))
}

fn name(object: &Value) -> String {
    object["metadata"]["name"].as_str().expect("a name").to_owned()
}

fn content(object: &Value) -> Content {
    let text = object["data"]["text"].as_str().unwrap_or_default().to_owned();
    Content { revision: revision(object), text }
}

/// What a list shows.
struct State {
    revision: u64,
    objects: BTreeMap<String, Content>,
}

impl State {
    fn read(connection: &mut Connection) -> Self {
        let (status, list) = connection.call(Method::GET, CONFIG_MAPS, &Value::Null).expect("the list");
        assert_eq!(status, StatusCode::OK, "{list}");
        let revision = revision(&list);
        let items = list["items"].as_array().expect("items");
        let objects: BTreeMap<_, _> = items.iter().map(|item| (name(item), content(item))).collect();
        for (name, object) in &objects {
            assert!(object.revision <= revision, "{name} is newer than its list: {object:?}, {revision}");
        }
        Self { revision, objects }
    }
}

/// An event of a watch.
struct Event {
    name: String,
    revision: u64,
    /// None for a deletion.
    content: Option<Content>,
}

impl Event {
    fn of(event: &Value) -> Self {
        let object = &event["object"];
        let content = (event["type"] != "DELETED").then(|| content(object));
        Self { name: name(object), revision: revision(object), content }
    }
}

fn watch_path(revision: u64) -> String {
    format!("{CONFIG_MAPS}?watch=true&resourceVersion={revision}")
}

/// Watches from `floor` until the server ends.
fn watch(api: &Server, floor: u64) -> Vec<Event> {
    // The server may be killed before it answers.
    let watch = api.connect().and_then(|connection| connection.watch(&watch_path(floor)));
    let Ok(watch) = watch else { return Vec::new() };
    let events: Vec<Event> = watch.map(|event| Event::of(&event)).collect();
    let mut last = floor;
    for event in &events {
        assert!(event.revision > last, "the watch went back from {last} to {}", event.revision);
        last = event.revision;
    }
    events
}

/// A watch from before the kill is told to list again, or gets what happened since.
fn resume(connection: Connection, from: u64, state: &State) {
    let mut missed: Vec<&String> =
        state.objects.iter().filter(|(_, object)| object.revision > from).map(|(name, _)| name).collect();
    let watch = connection.watch(&watch_path(from)).expect("a watch");
    if watch.status == StatusCode::GONE || missed.is_empty() {
        return;
    }
    for event in watch {
        if event["type"] == "ERROR" {
            assert_eq!(event["object"]["code"], 410, "{event}");
            return;
        }
        let name = name(&event["object"]);
        missed.retain(|missed| **missed != name);
        if missed.is_empty() {
            return;
        }
    }
    panic!("the watch from {from} ended without {missed:?}");
}

/// Writes objects of its own, one after the other.
struct Writer {
    slots: Vec<Slot>,
    turn: u64,
}

/// One object: what was acknowledged, and what was asked for when the server was killed.
struct Slot {
    name: String,
    acknowledged: Option<Content>,
    attempted: Option<Attempt>,
}

#[derive(Debug)]
enum Attempt {
    Put(String),
    Delete,
}

impl Writer {
    fn new(number: usize) -> Self {
        let slot = |n| Slot { name: format!("kept-{number}-{n}"), acknowledged: None, attempted: None };
        Self { slots: (0..SLOTS).map(slot).collect(), turn: 0 }
    }

    /// Writes until the server ends; returns the revisions of what it created and updated.
    fn write(&mut self, api: &Server, floor: u64) -> Vec<u64> {
        let mut written = Vec::new();
        let mut last = floor;
        let Ok(mut connection) = api.connect() else { return written };
        loop {
            self.turn += 1;
            let slot = &mut self.slots[usize::try_from(self.turn % SLOTS).expect("few slots")];
            match slot.write(&mut connection, self.turn) {
                None => return written,
                Some(None) => {}
                Some(Some(revision)) => {
                    assert!(revision > last, "the answers went back from {last} to {revision}");
                    last = revision;
                    written.push(revision);
                }
            }
        }
    }
}

impl Slot {
    /// Creates, updates or deletes the object: its revision, if it then has one. None when no answer came.
    fn write(&mut self, connection: &mut Connection, turn: u64) -> Option<Option<u64>> {
        let path = format!("{CONFIG_MAPS}/{}", self.name);
        let text = turn.to_string();
        let body = |revision: Option<u64>| {
            let revision = revision.map(|revision| revision.to_string());
            let metadata = json!({"name": self.name, "resourceVersion": revision});
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"text": text, "padding": "x".repeat(1000)}})
        };
        let (method, path, body, attempt) = match &self.acknowledged {
            None => (Method::POST, CONFIG_MAPS.to_owned(), body(None), Attempt::Put(text)),
            Some(_) if turn.is_multiple_of(5) => (Method::DELETE, path, Value::Null, Attempt::Delete),
            Some(there) => (Method::PUT, path, body(Some(there.revision)), Attempt::Put(text)),
        };
        let deletes = matches!(attempt, Attempt::Delete);
        self.attempted = Some(attempt);
        let (status, answer) = connection.call(method, &path, &body).ok()?;
        assert!(status.is_success(), "{path}: {answer}");
        self.attempted = None;
        self.acknowledged = (!deletes).then(|| content(&answer));
        Some(self.acknowledged.as_ref().map(|there| there.revision))
    }

    /// What a watch has shown counts as acknowledged.
    fn learn(&mut self, events: &[Event]) {
        let Some(event) = events.iter().rfind(|event| event.name == self.name) else { return };
        let shown = match (&self.attempted, &event.content) {
            (Some(Attempt::Put(text)), Some(content)) => content.text == *text,
            (Some(Attempt::Delete), None) => {
                self.acknowledged.as_ref().is_some_and(|there| there.revision < event.revision)
            }
            _ => false,
        };
        if shown {
            self.acknowledged = event.content.clone();
            self.attempted = None;
        }
    }

    /// The object is as it was acknowledged, or as the attempt without an answer would have made it.
    fn verify(&mut self, state: &State) {
        let there = state.objects.get(&self.name);
        if there != self.acknowledged.as_ref() {
            let attempted = match (&self.attempted, there) {
                (Some(Attempt::Put(text)), Some(there)) => {
                    there.text == *text
                        && self.acknowledged.as_ref().is_none_or(|known| known.revision < there.revision)
                }
                (Some(Attempt::Delete), None) => true,
                _ => false,
            };
            assert!(
                attempted,
                "{}: acknowledged {:?}, attempted {:?}, found {there:?}",
                self.name, self.acknowledged, self.attempted
            );
        }
        self.acknowledged = there.cloned();
        self.attempted = None;
    }
}
