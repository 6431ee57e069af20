//! JSON patch, RFC 6902, as upstream's library reads it: indexes may be negative, `replace` also adds a field, a missing
//! field equals null, `copy` and the depth of the outcome have a limit.

use serde_json::{Map, Value};

use super::{Error, decode, kind_of};

/// The most operations a patch may have.
pub const MAX_OPERATIONS: usize = 10_000;

/// The most bytes that all `copy` operations of a patch may add: as many as a request's body may have.
const MAX_COPIED: usize = 3 * 1024 * 1024;

/// Operations must not nest a document deeper than what is safe to walk and encode.
const MAX_DEPTH: usize = 512;

/// Applies a JSON patch to an object.
///
/// # Errors
/// When the patch is not a list of operations, or one of them does not apply: then none is.
pub fn apply(object: Value, patch: &[u8]) -> Result<Value, Error> {
    let operations = operations(decode(patch)?)?;
    if operations.len() > MAX_OPERATIONS {
        return Err(Error::TooManyOperations { max: MAX_OPERATIONS, count: operations.len() });
    }
    let mut document = Document { depth_at_most: depth(&object), root: object, copied: 0 };
    for operation in operations {
        document.apply(operation).map_err(Error::DoesNotApply)?;
    }
    Ok(document.root)
}

struct Operation {
    op: Option<String>,
    path: Option<String>,
    from: Option<String>,
    value: Option<Value>,
}

fn operations(patch: Value) -> Result<Vec<Operation>, Error> {
    match patch {
        Value::Array(items) => items.into_iter().map(operation).collect(),
        Value::Null => Ok(Vec::new()),
        other => Err(cannot_decode(kind_of(&other), "value of type []handlers.jsonPatchOp")),
    }
}

fn operation(item: Value) -> Result<Operation, Error> {
    let mut fields = match item {
        Value::Object(fields) => fields,
        Value::Null => Map::new(),
        other => return Err(cannot_decode(kind_of(&other), "value of type handlers.jsonPatchOp")),
    };
    let mut text = |name: &str| match fields.remove(name) {
        Some(Value::String(text)) => Ok(Some(text)),
        None | Some(Value::Null) => Ok(None),
        Some(other) => {
            Err(cannot_decode(kind_of(&other), &format!("struct field jsonPatchOp.{name} of type string")))
        }
    };
    let (op, path, from) = (text("op")?, text("path")?, text("from")?);
    Ok(Operation { op, path, from, value: fields.remove("value") })
}

fn cannot_decode(what: &str, target: &str) -> Error {
    Error::Malformed(format!("error decoding patch: json: cannot unmarshal {what} into Go {target}"))
}

struct Document {
    root: Value,
    copied: usize,
    /// A bound of the root's depth, which `nest` keeps below `MAX_DEPTH`.
    depth_at_most: usize,
}

impl Document {
    fn apply(&mut self, operation: Operation) -> Result<(), String> {
        let Operation { op, path, from, value } = operation;
        match op.as_deref() {
            Some("add") => {
                self.add(&path.ok_or("add operation failed to decode path: missing value")?, value)
            }
            Some("remove") => {
                self.remove(&path.ok_or("remove operation failed to decode path: missing value")?)
            }
            Some("replace") => self.replace(&missing("replace", "path", path)?, value),
            Some("move") => self.rename(&missing("move", "from", from)?, path),
            Some("test") => self.test(&missing("test", "path", path)?, value.as_ref()),
            Some("copy") => self.copy(&missing("copy", "from", from)?, path),
            Some(other) => Err(format!("Unexpected kind: {other}")),
            None => Err("Unexpected kind: unknown".to_owned()),
        }
    }

    fn add(&mut self, path: &str, value: Option<Value>) -> Result<(), String> {
        self.nest(path)?;
        let target = find(&mut self.root, path).ok_or_else(|| {
            format!("add operation does not apply: doc is missing path: \"{path}\": missing value")
        })?;
        target
            .insert(value.unwrap_or_default())
            .map_err(|error| format!("error in add for path: '{path}': {error}"))
    }

