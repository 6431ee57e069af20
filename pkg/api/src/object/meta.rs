//! `Meta`: what caches, selectors, owners and finalizers need of an object, read from its bytes in one pass.

use std::fmt;

use crate::resource::{Resource, Selectable};
use crate::scan::Cursor;

/// The parsed view of an encoded object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Meta {
    /// `metadata.name`.
    pub name: Box<str>,
    /// `metadata.namespace`; empty when cluster-scoped.
    pub namespace: Box<str>,
    /// `metadata.uid`.
    pub uid: Uid,
    /// `metadata.generation`; 0 when the kind has none.
    pub generation: i64,
    /// `metadata.deletionTimestamp`.
    pub deletion_timestamp: Option<Box<str>>,
    /// `metadata.labels`, sorted by key.
    pub labels: Labels,
    /// `metadata.finalizers`.
    pub finalizers: Box<[Box<str>]>,
    /// `metadata.ownerReferences`.
    pub owners: Box<[OwnerReference]>,
    /// The values of the resource's selectable fields, in the order of [`Resource::fields`].
    pub fields: Box<[Box<str>]>,
}

/// Keys and values.
pub type Labels = Box<[(Box<str>, Box<str>)]>;

/// An object's unique id; opaque text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Uid(Box<str>);

/// An owner of an object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnerReference {
    /// `apps/v1`.
    pub api_version: Box<str>,
    /// `ReplicaSet`.
    pub kind: Box<str>,
    /// The owner's name.
    pub name: Box<str>,
    /// The owner's uid.
    pub uid: Uid,
    /// Whether the owner manages the object.
    pub controller: bool,
    /// Whether deleting the owner in the foreground waits for the object.
    pub block_owner_deletion: bool,
}

/// The bytes are not an encoded object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the bytes are not an encoded object: unexpected byte at offset {offset}")]
pub struct MetaError {
    /// Where reading stopped.
    pub offset: usize,
}

impl Meta {
    /// Reads an encoded object of a resource. `resource` is the one under which the object is stored.
    ///
    /// # Errors
    /// When the bytes are not a JSON object, or metadata is not what its schema says.
    pub fn parse(bytes: &[u8], resource: &Resource) -> Result<Self, MetaError> {
        let mut cursor = Cursor::new(bytes);
        let mut meta = Self { fields: defaults(&resource.fields), ..Self::default() };
        meta.read(&mut cursor, &resource.fields).ok_or(MetaError { offset: cursor.offset() })?;
        Ok(meta)
    }

    /// The value of a label.
    pub fn label(&self, key: &str) -> Option<&str> {
        let at = self.labels.binary_search_by(|(k, _)| (**k).cmp(key)).ok()?;
        Some(&self.labels[at].1)
    }

    /// The owner that manages the object.
    pub fn controller(&self) -> Option<&OwnerReference> {
        self.owners.iter().find(|owner| owner.controller)
    }

    /// Whether deletion was asked for.
    pub fn is_deleting(&self) -> bool {
        self.deletion_timestamp.is_some()
    }

    fn read(&mut self, cursor: &mut Cursor<'_>, fields: &[Selectable]) -> Option<()> {
        let mut members = cursor.object()?;
        let wanted = Wanted::all(fields);
        while let Some(key) = members.next_key(cursor)? {
            if key == "metadata" {
                self.read_metadata(cursor)?;
            } else {
                self.read_fields(cursor, fields, wanted.below(fields, 0, &key), 1)?;
            }
        }
        Some(())
    }

    fn read_metadata(&mut self, cursor: &mut Cursor<'_>) -> Option<()> {
        let mut members = cursor.object()?;
        while let Some(key) = members.next_key(cursor)? {
            match &*key {
                "name" => self.name = text(cursor)?,
                "namespace" => self.namespace = text(cursor)?,
                "uid" => self.uid = Uid(text(cursor)?),
                "generation" => self.generation = cursor.scalar()?.parse().ok()?,
                "deletionTimestamp" => {
                    self.deletion_timestamp = Some(text(cursor)?).filter(|time| !time.is_empty())
                }
                "labels" => self.labels = labels(cursor)?,
                "finalizers" => self.finalizers = list(cursor, text)?,
                "ownerReferences" => self.owners = list(cursor, owner)?,
                _ => cursor.skip()?,
            }
        }
        Some(())
    }

