//! Lists in strategic merge patches: merging items by key or by value, and the order of what comes out.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

use super::{
    DIRECTIVE, Error, FieldRule, Patcher, added, as_fields, bad_type, go_type, no_key, print,
    unknown_directive,
};

/// What a patch does with a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lists {
    Merge,
    /// `$deleteFromPrimitiveList`.
    Delete,
}

impl<'a> Patcher<'a> {
    /// Merges a patch's items into a list.
    pub(super) fn merge_list(
        self,
        old: Vec<Value>,
        change: Vec<Value>,
        rule: FieldRule<'a>,
        lists: Lists,
    ) -> Result<Vec<Value>, Error> {
        check_types(&old, &change)?;
        let of_objects = old.iter().chain(&change).next().is_some_and(Value::is_object);
        if !of_objects && lists == Lists::Delete {
            let deleted: HashSet<_> = change.iter().map(|item| id(item, "")).collect();
            return Ok(old.into_iter().filter(|item| !deleted.contains(&id(item, ""))).collect());
        }
        if !of_objects {
            let mut seen = HashSet::new();
            let merged =
                old.iter().chain(&change).filter(|item| seen.insert(id(item, ""))).cloned().collect();
            return order(merged, &change, &old, "");
        }
        if rule.key.is_empty() {
            return Err(Error::Malformed("cannot merge lists without merge key".to_owned()));
        }
        let (old, change) = special_items(old, change, rule.key)?;
        let merged = self.merge_items(old.clone(), &change, rule)?;
        order(merged, &change, &old, rule.key)
    }

    fn merge_items(
        self,
        mut items: Vec<Value>,
        change: &[Value],
        rule: FieldRule<'a>,
    ) -> Result<Vec<Value>, Error> {
        let mut places = ranks(&items, rule.key);
        for item in change {
            key_of(item, rule.key)?;
            let place = *places.entry(id(item, rule.key)).or_insert(items.len());
            match items.get_mut(place).map(Value::take) {
                Some(Value::Object(old)) => {
                    let item = as_fields(item)?.clone();
                    items[place] = Value::Object(self.merge(old, item, rule.inner)?);
                }
                Some(other) => return Err(bad_type("map[string]interface {}", &other)),
                // A new item, without nulls and directives.
                None => items.extend(added(item.clone())),
            }
        }
        Ok(items)
    }
}

/// Obeys the items of a patch that carry a directive; gives the list and the patch without them.
fn special_items(
    mut old: Vec<Value>,
    change: Vec<Value>,
    key: &str,
) -> Result<(Vec<Value>, Vec<Value>), Error> {
    let mut plain = Vec::new();
    let mut deleted = HashSet::new();
    let mut replaces = false;
    for item in change {
        let fields = as_fields(&item)?;
        match fields.get(DIRECTIVE).map(|directive| (directive, directive.as_str())) {
            None => plain.push(item),
            Some((_, Some("delete"))) => {
                key_of(&item, key)?;
                deleted.insert(id(&item, key));
            }
            Some((_, Some("replace"))) => replaces = true,
            Some((_, Some("merge"))) => {
                return Err(Error::Malformed(
                    "merging lists cannot yet be specified in the patch".to_owned(),
                ));
            }
            Some((directive, _)) => return Err(unknown_directive(directive, fields)),
        }
    }
    if replaces {
        return Ok((plain, Vec::new()));
    }
    old.retain(|item| !deleted.contains(&id(item, key)));
    Ok((old, plain))
}

/// Orders a merged list: items of `wanted` in its order, the others in the server's; where both can be compared by the
/// server's order the server's come where they were, else after.
pub(super) fn order(
    items: Vec<Value>,
    wanted: &[Value],
    server: &[Value],
    key: &str,
) -> Result<Vec<Value>, Error> {
    if !key.is_empty() {
        for item in items.iter().chain(wanted) {
            key_of(item, key)?;
        }
    }
    let (wanted, server) = (ranks(wanted, key), ranks(server, key));
    let ranked = |item: Value| {
        let id = id(&item, key);
        Ranked { wanted: wanted.get(&id).copied(), server: server.get(&id).copied(), item }
    };
    let (mut patched, mut others): (Vec<_>, Vec<_>) =
        items.into_iter().map(ranked).partition(|r| r.wanted.is_some());
    patched.sort_by_key(|ranked| ranked.wanted);
    others.sort_by_key(|ranked| ranked.server.unwrap_or(usize::MAX));

    let mut ordered = Vec::with_capacity(patched.len() + others.len());
    let (mut patched, mut others) = (patched.into_iter().peekable(), others.into_iter().peekable());
    while let (Some(one), Some(other)) = (patched.peek(), others.peek()) {
        let other_first = other.server.zip(one.server).is_some_and(|(other, one)| other < one);
        ordered.extend(if other_first { others.next() } else { patched.next() });
    }
    Ok(ordered.into_iter().chain(patched).chain(others).map(|ranked| ranked.item).collect())
}

/// An item with its places in the patch's order and in the server's.
struct Ranked {
    wanted: Option<usize>,
    server: Option<usize>,
    item: Value,
}

/// The first place of each item.
fn ranks(items: &[Value], key: &str) -> HashMap<String, usize> {
    let mut ranks = HashMap::with_capacity(items.len());
    for (place, item) in items.iter().enumerate() {
        ranks.entry(id(item, key)).or_insert(place);
    }
    ranks
}

/// What tells items apart: the value of the key, or the item itself.
fn id(item: &Value, key: &str) -> String {
    if key.is_empty() { item.to_string() } else { item.get(key).unwrap_or(&Value::Null).to_string() }
}

/// Checks that a patch's items stand in the order the patch asks for.
pub(super) fn check_order(change: &[Value], wanted: &[Value], key: &str) -> Result<(), Error> {
    if change.is_empty() || wanted.is_empty() {
        return Ok(());
    }
    let mut left = wanted.iter();
    for item in change {
        if !key.is_empty() && as_fields(item)?.contains_key(DIRECTIVE) {
            continue;
        }
        let mut found = false;
        for other in left.by_ref() {
            if !key.is_empty() && key_of(item, key)? == key_of(other, key)? || key.is_empty() && item == other
            {
                found = true;
                break;
            }
        }
        if !found {
            let (change, wanted) = (Value::from(change), Value::from(wanted));
            return Err(Error::Malformed(format!(
                "The order in patch list:\n{}\n doesn't match $setElementOrder list:\n{}\n",
                print(&change),
                print(&wanted)
            )));
        }
    }
    Ok(())
}

/// Items that are new to an object.
pub(super) fn without_directives(items: Vec<Value>) -> Vec<Value> {
    items.into_iter().filter_map(added).collect()
}

/// Items of one list must be of one type, and no list must hold lists.
fn check_types(old: &[Value], change: &[Value]) -> Result<(), Error> {
    let mut items = old.iter().chain(change);
    let Some(first) = items.next() else { return Ok(()) };
    if first.is_array() {
        return Err(Error::DoesNotApply("lists of lists are not supported".to_owned()));
    }
    if items.any(|item| go_type(item) != go_type(first)) {
        let lists = Value::from(vec![Value::from(old), Value::from(change)]);
        return Err(Error::Malformed(format!("list element types are not identical: {}", print(&lists))));
    }
    Ok(())
}

fn key_of<'v>(item: &'v Value, key: &str) -> Result<&'v Value, Error> {
    let fields = as_fields(item)?;
    fields.get(key).ok_or_else(|| no_key(fields, key))
}
