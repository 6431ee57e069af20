//! Label selectors: `app=web,tier in (a,b),!canary`, and the `LabelSelector` objects of workloads and policies. Matching
//! is upstream's (`apimachinery/pkg/labels`); the text is read in `parse`.

mod parse;
#[cfg(test)]
mod tests;

use std::fmt;

use serde_json::Value;

pub use parse::LabelError;

use crate::field::{ErrorList, Path};
use crate::name;
use crate::object::{self, Meta};

/// A conjunction of requirements; empty selects everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector {
    /// Sorted by key.
    requirements: Vec<Requirement>,
    nothing: Nothing,
}

/// Whether a selector selects nothing at all, as an absent `LabelSelector` does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Nothing {
    #[default]
    No,
    Yes,
}

/// What a label must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    /// The label's key.
    pub key: String,
    /// How the label and the values are compared.
    pub operator: Operator,
    /// Sorted, without repetitions.
    pub values: Vec<String>,
}

/// How a label and values are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    /// `=`: the label has the value.
    Equals,
    /// `==`: the same.
    DoubleEquals,
    /// `!=`: the label is absent or has another value.
    NotEquals,
    /// `in`: the label has one of the values.
    In,
    /// `notin`: the label is absent or has none of the values.
    NotIn,
    /// The label is there.
    Exists,
    /// `!`: the label is not there.
    DoesNotExist,
    /// `>`: the label is a greater integer.
    GreaterThan,
    /// `<`: the label is a lesser integer.
    LessThan,
}

impl Selector {
    /// Reads a selector's text.
    ///
    /// # Errors
    /// With upstream's words; a client gets them in a 400.
    pub fn parse(text: &str) -> Result<Self, LabelError> {
        Ok(Self::new(parse::requirements(text)?))
    }

    /// The selector that selects nothing.
    pub fn nothing() -> Self {
        Self { requirements: Vec::new(), nothing: Nothing::Yes }
    }

    /// A selector of objects that have all these labels.
    pub fn from_labels(labels: impl IntoIterator<Item = (String, String)>) -> Self {
        let equals = |(key, value)| Requirement { key, operator: Operator::Equals, values: vec![value] };
        Self::new(labels.into_iter().map(equals).collect())
    }

    /// Reads a `LabelSelector` object. Null selects nothing, an empty one everything.
    ///
    /// # Errors
    /// With upstream's words, when validation has let something pass that cannot be matched.
    pub fn from_object(selector: &Value) -> Result<Self, LabelError> {
        if selector.is_null() {
            return Ok(Self::nothing());
        }
        let mut requirements = Vec::new();
        for (key, value) in selector.get("matchLabels").and_then(Value::as_object).into_iter().flatten() {
            let value = value.as_str().unwrap_or_default().to_owned();
            requirements.push(Requirement::new(key.clone(), Operator::Equals, vec![value])?);
        }
        for expression in object::items(selector, "matchExpressions") {
            let operator = match object::text(expression, "operator") {
                "In" => Operator::In,
                "NotIn" => Operator::NotIn,
                "Exists" => Operator::Exists,
                "DoesNotExist" => Operator::DoesNotExist,
                other => return Err(LabelError::Operator(other.to_owned())),
            };
            let values =
                object::items(expression, "values").iter().filter_map(Value::as_str).map(str::to_owned);
            requirements.push(Requirement::new(
                object::text(expression, "key").to_owned(),
                operator,
                values.collect(),
            )?);
        }
        Ok(Self::new(requirements))
    }

    /// Whether it selects everything.
    pub fn is_empty(&self) -> bool {
        self.requirements.is_empty() && self.nothing == Nothing::No
    }

    /// The requirements, all of which must hold, sorted by key.
    pub fn requirements(&self) -> &[Requirement] {
        &self.requirements
    }

