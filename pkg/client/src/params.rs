//! What can be said about a list, a watch, a patch and a deletion.

use std::fmt::Write as _;

use serde_json::{Value, json};

/// Which objects to list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListQuery {
    /// `app=web,tier!=db`.
    pub labels: String,
    /// `spec.nodeName=edge-1`.
    pub fields: String,
    /// A page's size; the whole list when 0.
    pub limit: u32,
}

/// Which changes to watch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WatchQuery {
    /// As [`ListQuery::labels`].
    pub labels: String,
    /// As [`ListQuery::fields`].
    pub fields: String,
    /// The revision after which to begin; with `initial` the earliest that the objects may show.
    pub resource_version: String,
    /// Whether all objects come first, ended by a bookmark (KEP-3157).
    pub initial: bool,
}

/// How to change an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Patch {
    /// RFC 6902.
    Json(Value),
    /// RFC 7386.
    Merge(Value),
    /// Kubernetes' own, which knows lists with keys.
    Strategic(Value),
}

impl Patch {
    pub(crate) fn parts(&self) -> (&'static str, &Value) {
        match self {
            Self::Json(value) => ("application/json-patch+json", value),
            Self::Merge(value) => ("application/merge-patch+json", value),
            Self::Strategic(value) => ("application/strategic-merge-patch+json", value),
        }
    }
}

/// What becomes of the objects that a deleted one owns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Propagation {
    /// They are deleted afterwards.
    Background,
    /// They are deleted before it.
    Foreground,
    /// They stay.
    Orphan,
}

/// How to delete.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Delete {
    /// Seconds; the object's own when `None`.
    pub grace_period: Option<u32>,
    /// Upstream's default for the kind when `None`.
    pub propagation: Option<Propagation>,
    /// Only if the object has this uid.
    pub uid: Option<String>,
    /// Only if the object has this revision.
    pub resource_version: Option<String>,
}

impl Delete {
    /// At once, if it is still this object.
    pub fn now(uid: &str) -> Self {
        Self { grace_period: Some(0), uid: Some(uid.to_owned()), ..Self::default() }
    }

    pub(crate) fn body(&self) -> Value {
        let mut body = json!({"apiVersion": "v1", "kind": "DeleteOptions"});
        if let Some(seconds) = self.grace_period {
            body["gracePeriodSeconds"] = json!(seconds);
        }
        if let Some(propagation) = self.propagation {
            body["propagationPolicy"] = json!(format!("{propagation:?}"));
        }
        for (name, value) in [("uid", &self.uid), ("resourceVersion", &self.resource_version)] {
            if let Some(value) = value {
                body["preconditions"][name] = json!(value);
            }
        }
        body
    }
}

/// `?a=b&c=d` of the pairs whose value is not empty, percent-encoded.
pub(crate) fn query(pairs: &[(&str, &str)]) -> String {
    let mut out = String::new();
    for (name, value) in pairs.iter().filter(|(_, value)| !value.is_empty()) {
        out.push(if out.is_empty() { '?' } else { '&' });
        out.push_str(name);
        out.push('=');
        for byte in value.bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(byte.into()),
                _ => {
                    // Writing to a String cannot fail.
                    let _ = write!(out, "%{byte:02X}");
                }
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_percent_encoded_without_what_is_empty() {
        assert_eq!(query(&[("labelSelector", "a=b,c"), ("limit", "")]), "?labelSelector=a%3Db%2Cc");
        assert_eq!(query(&[("limit", "")]), "");
    }
}
