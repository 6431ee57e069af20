//! YAML bodies: turned into JSON as upstream does, then decoded by the schema. Called by the HTTP layer for
//! `application/yaml`.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use serde_saphyr::{Budget, DuplicateKeyPolicy, Options};

use crate::json::{self, DecodeError, Decoded, Problem, Unknown};
use crate::schema::{Schema, TypeId};

#[cfg(test)]
mod tests;

/// Decodes the first document of a body as the given type. Aliases are expanded within a budget.
///
/// # Errors
/// See [`DecodeError`]; all of them are the client's fault (400).
pub fn decode(body: &[u8], schema: &Schema, id: TypeId, unknown: Unknown) -> Result<Decoded, DecodeError> {
    let body = first_document(body);
    let value =
        parse(body, DuplicateKeyPolicy::LastWins).map_err(|error| DecodeError::Yaml(describe(&error)))?;
    let decoded = json::decode(value.to_string().as_bytes(), schema, id, unknown);
    if unknown == Unknown::Ignore {
        return decoded;
    }
    let Err(serde_saphyr::Error::DuplicateMappingKey { key, location }) =
        parse(body, DuplicateKeyPolicy::Error)
    else {
        return decoded;
    };
    let (line, key) = (location.line(), key.unwrap_or_default());
    let text = format!("yaml: unmarshal errors:\n  line {line}: key {key:?} already set in map");
    report(decoded, Problem::Yaml(text), unknown)
}

/// Puts a duplicate key before the problems that the JSON decoder saw, as upstream does.
fn report(
    decoded: Result<Decoded, DecodeError>,
    duplicate: Problem,
    unknown: Unknown,
) -> Result<Decoded, DecodeError> {
    match decoded {
        Ok(_) if unknown == Unknown::Strict => Err(DecodeError::Strict(vec![duplicate])),
        Ok(mut decoded) => {
            decoded.problems.insert(0, duplicate);
            Ok(decoded)
        }
        Err(DecodeError::Strict(mut problems)) => {
            problems.insert(0, duplicate);
            Err(DecodeError::Strict(problems))
        }
        Err(other) => Err(other),
    }
}

/// What comes before the `---` that begins a second document: upstream reads no further.
fn first_document(body: &[u8]) -> &[u8] {
    let (mut begun, mut end) = (false, 0);
    for line in body.split_inclusive(|byte| *byte == b'\n') {
        let marker = line.starts_with(b"---") && line.get(3).is_none_or(u8::is_ascii_whitespace);
        if marker && begun {
            return &body[..end];
        }
        // Comments and directives may stand before a document.
        let content = line.trim_ascii().first().is_some_and(|first| !b"#%".contains(first));
        begun |= marker || content;
        end += line.len();
    }
    body
}

fn parse(body: &[u8], duplicates: DuplicateKeyPolicy) -> Result<Value, serde_saphyr::Error> {
    let mut budget = Budget::default();
    budget.max_depth = json::MAX_DEPTH;
    let options: Options = serde_saphyr::options! {
        budget: Some(budget),
        duplicate_keys: duplicates,
        legacy_octal_numbers: true,
        with_snippet: false,
    };
    let parsed: Parsed = serde_saphyr::from_slice_with_options(body, options)?;
    Ok(parsed.0)
}

fn describe(error: &serde_saphyr::Error) -> String {
    let error = error.without_snippet();
    match error.location() {
        Some(location) => format!("line {}: {error}", location.line()),
        None => error.to_string(),
    }
}

/// A YAML value as JSON: keys of any scalar type become text.
struct Parsed(Value);

impl<'de> serde::Deserialize<'de> for Parsed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Node.deserialize(deserializer).map(Parsed)
    }
}

#[derive(Clone, Copy)]
struct Node;

impl<'de> DeserializeSeed<'de> for Node {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        let number =
            Number::from_f64(value).ok_or_else(|| E::custom(format!("json: unsupported value: {value}")))?;
        Ok(Value::Number(number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(Node)? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some((key, value)) = entries.next_entry_seed(Node, Node)? {
            let key = match key {
                Value::String(text) => text,
                Value::Bool(_) | Value::Number(_) => key.to_string(),
                Value::Null | Value::Array(_) | Value::Object(_) => {
                    return Err(A::Error::custom("unsupported map key"));
                }
            };
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}
