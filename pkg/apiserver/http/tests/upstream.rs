//! Bad requests are answered as upstream answers them: with the code, reason, message, details and warnings that
//! kube-apiserver v1.37.0 gave to the same requests. The requests and answers are the file `upstream/cases.txt`, which
//! describes its format.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use serde_json::{Map, Value, json};
use support::{Answer, Test};

const CASES: &str = include_str!("upstream/cases.txt");

/// How much an answer is like upstream's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Likeness {
    /// In nothing that matters.
    None,
    /// Code and reason are equal.
    Reason,
    /// All is equal.
    Full,
}

impl Likeness {
    fn of(answer: &(u64, Value, Value), expected: &(u64, Value, Value)) -> Self {
        if answer == expected {
            return Self::Full;
        }
        let reason = (answer.0, &answer.1["reason"]) == (expected.0, &expected.1["reason"]);
        if reason { Self::Reason } else { Self::None }
    }
}

/// One line of the file.
struct Case {
    likeness: Likeness,
    method: String,
    path: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    /// Code, status and warnings.
    expected: (u64, Value, Value),
}

impl Case {
    fn parse(line: &str) -> Self {
        let (likeness, line) = match line.split_once(' ') {
            Some(("?", line)) => (Likeness::None, line),
            Some(("~", line)) => (Likeness::Reason, line),
            _ => (Likeness::Full, line),
        };
        let fields: Vec<Value> = serde_json::from_str(line).unwrap();
        let text = |value: &Value| long(value.as_str().unwrap());
        let mut headers: Vec<(String, String)> = match &fields[2] {
            Value::String(media_type) => vec![("content-type".into(), media_type.clone())],
            headers => {
                headers.as_object().unwrap().iter().map(|(name, value)| (name.clone(), text(value))).collect()
            }
        };
        if headers.iter().all(|(name, _)| name != "accept") {
            headers.push(("accept".into(), "application/json".into()));
        }
        Self {
            likeness,
            method: text(&fields[0]),
            path: text(&fields[1]),
            headers,
            body: fields[3].as_str().map(body).unwrap_or_default(),
            expected: (
                fields[4].as_u64().unwrap(),
                fields[5].clone(),
                fields.get(6).cloned().unwrap_or(json!([])),
            ),
        }
    }

    async fn send(&self, test: &Test) -> (u64, Value, Value) {
        let headers: Vec<_> = self.headers.iter().map(|(name, value)| (&**name, &**value)).collect();
        let answer = test.send(&self.method, &self.path, &headers, self.body.clone()).await;
        let warnings: Vec<String> = answer.warnings().into_iter().map(short).collect();
        (answer.code.as_u16().into(), shown(&answer), json!(warnings))
    }
}

/// What the file holds of an answer's body.
fn shown(answer: &Answer) -> Value {
    match answer.json() {
        Value::Object(mut status) if status.get("kind") == Some(&json!("Status")) => {
            let mut kept = Map::new();
            for field in ["reason", "message", "details"] {
                if let Some(mut value) = status.remove(field) {
                    if let Some(causes) = value.get_mut("causes") {
                        *causes = summary(causes).into();
                    }
                    kept.insert(field.to_owned(), value);
                }
            }
            if status["status"] != "Failure" {
                kept.insert("status".to_owned(), status["status"].clone());
            }
            serde_json::from_str(&short(&Value::Object(kept).to_string())).unwrap()
        }
        Value::String(text) => short(&text).into(),
        _ => Value::Null,
    }
}

/// Field and reason of each cause: the message of the status holds the rest.
fn summary(causes: &Value) -> String {
    let text = |cause: &Value, field: &str| cause[field].as_str().unwrap_or_default().to_owned();
    let causes = causes.as_array().unwrap().iter();
    causes.map(|cause| text(cause, "field") + ":" + &text(cause, "reason")).collect::<Vec<_>>().join(" ")
}

/// Spells `<x*70>` out: seventy times `x`.
fn long(text: &str) -> String {
    let mut parts = text.split("<x*");
    let mut spelled = parts.next().unwrap().to_owned();
    for part in parts {
        let (count, rest) = part.split_once('>').unwrap();
        spelled.push_str(&"x".repeat(count.parse().unwrap()));
        spelled.push_str(rest);
    }
    spelled
}

/// The opposite, for sixty and more.
fn short(text: &str) -> String {
    let mut shortened = String::new();
    let mut rest = text;
    while let Some(start) = rest.find(&"x".repeat(60)) {
        let count = rest[start..].bytes().take_while(|byte| *byte == b'x').count();
        shortened.push_str(&format!("{}<x*{count}>", &rest[..start]));
        rest = &rest[start + count..];
    }
    shortened + rest
}

fn body(text: &str) -> Vec<u8> {
    let (word, argument) = text.split_once(' ').unwrap_or_default();
    let count = || argument.parse::<usize>().unwrap();
    match word {
        "@pad" => vec![b' '; count()],
        "@hex" => (0..argument.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&argument[at..at + 2], 16).unwrap())
            .collect(),
        "@deep" => {
            let (open, close) = ("[".repeat(count()), "]".repeat(count()));
            format!(r#"{{"metadata":{{"name":"m"}},"data":{open}{close}}}"#).into_bytes()
        }
        "@ops" => {
            let operation = r#"{"op":"test","path":"/kind","value":"ConfigMap"}"#;
            format!("[{}]", vec![operation; count()].join(",")).into_bytes()
        }
        _ => long(text).into_bytes(),
    }
}

#[tokio::test]
async fn bad_requests_are_answered_as_upstream_answers_them() {
    let test = Test::start().await;
    let mut wrong = Vec::new();
    for (number, line) in (1..).zip(CASES.lines()).filter(|(_, line)| line.starts_with(['[', '?', '~'])) {
        let case = Case::parse(line);
        let answer = case.send(&test).await;
        assert_ne!(answer.0, 500, "line {number}: {line}");
        let likeness = Likeness::of(&answer, &case.expected);
        if likeness != case.likeness {
            let what = format!("is {likeness:?}, should be {:?}", case.likeness);
            wrong.push(format!("line {number} {what}: {line}\n  answered {answer:?}"));
        }
    }
    assert!(wrong.is_empty(), "{} cases\n{}", wrong.len(), wrong.join("\n"));
}
