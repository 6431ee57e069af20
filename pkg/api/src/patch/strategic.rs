//! Strategic merge patch: a merge patch that knows from the schema which lists are merged by key, with directives for
//! the rest. The rules are upstream's `apimachinery/pkg/util/strategicpatch`:
//!
//! - `$patch: replace | delete` in an object replaces or empties it; in an item of a merged list it replaces the list or
//!   removes the item with that key; anywhere in what is added it drops its object.
//! - `$retainKeys: [..]` drops the fields of the object that are not named.
//! - `$deleteFromPrimitiveList/x: [..]` removes values from the list `x`.
//! - `$setElementOrder/x: [..]` orders the list `x`: items named there in that order, the others where they were.

mod list;
mod print;
#[cfg(test)]
mod tests;

use serde_json::{Map, Value};

use super::{Error, decode, kind_of};
use crate::schema::{Field, FieldKind, PatchStrategy, Schema, TypeId};
use list::Lists;
use print::go_type;
pub use print::print;

const DIRECTIVE: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const DELETE_FROM: &str = "$deleteFromPrimitiveList/";
const SET_ORDER: &str = "$setElementOrder/";

type Fields = Map<String, Value>;

/// Applies a strategic merge patch to an object of the type.
///
/// # Errors
/// When the patch is not a JSON object, a directive is malformed, or an item of a merged list has no key.
pub fn apply(object: Value, patch: &[u8], schema: &Schema, id: TypeId) -> Result<Value, Error> {
    let patch = match decode(patch)? {
        Value::Object(patch) => patch,
        Value::Null => Fields::new(),
        other => {
            let kind = kind_of(&other);
            let message =
                format!("json: cannot unmarshal {kind} into Go value of type map[string]interface {{}}");
            return Err(Error::Malformed(message));
        }
    };
    let Value::Object(fields) = object else { return Ok(object) };
    let patcher = Patcher { schema };
    patcher.merge(fields, patch, Shape::Message(id)).map(Value::Object)
}

#[derive(Clone, Copy)]
struct Patcher<'a> {
    schema: &'a Schema,
}

/// What the schema says of an object's fields.
#[derive(Clone, Copy)]
enum Shape<'a> {
    Message(TypeId),
    /// Fields with names of their own, all of one kind.
    Map(&'a FieldKind),
    Free,
}

/// What the schema says of one field.
#[derive(Clone, Copy)]
struct FieldRule<'a> {
    strategy: PatchStrategy,
    /// The key by which a merged list's items are told apart; empty in lists of scalars.
    key: &'a str,
    /// The fields of the object, or of the list's items.
    inner: Shape<'a>,
}

impl<'a> Patcher<'a> {
    /// Merges a patch into an object's fields.
    fn merge(self, mut fields: Fields, mut patch: Fields, shape: Shape<'a>) -> Result<Fields, Error> {
        if let Some(directive) = patch.get(DIRECTIVE) {
            return match directive.as_str() {
                Some("replace") => {
                    patch.remove(DIRECTIVE);
                    Ok(patch)
                }
                Some("delete") => Ok(Fields::new()),
                _ => Err(unknown_directive(directive, &patch)),
            };
        }
        retain_keys(&mut fields, &mut patch)?;
        self.set_orders(&mut fields, &mut patch, shape)?;
        for (name, change) in patch {
            let deleted_from = name.strip_prefix(DELETE_FROM);
            let field = deleted_from.unwrap_or(&name);
            if change.is_null() {
                fields.remove(field);
                continue;
            }
            let list = if deleted_from.is_some() { Lists::Delete } else { Lists::Merge };
            self.merge_field(&mut fields, field, change, list, shape)?;
        }
        Ok(fields)
    }

    fn merge_field(
        self,
        fields: &mut Fields,
        name: &str,
        change: Value,
        lists: Lists,
        shape: Shape<'a>,
    ) -> Result<(), Error> {
        let rule = self.rule(shape, name);
        let merged = match (fields.remove(name), change) {
            (Some(Value::Array(old)), Value::Array(change)) => {
                let merged = match lists {
                    Lists::Merge if !rule.strategy.merges() => change,
                    _ => self.merge_list(old, change, rule, lists)?,
                };
                Some(Value::Array(merged))
            }
            (old, _) if lists == Lists::Delete => old,
            (Some(Value::Object(old)), Value::Object(change)) if rule.strategy != PatchStrategy::Replace => {
                Some(Value::Object(self.merge(old, change, rule.inner)?))
            }
            (Some(Value::Object(_)), Value::Object(change)) => Some(Value::Object(change)),
            (_, change) => added(change),
        };
        if let Some(merged) = merged {
            fields.insert(name.to_owned(), merged);
        }
        Ok(())
    }

