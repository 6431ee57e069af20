//! What is wrong with the fields of an object, in the words of upstream's `apimachinery/pkg/util/validation/field`. The
//! registry's validation collects these; `status::Status::invalid` tells them to the client.

use std::fmt;

use serde_json::Value;

use crate::quote::{quote, quote_all};

/// A path to a field, built without allocating while everything is valid.
#[derive(Debug, Clone, Copy)]
pub enum Path<'a> {
    /// The name of a top-level field, or a dotted path to one.
    Root(&'a str),
    /// A field of an object.
    Field(&'a Path<'a>, &'a str),
    /// An item of a list.
    Index(&'a Path<'a>, usize),
    /// An entry of a map.
    Key(&'a Path<'a>, &'a str),
}

impl<'a> Path<'a> {
    /// A field, or a dotted path, below this one.
    pub fn field(&'a self, name: &'a str) -> Self {
        Self::Field(self, name)
    }

    /// An item of the list at this path.
    pub fn index(&'a self, index: usize) -> Self {
        Self::Index(self, index)
    }

    /// An entry of the map at this path.
    pub fn key(&'a self, key: &'a str) -> Self {
        Self::Key(self, key)
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root(name) | Self::Field(Path::Root(""), name) => f.write_str(name),
            Self::Field(parent, name) => write!(f, "{parent}.{name}"),
            Self::Index(parent, index) => write!(f, "{parent}[{index}]"),
            Self::Key(parent, key) => write!(f, "{parent}[{key}]"),
        }
    }
}

/// What can be wrong with a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorType {
    /// A reference to nothing.
    NotFound,
    /// A field that must be set.
    Required,
    /// A value that another item has, too.
    Duplicate,
    /// A value that is not acceptable.
    Invalid,
    /// A value that is none of those supported.
    NotSupported,
    /// A field that must not be set or changed.
    Forbidden,
    /// Too many bytes.
    TooLong,
    /// Too many items.
    TooMany,
    /// A value of the wrong type.
    TypeInvalid,
    /// The server's own mistake.
    Internal,
}

impl ErrorType {
    /// The machine-readable reason, which is the type of the cause in a `Status`.
    pub fn reason(self) -> &'static str {
        match self {
            Self::NotFound => "FieldValueNotFound",
            Self::Required => "FieldValueRequired",
            Self::Duplicate => "FieldValueDuplicate",
            Self::Invalid => "FieldValueInvalid",
            Self::NotSupported => "FieldValueNotSupported",
            Self::Forbidden => "FieldValueForbidden",
            Self::TooLong => "FieldValueTooLong",
            Self::TooMany => "FieldValueTooMany",
            Self::TypeInvalid => "FieldValueTypeInvalid",
            Self::Internal => "InternalError",
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::NotFound => "Not found",
            Self::Required => "Required value",
            Self::Duplicate => "Duplicate value",
            Self::Invalid | Self::TypeInvalid => "Invalid value",
            Self::NotSupported => "Unsupported value",
            Self::Forbidden => "Forbidden",
            Self::TooLong => "Too long",
            Self::TooMany => "Too many",
            Self::Internal => "Internal error",
        }
    }
}

/// What is wrong with one field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// What kind of mistake it is.
    pub kind: ErrorType,
    /// The path of the field.
    pub field: String,
    /// What is wrong, without the path.
    pub message: String,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.message)
    }
}

/// What is wrong with an object, in the order it was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ErrorList(pub Vec<Error>);

impl ErrorList {
    /// Whether nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A value that is not acceptable, and why.
    pub fn invalid(&mut self, path: &Path<'_>, value: impl Into<Value>, detail: &str) {
        self.with_value(ErrorType::Invalid, path, &value.into(), detail);
    }

    /// A field whose parts do not go together, and why.
    pub fn invalid_as_a_whole(&mut self, path: &Path<'_>, detail: &str) {
        self.push(ErrorType::Invalid, path, "Invalid value".to_owned(), detail);
    }

    /// One error for each of `details`, about the same value.
    pub fn invalid_all<D: AsRef<str>>(
        &mut self,
        path: &Path<'_>,
        value: &str,
        details: impl IntoIterator<Item = D>,
    ) {
        for detail in details {
            self.invalid(path, value, detail.as_ref());
        }
    }