    /// Takes a value that lies `depth` names deep on the paths of the `wanted` fields.
    fn read_fields(
        &mut self,
        cursor: &mut Cursor<'_>,
        fields: &[Selectable],
        wanted: Wanted,
        depth: usize,
    ) -> Option<()> {
        if wanted.is_empty() {
            return cursor.skip();
        }
        if cursor.peek()? != b'{' {
            let value = cursor.scalar()?;
            for (index, path) in wanted.paths(fields).filter(|(_, path)| path.len() == depth) {
                // The first path of a field wins over its alternatives.
                let main = fields[index].paths.first().is_some_and(|first| std::ptr::eq(first, path));
                if !value.is_empty() && (main || *self.fields[index] == *fields[index].default) {
                    self.fields[index] = Box::from(&*value);
                }
            }
            return Some(());
        }
        let mut members = cursor.object()?;
        while let Some(key) = members.next_key(cursor)? {
            let next = wanted.below(fields, depth, &key);
            self.read_fields(cursor, fields, next, depth + 1)?;
        }
        Some(())
    }
}

/// A set of paths of selectable fields: one bit for each path, in order.
#[derive(Clone, Copy)]
struct Wanted(u64);

impl Wanted {
    fn all(fields: &[Selectable]) -> Self {
        let paths: usize = fields.iter().map(|field| field.paths.len()).sum();
        Self(1u64.checked_shl(u32::try_from(paths).unwrap_or(64)).map_or(u64::MAX, |bit| bit - 1))
    }

    fn is_empty(self) -> bool {
        self.0 == 0
    }

    fn paths(self, fields: &[Selectable]) -> impl Iterator<Item = (usize, &Box<[Box<str>]>)> {
        let all = fields
            .iter()
            .enumerate()
            .flat_map(|(index, field)| field.paths.iter().map(move |path| (index, path)));
        all.take(64).enumerate().filter(move |(bit, _)| self.0 >> bit & 1 == 1).map(|(_, path)| path)
    }

    /// Those that go on with `key` at `depth`.
    fn below(self, fields: &[Selectable], depth: usize, key: &str) -> Self {
        if self.is_empty() {
            return self;
        }
        let all = fields.iter().flat_map(|field| field.paths.iter()).take(64).enumerate();
        let goes_on = all.filter(|(_, path)| path.get(depth).is_some_and(|name| **name == *key));
        Self(goes_on.fold(0, |bits, (bit, _)| bits | 1 << bit) & self.0)
    }
}

fn defaults(fields: &[Selectable]) -> Box<[Box<str>]> {
    fields.iter().map(|field| field.default.clone()).collect()
}

fn text(cursor: &mut Cursor<'_>) -> Option<Box<str>> {
    cursor.scalar().map(|text| Box::from(&*text))
}

fn labels(cursor: &mut Cursor<'_>) -> Option<Labels> {
    if cursor.peek()? != b'{' {
        cursor.skip()?;
        return Some(Box::default());
    }
    let mut members = cursor.object()?;
    let mut labels = Vec::new();
    while let Some(key) = members.next_key(cursor)? {
        labels.push((Box::from(&*key), text(cursor)?));
    }
    labels.sort_unstable();
    Some(labels.into())
}

fn list<T>(cursor: &mut Cursor<'_>, item: impl Fn(&mut Cursor<'_>) -> Option<T>) -> Option<Box<[T]>> {
    if cursor.peek()? != b'[' {
        cursor.skip()?;
        return Some(Box::default());
    }
    let mut members = cursor.list()?;
    let mut items = Vec::new();
    while members.more(cursor)? {
        items.push(item(cursor)?);
    }
    Some(items.into())
}

fn owner(cursor: &mut Cursor<'_>) -> Option<OwnerReference> {
    let mut owner = OwnerReference::default();
    let mut members = cursor.object()?;
    while let Some(key) = members.next_key(cursor)? {
        match &*key {
            "apiVersion" => owner.api_version = text(cursor)?,
            "kind" => owner.kind = text(cursor)?,
            "name" => owner.name = text(cursor)?,
            "uid" => owner.uid = Uid(text(cursor)?),
            "controller" => owner.controller = cursor.scalar()? == "true",
            "blockOwnerDeletion" => owner.block_owner_deletion = cursor.scalar()? == "true",
            _ => cursor.skip()?,
        }
    }
    Some(owner)
}

impl Uid {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Uid {
    fn from(uid: &str) -> Self {
        Self(Box::from(uid))
    }
}

impl fmt::Display for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