    /// Whether an object with these labels is selected. `label` gives the value of a key.
    pub fn matches<'a>(&self, label: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.nothing == Nothing::No && self.requirements.iter().all(|r| r.matches(label(&r.key)))
    }

    /// Whether an object is selected.
    pub fn matches_meta(&self, meta: &Meta) -> bool {
        self.matches(|key| meta.label(key))
    }

    /// Whether a decoded object's or template's labels (the map itself) are selected.
    pub fn matches_value(&self, labels: &Value) -> bool {
        self.matches(|key| labels.get(key).and_then(Value::as_str))
    }

    fn new(mut requirements: Vec<Requirement>) -> Self {
        requirements.sort_by(|a, b| a.key.cmp(&b.key));
        Self { requirements, nothing: Nothing::No }
    }
}

impl Requirement {
    /// A requirement whose parts fit together.
    ///
    /// # Errors
    /// With upstream's words, as an aggregate of field errors.
    pub fn new(key: String, operator: Operator, mut values: Vec<String>) -> Result<Self, LabelError> {
        let mut errors = ErrorList::default();
        let path = Path::Root("values");
        let problems = name::qualified_name(&key);
        if !problems.is_empty() {
            errors.invalid(&Path::Root("key"), &*key, &problems.join("; "));
        }
        if let Some(problem) = operator.wrong_count(values.len()) {
            errors.invalid(&path, values.clone(), problem);
        }
        for (index, value) in values.iter().enumerate() {
            if operator.compares_integers() && value.parse::<i64>().is_err() {
                errors.invalid(
                    &path.index(index),
                    &**value,
                    "for 'Gt', 'Lt' operators, the value must be an integer",
                );
            }
        }
        for (index, value) in values.iter().enumerate() {
            let problems = name::label_value(value);
            if !problems.is_empty() {
                errors.invalid(&path.index(index).key(&key), &**value, &problems.join("; "));
            }
        }
        if !errors.is_empty() {
            return Err(LabelError::Requirement(errors));
        }
        values.sort_unstable();
        values.dedup();
        Ok(Self { key, operator, values })
    }

    /// Whether a label with this value, or an absent label, is as required.
    pub fn matches(&self, value: Option<&str>) -> bool {
        let listed = |value: &str| self.values.iter().any(|v| v == value);
        match self.operator {
            Operator::Equals | Operator::DoubleEquals | Operator::In => value.is_some_and(listed),
            Operator::NotEquals | Operator::NotIn => !value.is_some_and(listed),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
            Operator::GreaterThan => self.integers(value).is_some_and(|(label, bound)| label > bound),
            Operator::LessThan => self.integers(value).is_some_and(|(label, bound)| label < bound),
        }
    }

    fn integers(&self, value: Option<&str>) -> Option<(i64, i64)> {
        Some((value?.parse().ok()?, self.values.first()?.parse().ok()?))
    }
}

impl Operator {
    fn compares_integers(self) -> bool {
        matches!(self, Self::GreaterThan | Self::LessThan)
    }

    fn wrong_count(self, count: usize) -> Option<&'static str> {
        match self {
            Self::In | Self::NotIn => {
                (count == 0).then_some("for 'in', 'notin' operators, values set can't be empty")
            }
            Self::Equals | Self::DoubleEquals | Self::NotEquals => {
                (count != 1).then_some("exact-match compatibility requires one single value")
            }
            Self::Exists | Self::DoesNotExist => {
                (count != 0).then_some("values set must be empty for exists and does not exist")
            }
            Self::GreaterThan | Self::LessThan => {
                (count != 1).then_some("for 'Gt', 'Lt' operators, exactly one value is required")
            }
        }
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, requirement) in self.requirements.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}{requirement}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (key, values) = (&self.key, self.values.join(","));
        match self.operator {
            Operator::Equals => write!(f, "{key}={values}"),
            Operator::DoubleEquals => write!(f, "{key}=={values}"),
            Operator::NotEquals => write!(f, "{key}!={values}"),
            Operator::In => write!(f, "{key} in ({values})"),
            Operator::NotIn => write!(f, "{key} notin ({values})"),
            Operator::Exists => f.write_str(key),
            Operator::DoesNotExist => write!(f, "!{key}"),
            Operator::GreaterThan => write!(f, "{key}>{values}"),
            Operator::LessThan => write!(f, "{key}<{values}"),
        }
    }
}
