//! Lists: which revision a list shows, which page of it, and how it goes on. Upstream's rules:
//! `apiserver/pkg/storage/interfaces.go` (`ValidateListOptions`) and `cacher.go` (`GetList`).

use std::collections::BTreeMap;
use std::iter;
use std::num::IntErrorKind;
use std::ops::Bound;
use std::sync::Arc;

use edgek_api::resource::Resource;

use crate::filter::Scope;
use crate::history::History;
use crate::marks::Marks;
use crate::token::Token;
use crate::{Filter, Object, ReadError, Revision};

/// What a list asks for.
#[derive(Debug, Clone, Default)]
pub struct ListOptions {
    /// Which objects.
    pub filter: Filter,
    /// The most objects of one page; 0 for all.
    pub limit: usize,
    /// The `continue` of the page before; empty for the first.
    pub token: String,
    /// The revision.
    pub at: At,
}

/// Which revision a list shows: `resourceVersion` with `resourceVersionMatch`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum At {
    /// Unset: the most recent.
    #[default]
    Latest,
    /// `0`: any, and without pages.
    Any,
    /// A revision with `NotOlderThan`.
    NotOlderThan(Revision),
    /// A revision with `Exact`.
    Exact(Revision),
    /// A revision without a match: not older than it, but exactly it when there is a limit.
    Unmatched(Revision),
}

/// A revision or match that cannot be understood. The text is upstream's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AtError {
    /// Not a number.
    #[error("resourceVersion: Invalid value: \"{text}\": strconv.ParseUint: parsing \"{text}\": {problem}")]
    Version {
        /// What the client sent.
        text: String,
        /// What is wrong with it, in the words of Go's library.
        problem: &'static str,
    },
    /// An unknown match.
    #[error("unknown ResourceVersionMatch value: {0}")]
    Match(String),
}

/// A list, or a page of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct List {
    /// The revision it shows: its `resourceVersion`.
    pub revision: Revision,
    /// The objects, by namespace and name.
    pub items: Vec<Arc<Object>>,
    /// How to get the next page, if there is one.
    pub token: Option<String>,
    /// How many objects follow; unknown when there is a selector.
    pub remaining: Option<usize>,
}

impl At {
    /// Reads the query parameters `resourceVersion` and `resourceVersionMatch`; both may be empty.
    ///
    /// # Errors
    /// [`AtError`], for a 400.
    pub fn parse(version: &str, matching: &str) -> Result<Self, AtError> {
        let revision = Self::parse_version(version)?;
        match (matching, version) {
            ("" | "NotOlderThan" | "Exact", "") => Ok(Self::Latest),
            ("" | "NotOlderThan", _) if revision.0 == 0 => Ok(Self::Any),
            ("", _) => Ok(Self::Unmatched(revision)),
            ("NotOlderThan", _) => Ok(Self::NotOlderThan(revision)),
            ("Exact", _) => Ok(Self::Exact(revision)),
            (other, _) => Err(AtError::Match(other.to_owned())),
        }
    }

    /// Reads a `resourceVersion` alone; 0 when empty.
    ///
    /// # Errors
    /// [`AtError::Version`], for a 400.
    pub fn parse_version(text: &str) -> Result<Revision, AtError> {
        if text.is_empty() {
            return Ok(Revision(0));
        }
        let parsed = if text.starts_with('+') { "+".parse::<u64>() } else { text.parse::<u64>() };
        parsed.map(Revision).map_err(|error| {
            let range = *error.kind() == IntErrorKind::PosOverflow;
            let problem = if range { "value out of range" } else { "invalid syntax" };
            AtError::Version { text: text.to_owned(), problem }
        })
    }
}

/// Where a list reads.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    /// `None` for the current revision.
    revision: Option<Revision>,
    /// The first key, below the filter's prefix; empty for the first of all.
    start: String,
    /// 0 for none.
    limit: usize,
}

impl Plan {
    pub(crate) fn new(options: &ListOptions, current: Revision) -> Result<Self, ReadError> {
        if !options.token.is_empty() {
            let Token { revision, start } = Token::decode(&options.token)?;
            if !matches!(options.at, At::Latest | At::Any) {
                return Err(ReadError::VersionWithContinue);
            }
            return check(revision, current).map(|()| Self { revision, start, limit: options.limit });
        }
        let (revision, not_older_than, limit) = match options.at {
            At::Latest => (None, None, options.limit),
            At::Any => (None, None, 0),
            At::Exact(revision) => (Some(revision), None, options.limit),
            At::Unmatched(revision) if options.limit > 0 => (Some(revision), None, options.limit),
            At::NotOlderThan(revision) | At::Unmatched(revision) => (None, Some(revision), options.limit),
        };
        check(revision.or(not_older_than), current)?;
        Ok(Self { revision, start: String::new(), limit })
    }
}

