//! Good requests are answered as upstream answers them: defaults, what becomes of status and generation, tables, pages
//! and deletions are those that kube-apiserver v1.37.0 gave to the same requests. The requests and answers are the file
//! `upstream/objects.txt`, which describes its format.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value, json};
use support::Test;

const CASES: &str = include_str!("upstream/objects.txt");

/// Subresources whose requests are about the object before them in the path.
const SUBRESOURCES: [&str; 6] = ["status", "scale", "resize", "ephemeralcontainers", "binding", "eviction"];

/// What the file knows after the lines before.
#[derive(Default)]
struct World {
    /// Each object as it was shown last.
    objects: HashMap<String, Value>,
    /// The names that were sent to each collection: tables are compared in their rows.
    names: HashMap<String, HashSet<String>>,
}

impl World {
    /// Sends the request of a line. Gives the answer, and what it should be.
    async fn answer(&mut self, test: &Test, line: &str) -> (Value, Value) {
        let fields: Vec<Value> = serde_json::from_str(line).unwrap();
        let (method, path) = (fields[0].as_str().unwrap(), fields[1].as_str().unwrap());
        let collection = path.split('?').next().unwrap();
        let body = &fields[3];
        let object = object_path(method, collection, body);
        if let (true, Some(name)) = (method == "POST", body["metadata"]["name"].as_str()) {
            self.names.entry(collection.into()).or_default().insert(name.into());
        }
        let media_type = fields[2].as_str().unwrap_or("application/json");
        let header = if method == "GET" { "accept" } else { "content-type" };
        let sent = match body.get("~") {
            Some(changes) => changed(&self.objects[&object], changes),
            None => body.clone(),
        };
        let bytes = if sent.is_null() { String::new() } else { sent.to_string() };
        let answer = test.send(method, path, &[(header, media_type)], bytes).await;
        let shown = answer.json();
        let code = u64::from(answer.code.as_u16());
        let warnings: Vec<String> =
            answer.warnings().into_iter().map(|text| text[7..text.len() - 1].replace("\\\"", "\"")).collect();

        let mut expected = fields[5].clone();
        let is_subresource = SUBRESOURCES.contains(&collection.rsplit('/').next().unwrap());
        let answered = match shown["kind"].as_str().unwrap_or_default() {
            "Status" => masked(&json!({"reason": shown["reason"], "message": shown["message"]})),
            "Table" => self.table(&shown, collection),
            "Scale" => object_of(&shown),
            list if list.ends_with("List") => page(&shown),
            _ => {
                let before = if method == "POST" && !is_subresource {
                    object_of(body)
                } else {
                    self.objects.get(&object).map_or(json!({}), object_of)
                };
                if expected.get("reason").is_none() {
                    expected = changed(&before, &expected);
                }
                if !path.contains("dryRun") && code < 300 {
                    self.objects.insert(object, shown.clone());
                }
                object_of(&shown)
            }
        };
        let expected_warnings = fields.get(6).cloned().unwrap_or(json!([]));
        (json!([code, answered, warnings]), json!([fields[4], expected, expected_warnings]))
    }

    /// The columns and rows of a table.
    fn table(&self, table: &Value, collection: &str) -> Value {
        let columns = table["columnDefinitions"].as_array().unwrap().iter().map(|column| {
            let wide = if column["priority"] == 0 { "" } else { "+" };
            let text = |field: &str| column[field].as_str().unwrap();
            format!("{wide}{} {} {}", text("name"), text("type"), text("format")).trim().to_owned()
        });
        let ours = |row: &&Value| {
            let name = row["cells"][0].as_str().unwrap_or_default();
            self.names.get(collection).is_some_and(|names| names.contains(name))
        };
        let rows = table["rows"].as_array().unwrap().iter().filter(ours).map(|row| {
            let cells = row["cells"].as_array().unwrap().iter();
            Value::Array(cells.map(|cell| if is_age(cell) { json!("<age>") } else { masked(cell) }).collect())
        });
        let mut rows: Vec<Value> = rows.collect();
        rows.sort_by_key(|row| row[0].to_string());
        json!([columns.collect::<Vec<_>>(), rows])
    }
}

/// The path of the object a request is about.
fn object_path(method: &str, path: &str, body: &Value) -> String {
    let (owner, last) = path.rsplit_once('/').unwrap();
    if last == "status" || (SUBRESOURCES.contains(&last) && path.contains("/namespaces/")) {
        return owner.to_owned();
    }
    match method {
        "POST" => format!("{path}/{}", body["metadata"]["name"].as_str().unwrap_or_default()),
        _ => path.to_owned(),
    }
}

