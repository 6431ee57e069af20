//! Reads the table of resources; its format is described at the table's top.

use super::{Resource, Selectable, Subresource};
use crate::schema::{Name, Schema};

const ALL_VERBS: &str = "create,delete,deletecollection,get,list,patch,update,watch";
const SUBRESOURCE_VERBS: &str = "get,patch,update";

/// A line of the table is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// The line lacks a word, or stands in the wrong place.
    #[error("line {0} is malformed")]
    Malformed(usize),
    /// The schema does not know the kind.
    #[error("line {line}: no kind {kind} in the schema")]
    UnknownKind {
        /// The line number, from 1.
        line: usize,
        /// `apps/v1, Kind=Deployment`.
        kind: String,
    },
    /// A label means the same as one that is not there.
    #[error("line {0}: no field with the label after `as`")]
    UnknownLabel(usize),
}

/// A resource while its lines are read.
struct Draft {
    resource: Resource,
    subresources: Vec<Subresource>,
    fields: Vec<Selectable>,
    labels: Vec<(Name, Name)>,
    line: usize,
}

/// Reads a table.
pub(super) fn table(text: &'static str, schema: &Schema) -> Result<Vec<Resource>, ParseError> {
    let mut drafts: Vec<Draft> = Vec::new();
    let mut group_version = ("", "");
    for (number, line) in (1..).zip(text.lines()).filter(|(_, line)| !line.starts_with('#')) {
        let malformed = || ParseError::Malformed(number);
        let words = &mut line.split_ascii_whitespace();
        let Some(first) = words.next() else { continue };
        match line.len() - line.trim_start().len() {
            0 => group_version = first.split_once('/').ok_or_else(malformed)?,
            2 => drafts.push(resource(first, words, group_version, schema, number)?),
            _ => member(drafts.last_mut().ok_or_else(malformed)?, first, words).ok_or_else(malformed)?,
        }
    }
    finish(drafts)
}

type Words<'a> = std::str::SplitAsciiWhitespace<'a>;

fn resource(
    plural: &'static str,
    words: &mut Words<'static>,
    (group, version): (&'static str, &'static str),
    schema: &Schema,
    line: usize,
) -> Result<Draft, ParseError> {
    let (Some(kind), Some(scope)) = (words.next(), words.next()) else {
        return Err(ParseError::Malformed(line));
    };
    let type_id = schema
        .by_kind(group, version, kind)
        .ok_or_else(|| ParseError::UnknownKind { line, kind: format!("{group}/{version}, Kind={kind}") })?;
    let mut resource = Resource {
        group: Name::Borrowed(group),
        version: Name::Borrowed(version),
        plural: Name::Borrowed(plural),
        singular: Name::Owned(kind.to_ascii_lowercase()),
        kind: Name::Borrowed(kind),
        list_kind: Name::Owned(format!("{kind}List")),
        short_names: Box::default(),
        categories: Box::default(),
        namespaced: scope == "namespaced",
        verbs: list(ALL_VERBS),
        subresources: Box::default(),
        fields: Box::default(),
        labels: Box::default(),
        stored_as: None,
        hash: Name::Borrowed(""),
        type_id,
    };
    for (key, value) in words.filter_map(|word| word.split_once('=')) {
        match key {
            "short" => resource.short_names = list(value),
            "categories" => resource.categories = list(value),
            "verbs" => resource.verbs = list(value),
            "storage" => resource.stored_as = pair(value),
            "hash" => resource.hash = Name::Borrowed(value),
            _ => return Err(ParseError::Malformed(line)),
        }
    }
    Ok(Draft { resource, subresources: Vec::new(), fields: Vec::new(), labels: Vec::new(), line })
}

fn member(draft: &mut Draft, word: &str, words: &mut Words<'static>) -> Option<()> {
    let name = words.next()?;
    match word {
        "sub" => draft.subresources.push(subresource(name, words, &draft.resource)?),
        "field" => field(draft, name, words)?,
        _ => return None,
    }
    Some(())
}

fn subresource(name: &'static str, words: &mut Words<'static>, resource: &Resource) -> Option<Subresource> {
    let mut sub = Subresource {
        name: Name::Borrowed(name),
        group_version: None,
        kind: resource.kind.clone(),
        verbs: list(SUBRESOURCE_VERBS),
    };
    for word in words {
        match word.split_once('=')? {
            ("verbs", value) => sub.verbs = list(value),
            ("kind", value) => {
                let (group_version, kind) = value.rsplit_once('/').unwrap_or(("", value));
                sub.group_version = pair(group_version);
                sub.kind = Name::Borrowed(kind);
            }
            _ => return None,
        }
    }
    Some(sub)
}

fn field(draft: &mut Draft, label: &'static str, words: &mut Words<'static>) -> Option<()> {
    let (mut paths, mut default, mut same_as) = (label, "", None);
    for word in words {
        match word.split_once('=')? {
            ("path", value) => paths = value,
            ("default", value) => default = value,
            ("as", value) => same_as = Some(value),
            _ => return None,
        }
    }
    draft.labels.push((Name::Borrowed(label), Name::Borrowed(same_as.unwrap_or(label))));
    if same_as.is_none() {
        let split = |path: &str| path.split('.').map(Box::from).collect();
        let paths = paths.split('|').map(split).collect();
        draft.fields.push(Selectable { label: Name::Borrowed(label), paths, default: Box::from(default) });
    }
    Some(())
}

/// Gives a resource that is stored as another the other's fields, and resolves labels.
fn finish(drafts: Vec<Draft>) -> Result<Vec<Resource>, ParseError> {
    let stored_fields = |draft: &Draft| {
        let (group, version) = draft.resource.stored_as.clone()?;
        let is_stored = |d: &&Draft| {
            d.resource.group == group
                && d.resource.version == version
                && d.resource.plural == draft.resource.plural
        };
        drafts.iter().find(is_stored).map(|d| d.fields.clone())
    };
    let fields: Vec<_> =
        drafts.iter().map(|d| stored_fields(d).unwrap_or_else(|| d.fields.clone())).collect();
    drafts.into_iter().zip(fields).map(|(draft, fields)| draft.finish(fields)).collect()
}

impl Draft {
    fn finish(self, fields: Vec<Selectable>) -> Result<Resource, ParseError> {
        let index = |(label, same_as): (Name, Name)| {
            let at = fields.iter().position(|field| field.label == same_as);
            at.map(|at| (label, at)).ok_or(ParseError::UnknownLabel(self.line))
        };
        let labels = self.labels.into_iter().map(index).collect::<Result<_, _>>()?;
        Ok(Resource {
            subresources: self.subresources.into(),
            fields: fields.into(),
            labels,
            ..self.resource
        })
    }
}

fn list(text: &'static str) -> Box<[Name]> {
    text.split(',').map(Name::Borrowed).collect()
}

fn pair(text: &'static str) -> Option<(Name, Name)> {
    let (group, version) = text.split_once('/')?;
    Some((Name::Borrowed(group), Name::Borrowed(version)))
}