/// A revision from the future cannot be served: nothing here lags behind, so waiting would not help.
pub(crate) fn check(requested: Option<Revision>, current: Revision) -> Result<(), ReadError> {
    match requested {
        Some(requested) if requested > current => Err(ReadError::TooLarge { requested, current }),
        _ => Ok(()),
    }
}

/// The objects of a collection by key, at the current revision.
pub(crate) type Objects = BTreeMap<Arc<str>, Kept>;

/// An object, and what of it lists look at first.
#[derive(Debug, Clone)]
pub(crate) struct Kept {
    marks: Marks,
    pub(crate) object: Arc<Object>,
}

impl From<Arc<Object>> for Kept {
    fn from(object: Arc<Object>) -> Self {
        Self { marks: Marks::of(object.meta()), object }
    }
}

/// Reads a page.
pub(crate) fn read(
    objects: &Objects,
    history: &History,
    options: &ListOptions,
    current: Revision,
    resource: &Resource,
) -> Result<List, ReadError> {
    let Plan { revision, start, limit } = Plan::new(options, current)?;
    let filter = &options.filter;
    let undone = match revision.map(|revision| history.undo(revision)) {
        None => Undone::new(),
        Some(Some(undone)) => undone,
        Some(None) if options.token.is_empty() => return Err(ReadError::ListExpired),
        Some(None) => {
            return Err(ReadError::ContinueExpired { token: Token { revision: None, start }.encode() });
        }
    };
    let prefix = filter.prefix();
    let mut rest = select(objects, &undone, filter, resource, &start);
    let mut items = Vec::new();
    let mut last = "";
    for (key, object) in rest.by_ref().take(if limit == 0 { usize::MAX } else { limit }) {
        items.push(object.clone());
        last = key;
    }
    let revision = revision.unwrap_or(current);
    let next = rest.next();
    let token = next
        .map(|_| Token { revision: Some(revision), start: format!("{}\0", &last[prefix.len()..]) }.encode());
    // Counting a plain filter's objects goes through the map alone.
    let remaining = next.filter(|_| filter.is_plain()).map(|_| 1 + rest.count());
    Ok(List { revision, items, token, remaining })
}

/// What stands in place of current objects; an object without a value did not exist.
pub(crate) type Undone<'a> = BTreeMap<&'a str, Option<&'a Arc<Object>>>;

/// The objects that a filter means, in key order, from `start` below the filter's prefix on.
pub(crate) fn select<'a>(
    objects: &'a Objects,
    undone: &'a Undone<'a>,
    filter: &'a Filter,
    resource: &Resource,
    start: &str,
) -> impl Iterator<Item = (&'a str, &'a Arc<Object>)> + use<'a> {
    let (first, end) = match filter.key(Scope::of(resource)) {
        // No key is between this one and the same with a zero.
        Some(only) => (only.clone(), format!("{only}\0")),
        None => (format!("{}{start}", filter.prefix()), filter.end()),
    };
    let plain = filter.is_plain();
    let required = Marks::required(filter, resource);
    merge(objects, undone, &first, &end, required).filter(move |(_, object)| plain || filter.matches(object))
}

/// Current objects with the required marks, and with changes undone, in key order from `first` up to `end`.
fn merge<'a>(
    objects: &'a Objects,
    undone: &'a Undone<'a>,
    first: &str,
    end: &str,
    required: Marks,
) -> impl Iterator<Item = (&'a str, &'a Arc<Object>)> + use<'a> {
    let end = if end.is_empty() { Bound::Unbounded } else { Bound::Excluded(end) };
    let range = (Bound::Included(first), end);
    let mut current = objects
        .range::<str, _>(range)
        .filter(move |(_, kept)| kept.marks.include(required))
        .map(|(key, kept)| (&**key, &kept.object))
        .peekable();
    let mut undone = undone.range::<str, _>(range).map(|(key, object)| (*key, *object)).peekable();
    iter::from_fn(move || {
        loop {
            let Some((changed, before)) = undone.peek().copied() else { return current.next() };
            match current.peek() {
                Some((key, _)) if *key < changed => return current.next(),
                Some((key, _)) if *key == changed => drop(current.next()),
                _ => {}
            }
            undone.next();
            if let Some(before) = before {
                return Some((changed, before));
            }
        }
    })
}