    /// Merges and orders the lists for which the patch gives an order, and takes them out of the patch.
    fn set_orders(self, fields: &mut Fields, patch: &mut Fields, shape: Shape<'a>) -> Result<(), Error> {
        let orders: Vec<String> = patch.keys().filter(|name| name.starts_with(SET_ORDER)).cloned().collect();
        for directive in orders {
            let name = &directive[SET_ORDER.len()..];
            let order = as_list(patch.remove(&directive).unwrap_or_default())?;
            let rule = self.rule(shape, name);
            let old = fields.get(name).cloned().map(as_list).transpose()?;
            let change = patch.get(name).cloned().map(as_list).transpose()?;
            list::check_order(change.as_deref().unwrap_or_default(), &order, rule.key)?;
            let server_order = old.clone().unwrap_or_default();
            let merged = match (old, change) {
                (Some(old), None) => old,
                (None, Some(change)) => list::without_directives(change),
                (Some(old), Some(change)) if rule.strategy.merges() => {
                    self.merge_list(old, change, rule, Lists::Merge)?
                }
                (Some(_), Some(change)) => change,
                (None, None) => continue,
            };
            let ordered = list::order(merged, &order, &server_order, rule.key)?;
            fields.insert(name.to_owned(), Value::Array(ordered));
            patch.remove(name);
        }
        Ok(())
    }

    fn rule(self, shape: Shape<'a>, name: &str) -> FieldRule<'a> {
        match shape {
            Shape::Message(id) => {
                self.schema.get(id).field(name).map_or(FieldRule::FREE, FieldRule::of_field)
            }
            Shape::Map(kind) => FieldRule { inner: shape_of(kind), ..FieldRule::FREE },
            Shape::Free => FieldRule::FREE,
        }
    }
}

impl<'a> FieldRule<'a> {
    const FREE: Self = Self { strategy: PatchStrategy::Default, key: "", inner: Shape::Free };

    fn of_field(field: &'a Field) -> Self {
        Self {
            strategy: field.patch_strategy(),
            key: field.patch_key().unwrap_or_default(),
            inner: shape_of(&field.kind),
        }
    }
}

/// The shape of an object of that kind, or of a list's items.
fn shape_of(kind: &FieldKind) -> Shape<'_> {
    match kind {
        FieldKind::Message(id) | FieldKind::SchemaOr(_, id) => Shape::Message(*id),
        FieldKind::Map(inner) => Shape::Map(inner),
        FieldKind::List(inner) => shape_of(inner),
        _ => Shape::Free,
    }
}

/// Drops the fields that the patch does not retain.
fn retain_keys(fields: &mut Fields, patch: &mut Fields) -> Result<(), Error> {
    let Some(retained) = patch.remove(RETAIN_KEYS) else { return Ok(()) };
    let malformed = || Error::Malformed("invalid patch format of retainKeys".to_owned());
    let retained = retained.as_array().ok_or_else(malformed)?;
    let is_retained = |name: &str| retained.iter().any(|known| known == name);
    let sets = |(name, change): (&String, &Value)| !change.is_null() && !is_list_directive(name);
    if patch.iter().any(|entry| sets(entry) && !is_retained(entry.0)) {
        return Err(malformed());
    }
    fields.retain(|name, _| is_retained(name));
    Ok(())
}

fn is_list_directive(name: &str) -> bool {
    name.starts_with(DELETE_FROM) || name.starts_with(SET_ORDER)
}

/// What a value that is new to the object becomes: nothing if it is to be deleted, else itself without directives and
/// null fields.
fn added(value: Value) -> Option<Value> {
    match value {
        Value::Object(fields) if fields.contains_key(DIRECTIVE) => None,
        Value::Object(fields) => {
            let keep = |name: &String, value: &Value| {
                !value.is_null() && name != RETAIN_KEYS && !is_list_directive(name)
            };
            let kept = fields.into_iter().filter(|(name, value)| keep(name, value));
            Some(Value::Object(kept.filter_map(|(name, value)| Some((name, added(value)?))).collect()))
        }
        Value::Array(items) => Some(Value::Array(list::without_directives(items))),
        other => Some(other),
    }
}

fn as_list(value: Value) -> Result<Vec<Value>, Error> {
    match value {
        Value::Array(items) => Ok(items),
        other => Err(bad_type("[]interface {}", &other)),
    }
}

fn as_fields(value: &Value) -> Result<&Fields, Error> {
    value.as_object().ok_or_else(|| bad_type("map[string]interface {}", value))
}

fn bad_type(expected: &str, value: &Value) -> Error {
    Error::Malformed(format!("expected a {expected}, but received a {}", go_type(value)))
}

fn unknown_directive(directive: &Value, fields: &Fields) -> Error {
    let fields = Value::Object(fields.clone());
    Error::Malformed(format!("unknown patch type: {} in map: {}", print(directive), print(&fields)))
}

fn no_key(fields: &Fields, key: &str) -> Error {
    let fields = Value::Object(fields.clone());
    Error::Malformed(format!("map: {} does not contain declared merge key: {key}", print(&fields)))
}
