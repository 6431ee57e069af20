//! What printers read of an object, and how they word it.

use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use crate::object::{get, items, number, text};
use crate::selector::label::Selector;
use crate::time;

/// The cells of a row.
pub(super) type Cells = Vec<Value>;

/// An object that is shown at some moment.
pub(super) struct Object<'a> {
    value: &'a Value,
    now: SystemTime,
}

impl<'a> Object<'a> {
    pub(super) fn new(value: &'a Value, now: SystemTime) -> Self {
        Self { value, now }
    }

    pub(super) fn get(&self, path: &str) -> Option<&'a Value> {
        get(self.value, path)
    }

    pub(super) fn text(&self, path: &str) -> &'a str {
        text(self.value, path)
    }

    /// The text at a path, or what stands for nothing.
    pub(super) fn text_or(&self, path: &str, nothing: &'a str) -> &'a str {
        Some(self.text(path)).filter(|text| !text.is_empty()).unwrap_or(nothing)
    }

    /// The number at a path, or 0.
    pub(super) fn number(&self, path: &str) -> i64 {
        number(self.value, path).unwrap_or_default()
    }

    pub(super) fn flag(&self, path: &str) -> bool {
        self.flag_or(path, false)
    }

    pub(super) fn flag_or(&self, path: &str, nothing: bool) -> bool {
        self.get(path).and_then(Value::as_bool).unwrap_or(nothing)
    }

    pub(super) fn items(&self, path: &str) -> &'a [Value] {
        items(self.value, path)
    }

    /// The texts of a list.
    pub(super) fn texts(&self, path: &str) -> impl Iterator<Item = &'a str> + use<'a> {
        self.items(path).iter().filter_map(Value::as_str)
    }

    /// How many entries a map or items a list has.
    pub(super) fn count(&self, path: &str) -> usize {
        match self.get(path) {
            Some(Value::Object(entries)) => entries.len(),
            Some(Value::Array(items)) => items.len(),
            _ => 0,
        }
    }

    pub(super) fn name(&self) -> Value {
        json!(self.text("metadata.name"))
    }

    /// The number at a path as a cell.
    pub(super) fn cell(&self, path: &str) -> Value {
        json!(self.number(path))
    }

    pub(super) fn is_deleting(&self) -> bool {
        self.get("metadata.deletionTimestamp").is_some()
    }

    /// How old the object is.
    pub(super) fn age(&self) -> Value {
        json!(self.since("metadata.creationTimestamp"))
    }

    /// How long ago the time at a path was.
    pub(super) fn since(&self, path: &str) -> String {
        self.ago(time::parse(self.text(path)))
    }

    pub(super) fn ago(&self, time: Option<SystemTime>) -> String {
        time.map_or_else(|| "<unknown>".to_owned(), |time| human_between(time, self.now))
    }

    /// The condition of that type.
    pub(super) fn condition(&self, path: &str, kind: &str) -> Option<&'a Value> {
        self.items(path).iter().find(|condition| text(condition, "type") == kind)
    }

    /// Whether the condition of that type is true.
    pub(super) fn is_true(&self, kind: &str) -> bool {
        self.condition("status.conditions", kind).is_some_and(|c| text(c, "status") == "True")
    }

    /// The names and images of a list of containers.
    pub(super) fn containers(&self, path: &str) -> [Value; 2] {
        let join =
            |field: &str| json!(joined(self.items(path).iter().map(|container| text(container, field))));
        [join("name"), join("image")]
    }

    /// A map of labels.
    pub(super) fn labels(&self, path: &str) -> Value {
        let entries = self.get(path).and_then(Value::as_object).into_iter().flatten();
        let shown = entries.map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()));
        json!(or(joined(shown), "<none>"))
    }

    /// A `LabelSelector`.
    pub(super) fn selector(&self, path: &str) -> Value {
        match self.selector_text(path) {
            Some(text) => json!(or(text, "<none>")),
            None => json!("<error>"),
        }
    }

    pub(super) fn selector_text(&self, path: &str) -> Option<String> {
        let selector = Selector::from_object(self.get(path).unwrap_or(&Value::Null));
        selector.ok().map(|selector| selector.to_string())
    }
}

/// Texts joined by commas.
pub(super) fn joined<T: AsRef<str>>(texts: impl Iterator<Item = T>) -> String {
    let mut joined = String::new();
    for (index, text) in texts.enumerate() {
        if index > 0 {
            joined.push(',');
        }
        joined.push_str(text.as_ref());
    }
    joined
}

/// The text, or what stands for nothing.
pub(super) fn or(text: String, nothing: &str) -> String {
    if text.is_empty() { nothing.to_owned() } else { text }
}

/// The first three of a list of `count` texts, and how many more there are.
pub(super) fn first_three(texts: &[String], nothing: &str) -> String {
    match texts {
        [] => nothing.to_owned(),
        [a, b, c, _, ..] => format!("{a},{b},{c} + {} more...", texts.len() - 3),
        few => few.join(","),
    }
}

/// The time between two moments, for people: `5m`, `2d3h`.
pub(super) fn human_between(from: SystemTime, to: SystemTime) -> String {
    match to.duration_since(from) {
        Ok(elapsed) => human(elapsed),
        // Clocks may differ a little.
        Err(early) if early.duration() < Duration::from_secs(2) => "0s".to_owned(),
        Err(_) => "<invalid>".to_owned(),
    }
}

/// A duration in two or three figures, as upstream's `duration.HumanDuration`.
pub(super) fn human(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    let (days, years) = (hours / 24, hours / 24 / 365);
    let pair = |large: u64, unit: &str, small: u64, subunit: &str| match small {
        0 => format!("{large}{unit}"),
        _ => format!("{large}{unit}{small}{subunit}"),
    };
    match hours {
        _ if seconds < 120 => format!("{seconds}s"),
        _ if minutes < 10 => pair(minutes, "m", seconds % 60, "s"),
        _ if minutes < 180 => format!("{minutes}m"),
        ..8 => pair(hours, "h", minutes % 60, "m"),
        8..48 => format!("{hours}h"),
        48..192 => pair(days, "d", hours % 24, "h"),
        192..17_520 => format!("{days}d"),
        17_520..70_080 => pair(years, "y", days % 365, "d"),
        _ => format!("{years}y"),
    }
}