    /// A value of the wrong type.
    pub fn type_invalid(&mut self, path: &Path<'_>, value: impl Into<Value>, detail: &str) {
        self.with_value(ErrorType::TypeInvalid, path, &value.into(), detail);
    }

    /// A value that another item has, too.
    pub fn duplicate(&mut self, path: &Path<'_>, value: impl Into<Value>) {
        self.with_value(ErrorType::Duplicate, path, &value.into(), "");
    }

    /// A reference to nothing.
    pub fn not_found(&mut self, path: &Path<'_>, value: impl Into<Value>) {
        self.with_value(ErrorType::NotFound, path, &value.into(), "");
    }

    /// A value that is none of the `supported`.
    pub fn not_supported(&mut self, path: &Path<'_>, value: impl Into<Value>, supported: &[&str]) {
        let listed = quote_all(supported);
        let detail = if listed.is_empty() { listed } else { format!("supported values: {listed}") };
        self.with_value(ErrorType::NotSupported, path, &value.into(), &detail);
    }

    /// A field that must be set.
    pub fn required(&mut self, path: &Path<'_>, detail: &str) {
        self.push(ErrorType::Required, path, "Required value".to_owned(), detail);
    }

    /// A field that must not be set or changed.
    pub fn forbidden(&mut self, path: &Path<'_>, detail: &str) {
        self.push(ErrorType::Forbidden, path, "Forbidden".to_owned(), detail);
    }

    /// A value of more than `max` bytes.
    pub fn too_long(&mut self, path: &Path<'_>, max: usize) {
        self.push(
            ErrorType::TooLong,
            path,
            "Too long".to_owned(),
            &format!("may not be more than {max} bytes"),
        );
    }

    /// A list of `count` items where `max` are allowed.
    pub fn too_many(&mut self, path: &Path<'_>, count: usize, max: usize) {
        let items = if max == 1 { "item" } else { "items" };
        self.with_value(ErrorType::TooMany, path, &count.into(), &format!("must have at most {max} {items}"));
    }

    fn with_value(&mut self, kind: ErrorType, path: &Path<'_>, value: &Value, detail: &str) {
        let shown = value.as_str().map_or_else(|| value.to_string(), quote);
        self.push(kind, path, format!("{}: {shown}", kind.as_str()), detail);
    }

    fn push(&mut self, kind: ErrorType, path: &Path<'_>, mut message: String, detail: &str) {
        if !detail.is_empty() {
            message.push_str(": ");
            message.push_str(detail);
        }
        self.0.push(Error { kind, field: path.to_string(), message });
    }
}

impl fmt::Display for ErrorList {
    /// One error as it is, several in brackets without repetitions, as upstream's aggregate.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lines: Vec<String> = Vec::new();
        for line in self.0.iter().map(ToString::to_string) {
            if !lines.contains(&line) {
                lines.push(line);
            }
        }
        match &*lines {
            [one] => f.write_str(one),
            many => write!(f, "[{}]", many.join(", ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn errors_read_as_upstream_writes_them() {
        let mut errors = ErrorList::default();
        let spec = Path::Root("spec");
        let containers = spec.field("containers");
        let first = containers.index(0);
        errors.required(&first.field("image"), "");
        assert_eq!(errors.to_string(), "spec.containers[0].image: Required value");
        errors.invalid(&spec.field("replicas"), -1, "must be greater than or equal to 0");
        errors.invalid(&spec.field("selector"), json!({"a": "b"}), "field is immutable");
        errors.duplicate(&first.field("name"), "w\"eb");
        errors.not_supported(&spec.field("type"), "X", &["A", "B"]);
        errors.forbidden(&Path::Root("").field("metadata").key("a.b/c"), "no");
        errors.too_long(&spec, 5);
        errors.too_many(&spec, 3, 1);
        errors.required(&first.field("image"), "");
        let expected = "[spec.containers[0].image: Required value, \
            spec.replicas: Invalid value: -1: must be greater than or equal to 0, \
            spec.selector: Invalid value: {\"a\":\"b\"}: field is immutable, \
            spec.containers[0].name: Duplicate value: \"w\\\"eb\", \
            spec.type: Unsupported value: \"X\": supported values: \"A\", \"B\", \
            metadata[a.b/c]: Forbidden: no, \
            spec: Too long: may not be more than 5 bytes, \
            spec: Too many: 3: must have at most 1 item]";
        assert_eq!(errors.to_string(), expected);
    }
}
