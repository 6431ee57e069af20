//! Field selectors: `spec.nodeName=a,status.phase!=Running`. The grammar and the words of errors are upstream's
//! (`apimachinery/pkg/fields` and the field label conversions of each kind).

use std::fmt;

use crate::object::Meta;
use crate::quote::quote;
use crate::resource::Resource;

/// A conjunction of terms; empty selects everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector {
    terms: Vec<Term>,
}

/// A field that must have, or not have, a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Term {
    /// Which field.
    pub key: Key,
    /// Whether it must have the value or must not.
    pub operator: Operator,
    /// The value.
    pub value: Box<str>,
    /// The label the client wrote.
    label: Box<str>,
}

/// A field that can be selected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// `metadata.name`.
    Name,
    /// `metadata.namespace`.
    Namespace,
    /// An index into `Resource::fields` and `Meta::fields`.
    Field(usize),
}

/// How a field and a value are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    /// `=` and `==`.
    Equal,
    /// `!=`.
    NotEqual,
}

/// A field selector that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FieldError {
    /// A term has no operator.
    #[error("invalid selector: '{selector}'; can't understand '{term}'")]
    Term {
        /// The whole selector.
        selector: String,
        /// The term.
        term: String,
    },
    /// A backslash stands before something that needs none.
    #[error("invalid field selector: invalid escape sequence: {0}")]
    Escape(String),
    /// A comma or equals sign in a value needs a backslash. Upstream prints its code.
    #[error("invalid field selector: unescaped character in value: {}", u32::from(*.0))]
    Unescaped(char),
    /// The kind can only be selected by metadata.
    #[error("{} is not a known field selector: only \"metadata.name\", \"metadata.namespace\"", quote(.0))]
    Unknown(String),
    /// The kind has selectable fields, but not this one.
    #[error("field label not supported: {0}")]
    Unsupported(String),
}

impl Selector {
    /// Reads a selector for objects of a resource.
    ///
    /// # Errors
    /// With upstream's words; a client gets them in a 400.
    pub fn parse(text: &str, resource: &Resource) -> Result<Self, FieldError> {
        let mut parts = split_terms(text);
        parts.sort_unstable();
        let parts = parts.into_iter().filter(|part| !part.is_empty());
        // As upstream: what cannot be read is told before what is not supported.
        let read = parts.map(|part| split_term(part, text)).collect::<Result<Vec<_>, _>>()?;
        let known = |(label, operator, value): (&str, _, String)| {
            Ok(Term { key: key(label, resource)?, operator, value: value.into(), label: label.into() })
        };
        Ok(Self { terms: read.into_iter().map(known).collect::<Result<_, _>>()? })
    }

    /// Whether it selects everything.
    pub fn is_empty(&self) -> bool {
        self.terms.is_empty()
    }

    /// The terms, all of which must hold.
    pub fn terms(&self) -> &[Term] {
        &self.terms
    }

    /// Whether an object is selected. `meta` must have been read under the same resource.
    pub fn matches(&self, meta: &Meta) -> bool {
        self.terms.iter().all(|term| {
            let value = match term.key {
                Key::Name => &*meta.name,
                Key::Namespace => &*meta.namespace,
                Key::Field(index) => meta.fields.get(index).map_or("", |value| value),
            };
            (value == &*term.value) == (term.operator == Operator::Equal)
        })
    }

    /// The one value a field must have, if there is one: lists use it to look up instead of filter.
    pub fn required(&self, key: Key) -> Option<&str> {
        let term = self.terms.iter().find(|term| term.key == key && term.operator == Operator::Equal)?;
        Some(&term.value)
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, term) in self.terms.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            let operator = if term.operator == Operator::Equal { "=" } else { "!=" };
            write!(f, "{comma}{}{operator}{}", term.label, escape(&term.value))?;
        }
        Ok(())
    }
}

/// The value as it can stand in a selector.
pub fn escape(value: &str) -> String {
    value.replace('\\', "\\\\").replace(',', "\\,").replace('=', "\\=")
}

/// The label, operator and value of a term.
fn split_term<'a>(part: &'a str, selector: &str) -> Result<(&'a str, Operator, String), FieldError> {
    let at = part.find("!=").into_iter().chain(part.find('=')).min();
    let Some((label, rest)) = at.map(|at| part.split_at(at)) else {
        return Err(FieldError::Term { selector: selector.to_owned(), term: part.to_owned() });
    };
    let (operator, value) = match rest.strip_prefix("!=") {
        Some(value) => (Operator::NotEqual, value),
        None => (Operator::Equal, rest.strip_prefix("==").unwrap_or(&rest[1..])),
    };
    Ok((label, operator, unescape(value)?))
}

