//! Reads the text types that Go sources tag with `+enum`, and their constants: what upstream's OpenAPI generator makes
//! an `enum` of (kube-openapi's `pkg/generators/enum.go`).

use std::collections::{BTreeMap, BTreeSet};

/// The enumerations of one Go package.
#[derive(Debug, Default)]
pub(super) struct Enums {
    types: BTreeSet<String>,
    constants: Vec<Constant>,
    /// The paths of other packages, by the names that files call them.
    imports: BTreeMap<String, String>,
}

#[derive(Debug)]
struct Constant {
    name: String,
    type_name: String,
    value: Literal,
}

#[derive(Debug)]
enum Literal {
    Text(String),
    /// A constant of another package: what this one calls it, and the name.
    Of(String, String),
}

impl Enums {
    /// Adds what a gofmt-ed file declares.
    pub(super) fn read(&mut self, source: &str) {
        // The tag stands anywhere in the comment before the type.
        let mut tagged = false;
        for line in source.lines().map(str::trim) {
            match line.strip_prefix("//") {
                Some(comment) => tagged |= comment.trim() == "+enum",
                None => self.declaration(line, std::mem::take(&mut tagged)),
            }
        }
    }

    fn declaration(&mut self, line: &str, tagged: bool) {
        let line = line.strip_prefix("const ").unwrap_or(line);
        let words: Vec<&str> = line.splitn(4, ' ').filter(|word| !word.is_empty()).collect();
        match words[..] {
            ["type", name, "string"] if tagged => {
                self.types.insert(name.to_owned());
            }
            [name, path] if path.starts_with("\"k8s.io/") => {
                self.imports.insert(name.to_owned(), path.trim_matches('"').to_owned());
            }
            _ => self.constants.extend(constant(line)),
        }
    }

    /// The package that a file of this one calls so.
    pub(super) fn import(&self, name: &str) -> Option<&str> {
        self.imports.get(name).map(String::as_str)
    }

    /// The enumerations, in order of name.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.types.iter().map(String::as_str)
    }

    /// The values of an enumeration in order.
    pub(super) fn values(&self, name: &str) -> Vec<&str> {
        let constants = self.constants.iter().filter(|constant| constant.type_name == name);
        let mut values: Vec<&str> = constants.filter_map(Constant::text).collect();
        values.sort_unstable();
        values
    }

    /// The constants of other packages that this one's stand for.
    pub(super) fn references(&self) -> impl Iterator<Item = (&str, &str)> {
        self.constants.iter().filter_map(|constant| match &constant.value {
            Literal::Of(import, name) => Some((import.as_str(), name.as_str())),
            Literal::Text(_) => None,
        })
    }

    /// The text of a constant.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.constants.iter().find(|constant| constant.name == name)?.text()
    }

    /// Puts the text of another package's constant in the place of its name.
    pub(super) fn resolve(&mut self, import: &str, name: &str, text: &str) {
        for constant in &mut self.constants {
            if matches!(&constant.value, Literal::Of(from, of) if from == import && of == name) {
                constant.value = Literal::Text(text.to_owned());
            }
        }
    }
}

impl Constant {
    fn text(&self) -> Option<&str> {
        match &self.value {
            Literal::Text(text) => Some(text),
            Literal::Of(..) => None,
        }
    }
}

/// `Name Type = "value"`, `Name = Type("value")` or `Name = Type(package.Constant)`.
fn constant(line: &str) -> Option<Constant> {
    let (declared, value) = line.split_once(" = ")?;
    let (name, type_name, value) = match declared.trim_end().split_once(char::is_whitespace) {
        Some((name, type_name)) => (name, type_name.trim(), value),
        None => {
            let (type_name, value) = value.split_once('(')?;
            (declared.trim_end(), type_name, value)
        }
    };
    let value = match value.strip_prefix('"') {
        Some(text) => Literal::Text(text.split('"').next()?.to_owned()),
        None => {
            let (import, constant) = value.strip_suffix(')')?.split_once('.')?;
            Literal::Of(import.to_owned(), constant.to_owned())
        }
    };
    Some(Constant { name: name.to_owned(), type_name: type_name.to_owned(), value })
}