    fn remove(&mut self, path: &str) -> Result<(), String> {
        let target = find(&mut self.root, path).ok_or_else(|| {
            format!("remove operation does not apply: doc is missing path: \"{path}\": missing value")
        })?;
        target.take().map(drop).map_err(|error| format!("error in remove for path: '{path}': {error}"))
    }

    fn replace(&mut self, path: &str, value: Option<Value>) -> Result<(), String> {
        let value = value.unwrap_or_default();
        if path.is_empty() {
            if !value.is_object() && !value.is_array() {
                return Err("replace operation value must be object or array".to_owned());
            }
            self.root = value;
            return Ok(());
        }
        self.nest(path)?;
        let target = find(&mut self.root, path).ok_or_else(|| {
            format!("replace operation does not apply: doc is missing path: {path}: missing value")
        })?;
        target.set(value).map_err(|_| {
            format!("replace operation does not apply: doc is missing key: {path}: missing value")
        })
    }

    fn rename(&mut self, from: &str, path: Option<String>) -> Result<(), String> {
        let source = find(&mut self.root, from).ok_or_else(|| {
            format!("move operation does not apply: doc is missing from path: {from}: missing value")
        })?;
        let key = source.key.clone();
        let value = source.take().map_err(|error| format!("error in move for path: '{key}': {error}"))?;
        let path = missing("move", "path", path)?;
        self.nest(&path)?;
        let target = find(&mut self.root, &path).ok_or_else(|| {
            format!("move operation does not apply: doc is missing destination path: {path}: missing value")
        })?;
        target.insert(value).map_err(|error| format!("error in move for path: '{path}': {error}"))
    }

    fn test(&mut self, path: &str, value: Option<&Value>) -> Result<(), String> {
        let wanted = value.unwrap_or(&Value::Null);
        let failed = || format!("testing value {path} failed: test failed");
        if path.is_empty() {
            return if self.root == *wanted { Ok(()) } else { Err(failed()) };
        }
        let target = find(&mut self.root, path).ok_or_else(|| {
            format!("test operation does not apply: is missing path: {path}: missing value")
        })?;
        let found = target.get().map_err(|error| format!("error in test for path: '{path}': {error}"))?;
        if found == wanted { Ok(()) } else { Err(failed()) }
    }

    fn copy(&mut self, from: &str, path: Option<String>) -> Result<(), String> {
        let source = find(&mut self.root, from).ok_or_else(|| {
            format!("copy operation does not apply: doc is missing from path: {from}: missing value")
        })?;
        let value =
            source.get().map_err(|error| format!("error in copy for from: '{from}': {error}"))?.clone();
        let path = path.ok_or("copy operation failed to decode path: missing value")?;
        self.copied += encoded_length(&value);
        if self.copied > MAX_COPIED {
            let copied = self.copied;
            return Err(format!(
                "Unable to complete the copy, the accumulated size increase of copy is {copied}, exceeding the limit {MAX_COPIED}"
            ));
        }
        self.nest(&path)?;
        let target = find(&mut self.root, &path).ok_or_else(|| {
            format!("copy operation does not apply: doc is missing destination path: {path}: missing value")
        })?;
        target.insert(value).map_err(|error| format!("error while adding value during copy: {error}"))
    }

    /// Refuses an operation that could nest the document too deep. Measuring is put off while a bound says enough.
    fn nest(&mut self, path: &str) -> Result<(), String> {
        // A value of the patch is at most 128 deep, one of the document at most as deep as the document.
        let added = path.bytes().filter(|b| *b == b'/').count();
        let bound = |depth: usize| depth.max(128) + added;
        if bound(self.depth_at_most) > MAX_DEPTH {
            self.depth_at_most = depth(&self.root);
        }
        self.depth_at_most = bound(self.depth_at_most);
        if self.depth_at_most > MAX_DEPTH { Err("exceeded max depth".to_owned()) } else { Ok(()) }
    }
}