fn key(label: &str, resource: &Resource) -> Result<Key, FieldError> {
    let has_fields = !resource.labels.is_empty();
    match label {
        "metadata.name" => Ok(Key::Name),
        "metadata.namespace" if resource.namespaced || !has_fields => Ok(Key::Namespace),
        _ => {
            let known = resource.labels.iter().find(|(known, _)| known == label);
            known.map(|(_, index)| Key::Field(*index)).ok_or_else(|| match has_fields {
                true => FieldError::Unsupported(label.to_owned()),
                false => FieldError::Unknown(label.to_owned()),
            })
        }
    }
}

/// Splits at commas without a backslash.
fn split_terms(text: &str) -> Vec<&str> {
    let mut escaped = false;
    text.split(|c| {
        let comma = c == ',' && !escaped;
        escaped = c == '\\' && !escaped;
        comma
    })
    .collect()
}

fn unescape(value: &str) -> Result<String, FieldError> {
    let mut plain = String::with_capacity(value.len());
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(next @ ('\\' | ',' | '=')) => plain.push(next),
                next => return Err(FieldError::Escape(['\\'].into_iter().chain(next).collect())),
            },
            ',' | '=' => return Err(FieldError::Unescaped(c)),
            c => plain.push(c),
        }
    }
    Ok(plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::Catalog;

    fn resource(group: &str, plural: &str) -> &'static Resource {
        Catalog::builtin().find(group, "v1", plural).unwrap()
    }

    fn check(text: &str, expected: Result<&str, &str>) {
        let parsed = Selector::parse(text, resource("", "pods"));
        let shown = parsed.map(|s| s.to_string()).map_err(|e| e.to_string());
        assert_eq!(shown, expected.map(str::to_owned).map_err(str::to_owned), "{text}");
    }

    #[test]
    fn terms_are_read_as_upstream_reads_them() {
        check("", Ok(""));
        check(",spec.nodeName==a,,metadata.name!=b,", Ok("metadata.name!=b,spec.nodeName=a"));
        check("spec.nodeName=a\\,b\\=c\\\\", Ok("spec.nodeName=a\\,b\\=c\\\\"));
        check("spec.nodeName=", Ok("spec.nodeName="));
        check("spec.host=a", Ok("spec.host=a"));
        check("a", Err("invalid selector: 'a'; can't understand 'a'"));
        check("spec.nodeName=a=b", Err("invalid field selector: unescaped character in value: 61"));
        check("spec.nodeName=a\\b", Err("invalid field selector: invalid escape sequence: \\b"));
        check("spec.nodeName=a\\", Err("invalid field selector: invalid escape sequence: \\"));
        check("foo=a", Err("field label not supported: foo"));
        check("=a", Err("field label not supported: "));
        check("foo=a,x", Err("invalid selector: 'foo=a,x'; can't understand 'x'"));
    }

    #[test]
    fn each_kind_has_its_own_fields() {
        let error = |group, plural, text| {
            Selector::parse(text, resource(group, plural)).map_err(|e| e.to_string()).unwrap_err()
        };
        let unknown = "\"foo\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\"";
        assert_eq!(error("", "configmaps", "foo=a"), unknown);
        assert_eq!(
            error("", "nodes", "metadata.namespace=a"),
            "field label not supported: metadata.namespace"
        );
        assert_eq!(
            error("events.k8s.io", "events", "involvedObject.kind=Pod"),
            "field label not supported: involvedObject.kind"
        );
        assert!(Selector::parse("regarding.kind=Pod", resource("events.k8s.io", "events")).is_ok());
    }

    #[test]
    fn objects_are_selected_by_the_values_read_from_their_bytes() {
        let pods = resource("", "pods");
        let pod = br#"{"metadata":{"name":"a","namespace":"b"},"spec":{"nodeName":"n"},"status":{"phase":"Running"}}"#;
        let meta = Meta::parse(pod, pods).unwrap();
        let check = |text: &str, expected| {
            assert_eq!(Selector::parse(text, pods).unwrap().matches(&meta), expected, "{text}");
        };
        check("", true);
        check("metadata.name=a,metadata.namespace=b,spec.host=n", true);
        check("spec.nodeName=n,status.phase!=Running", false);
        check("spec.nodeName=", false);
        check("spec.hostNetwork=false,status.podIP=,status.podIP!=1", true);
        let selector = Selector::parse("metadata.name=a,spec.nodeName!=x", pods).unwrap();
        assert_eq!((selector.required(Key::Name), selector.required(Key::Namespace)), (Some("a"), None));
    }
}