/// The names of a list, and whether there are more.
fn page(list: &Value) -> Value {
    let items = list["items"].as_array().unwrap().iter();
    let mut page = json!({"items": items.map(|item| item["metadata"]["name"].clone()).collect::<Vec<_>>()});
    if let Some(remaining) = list["metadata"].get("remainingItemCount") {
        page["remaining"] = remaining.clone();
    }
    if list["metadata"]["continue"].as_str().is_some_and(|token| !token.is_empty()) {
        page["continue"] = true.into();
    }
    page
}

/// An object without what every server makes up for itself.
fn object_of(value: &Value) -> Value {
    let mut object = masked(value);
    let fields = object.as_object_mut().unwrap();
    fields.remove("kind");
    fields.remove("apiVersion");
    if let Some(Value::Object(metadata)) = fields.get_mut("metadata") {
        for field in ["uid", "resourceVersion", "creationTimestamp", "namespace"] {
            metadata.remove(field);
        }
    }
    object
}

/// A value with the words of the file for what differs each time, and without nulls.
fn masked(value: &Value) -> Value {
    match value {
        Value::Object(fields) => fields
            .iter()
            .filter(|(name, value)| !value.is_null() && *name != "managedFields")
            .map(|(name, value)| (name.clone(), masked(value)))
            .collect::<Map<_, _>>()
            .into(),
        Value::Array(items) => items.iter().map(masked).collect(),
        Value::String(text) => mask(text).into(),
        other => other.clone(),
    }
}

/// The forms of the parts of a text that differ each time: `9` is a digit, `x` a hexadecimal one, `*` any letter.
const FORMS: [(&str, &str); 4] = [
    ("xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx", "<uid>"),
    ("9999-99-99T99:99:99Z", "<time>"),
    ("9999-99-99T99:99:99.999999Z", "<time>"),
    ("kube-api-access-*****", "kube-api-access-<r>"),
];

fn mask(text: &str) -> String {
    let mut masked = String::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        match FORMS.iter().find(|(form, _)| has_form(rest.as_bytes(), form.as_bytes())) {
            Some((form, word)) => {
                masked.push_str(word);
                rest = &rest[form.len()..];
            }
            None => {
                masked.push(first);
                rest = &rest[first.len_utf8()..];
            }
        }
    }
    masked
}

fn has_form(text: &[u8], form: &[u8]) -> bool {
    text.len() >= form.len()
        && text.iter().zip(form).all(|(letter, form)| match form {
            b'9' => letter.is_ascii_digit(),
            b'x' => letter.is_ascii_hexdigit(),
            b'*' => letter.is_ascii_alphanumeric(),
            exactly => letter == exactly,
        })
}

/// Whether a cell tells how old something is, such as `5s` or `3m20s`.
fn is_age(cell: &Value) -> bool {
    let text = cell.as_str().unwrap_or_default();
    text.starts_with(|letter: char| letter.is_ascii_digit())
        && text.ends_with(['s', 'm', 'h', 'd'])
        && text.chars().all(|letter| letter.is_ascii_digit() || "smhd".contains(letter))
}

/// A value after changes: pointers and what is there now, null for nothing.
fn changed(value: &Value, changes: &Value) -> Value {
    let mut value = value.clone();
    for (pointer, change) in changes.as_object().unwrap() {
        let (parent, last) = pointer.rsplit_once('/').unwrap();
        let last = last.replace("~1", "/").replace("~0", "~");
        match (value.pointer_mut(parent), change) {
            (Some(Value::Object(fields)), Value::Null) => drop(fields.remove(&last)),
            (Some(Value::Object(fields)), change) => drop(fields.insert(last, change.clone())),
            (Some(Value::Array(items)), change) => items[last.parse::<usize>().unwrap()] = change.clone(),
            // The objects differ already; what was expected says where.
            _ => return changes.clone(),
        }
    }
    value
}

#[tokio::test]
async fn good_requests_are_answered_as_upstream_answers_them() {
    let test = Test::start().await;
    test.create(
        "/apis/scheduling.k8s.io/v1/priorityclasses",
        json!({"metadata": {"name": "system-node-critical"}, "value": 2_000_001_000}),
    )
    .await;
    let mut world = World::default();
    let mut wrong = Vec::new();
    for (number, line) in (1..).zip(CASES.lines()).filter(|(_, line)| line.starts_with(['[', '?'])) {
        let (differs, line) = match line.strip_prefix("? ") {
            Some(line) => (true, line),
            None => (false, line),
        };
        let (answer, expected) = world.answer(&test, line).await;
        if (answer != expected) != differs {
            wrong.push(format!("line {number}: {line}\n  answered {answer}\n  expected {expected}"));
        }
    }
    assert!(wrong.is_empty(), "{} cases\n{}", wrong.len(), wrong.join("\n"));
}