fn missing(operation: &str, what: &str, text: Option<String>) -> Result<String, String> {
    let comma = if what == "from" { "," } else { "" };
    text.ok_or_else(|| {
        format!("{operation} operation failed to decode {what}: operation{comma} missing {what} field: missing value")
    })
}

/// A place in a document: an object or list, and a key in it.
struct Place<'a> {
    container: Container<'a>,
    key: String,
}

enum Container<'a> {
    Object(&'a mut Map<String, Value>),
    List(&'a mut Vec<Value>),
}

/// The place a JSON pointer names, whose container must exist.
fn find<'a>(root: &'a mut Value, path: &str) -> Option<Place<'a>> {
    // As upstream, what stands before the first slash does not count.
    let mut keys: Vec<String> =
        path.split('/').skip(1).map(|key| key.replace("~1", "/").replace("~0", "~")).collect();
    let key = keys.pop()?;
    let container = keys.iter().try_fold(root, |value, key| match value {
        Value::Object(fields) => fields.get_mut(key),
        Value::Array(items) => {
            let at = index(key, items.len()).ok()?;
            items.get_mut(at)
        }
        _ => None,
    })?;
    let container = match container {
        Value::Object(fields) => Container::Object(fields),
        Value::Array(items) => Container::List(items),
        _ => return None,
    };
    Some(Place { container, key })
}

/// An index of a list; negative ones count from the end.
fn index(key: &str, length: usize) -> Result<usize, String> {
    let index = number(key)?;
    let wrong = || format!("Unable to access invalid index: {index}: invalid index referenced");
    let at = match usize::try_from(index) {
        Ok(at) => Some(at),
        Err(_) => usize::try_from(index.unsigned_abs()).ok().and_then(|back| length.checked_sub(back)),
    };
    at.filter(|at| *at < length).ok_or_else(wrong)
}

fn number(key: &str) -> Result<i64, String> {
    key.parse().map_err(|_| format!("strconv.Atoi: parsing {}: invalid syntax", crate::quote::quote(key)))
}

impl<'a> Place<'a> {
    fn get(self) -> Result<&'a Value, String> {
        const NULL: &Value = &Value::Null;
        match self.container {
            Container::Object(fields) => Ok(fields.get(&self.key).unwrap_or(NULL)),
            Container::List(items) => index(&self.key, items.len()).map(|at| &items[at]),
        }
    }

    fn set(self, value: Value) -> Result<(), String> {
        match self.container {
            Container::Object(fields) => drop(fields.insert(self.key, value)),
            Container::List(items) => {
                let at = index(&self.key, items.len())?;
                items[at] = value;
            }
        }
        Ok(())
    }

    fn insert(self, value: Value) -> Result<(), String> {
        match self.container {
            Container::Object(fields) => drop(fields.insert(self.key, value)),
            Container::List(items) if self.key == "-" => items.push(value),
            Container::List(items) => {
                let key = &self.key;
                number(key)
                    .map_err(|error| format!("value was not a proper array index: '{key}': {error}"))?;
                let at = index(key, items.len() + 1)?;
                items.insert(at, value);
            }
        }
        Ok(())
    }

    fn take(self) -> Result<Value, String> {
        match self.container {
            Container::Object(fields) => {
                let key = &self.key;
                fields
                    .remove(key)
                    .ok_or_else(|| format!("Unable to remove nonexistent key: {key}: missing value"))
            }
            Container::List(items) => index(&self.key, items.len()).map(|at| items.remove(at)),
        }
    }
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Object(fields) => 1 + fields.values().map(depth).max().unwrap_or(0),
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

/// How many bytes a value has when it is encoded.
fn encoded_length(value: &Value) -> usize {
    struct Count(usize);

    impl std::io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    let mut count = Count(0);
    serde_json::to_writer(&mut count, value).map_or(usize::MAX, |()| count.0)
}

#[cfg(test)]
mod tests;
