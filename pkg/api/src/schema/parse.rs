//! Reads the text table of types; called by `Schema::builtin` and for a custom resource's own table.
//!
//! ```text
//! package io.k8s.api.core.v1
//! enum Protocol SCTP,TCP,UDP
//! type Pod kind=/v1/Pod
//!   metadata 1 io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta always default={}
//!   spec 2 PodSpec always
//! ```
//!
//! A field's line: JSON name, number (`-` none, `2.5` number 5 inside embedded message 2), kind (`[k]` list, `{k}`
//! map), presence, then attributes. A type or enumeration without a dot is in the same package.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use super::{
    Alternative, Field, FieldKind, FreeForm, GroupVersionKind, ListType, Name, PatchStrategy, Presence,
    Schema, Type, TypeId,
};

/// A line that breaks the table's grammar.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("schema table line {line}: {problem}")]
pub struct ParseError {
    line: usize,
    problem: String,
}

/// What a field's line may name.
struct Names {
    types: HashMap<String, TypeId>,
    /// The values of enumerations.
    enums: HashMap<String, &'static str>,
}

impl Schema {
    /// Reads a table whose text lives as long as the program.
    ///
    /// # Errors
    /// The first line that breaks the grammar or names a type that is not in the table.
    pub fn parse(text: &'static str) -> Result<Schema, ParseError> {
        let names = names(text)?;
        let mut types = Vec::with_capacity(names.types.len());
        let mut package = "";
        let mut fields = Vec::new();
        for (at, line) in text.lines().enumerate() {
            let wrong = |problem: String| ParseError { line: at + 1, problem };
            match line.split_once(' ') {
                Some(("package", name)) => package = name,
                Some(("type", rest)) => {
                    finish(&mut types, &mut fields);
                    types.push(parse_type(package, rest).map_err(wrong)?);
                }
                Some(("", rest)) => {
                    fields.push(parse_field(&names, package, rest.trim_start()).map_err(wrong)?)
                }
                _ => {}
            }
        }
        finish(&mut types, &mut fields);
        types.sort_by(|a, b| a.name.cmp(&b.name));
        let mut hasher = DefaultHasher::new();
        text.hash(&mut hasher);
        Ok(Schema { kinds: kinds(&types), types: types.into(), fingerprint: hasher.finish() })
    }
}

/// Ids are positions in order of name.
fn names(text: &'static str) -> Result<Names, ParseError> {
    let mut types = Vec::new();
    let mut enums = HashMap::new();
    let mut package = "";
    for line in text.lines() {
        match line.split_once(' ') {
            Some(("package", name)) => package = name,
            Some(("enum", rest)) => {
                let (name, values) = rest.split_once(' ').unwrap_or((rest, ""));
                enums.insert(qualify(package, name), values);
            }
            Some(("type", rest)) => types.push(qualify(package, rest.split(' ').next().unwrap_or_default())),
            _ => {}
        }
    }
    types.sort();
    if types.len() > usize::from(u16::MAX) {
        return Err(ParseError { line: 0, problem: "too many types".to_owned() });
    }
    Ok(Names { types: types.into_iter().zip((0..).map(TypeId)).collect(), enums })
}

fn qualify(package: &str, name: &str) -> String {
    if name.contains('.') { name.to_owned() } else { format!("{package}.{name}") }
}

fn parse_type(package: &str, line: &'static str) -> Result<Type, String> {
    let mut words = line.split(' ');
    let name = words.next().unwrap_or_default();
    let mut parsed = Type {
        name: qualify(package, name).into(),
        kinds: Box::default(),
        every_group: false,
        atomic: false,
        unions: None,
        fields: Box::default(),
        by_number: Box::default(),
        always: Box::default(),
    };
    let mut kinds = Vec::new();
    for word in words {
        match word.split_once('=') {
            Some(("kind", gvk)) => kinds.push(parse_kind(gvk)?),
            Some(("unions", json)) => parsed.unions = Some(json.into()),
            None if word == "every-group" => parsed.every_group = true,
            None if word == "atomic" => parsed.atomic = true,
            _ => return Err(format!("unknown attribute {word:?}")),
        }
    }
    parsed.kinds = kinds.into();
    Ok(parsed)
}

fn parse_kind(text: &'static str) -> Result<GroupVersionKind, String> {
    let mut parts = text.splitn(3, '/').map(Name::Borrowed);
    match (parts.next(), parts.next(), parts.next()) {
        (Some(group), Some(version), Some(kind)) => Ok(GroupVersionKind { group, version, kind }),
        _ => Err(format!("{text:?} is not group/version/kind")),
    }
}

fn parse_field(names: &Names, package: &str, line: &'static str) -> Result<Field, String> {
    let mut words = line.split(' ');
    let mut next = |what: &str| words.next().ok_or_else(|| format!("missing {what}"));
    let name = next("name")?;
    let wire = parse_number(next("number")?)?;
    let kind = parse_field_kind(names, package, next("kind")?)?;
    let presence = match next("presence")? {
        "optional" => Presence::Optional,
        "nonzero" => Presence::NonZero,
        "always" => Presence::Always,
        other => return Err(format!("unknown presence {other:?}")),
    };
    let mut field = Field { name: name.into(), kind, wire, presence, required: false, extra: None };
    for word in words {
        parse_attribute(names, package, &mut field, word)?;
    }
    Ok(field)
}

fn parse_attribute(
    names: &Names,
    package: &str,
    field: &mut Field,
    word: &'static str,
) -> Result<(), String> {
    if word == "required" {
        field.required = true;
        return Ok(());
    }
    let extra = field.extra.get_or_insert_default();
    match word.split_once('=') {
        Some(("default", json)) => extra.default = Some(json.into()),
        Some(("enum", name)) => {
            let values = names.enums.get(&qualify(package, name));
            extra.values = Some((*values.ok_or_else(|| format!("{name:?} is not in the table"))?).into());
        }
        Some(("keys", keys)) => extra.map_keys = keys.split(',').map(Name::Borrowed).collect(),
        Some(("patchkey", key)) => extra.patch_key = Some(key.into()),
        Some(("list", kind)) => extra.list_type = Some(parse_list_type(kind)?),
        Some(("patch", strategy)) => extra.patch_strategy = parse_strategy(strategy)?,
        Some(("map", kind @ ("atomic" | "granular"))) => extra.map_type = Some(kind.into()),
        _ => return Err(format!("unknown attribute {word:?}")),
    }
    Ok(())
}

fn parse_number(text: &str) -> Result<[u16; 3], String> {
    let mut wire = [0; 3];
    if text == "-" {
        return Ok(wire);
    }
    let mut slots = wire.iter_mut();
    for number in text.split('.') {
        let slot = slots.next().ok_or_else(|| format!("{text:?} is nested too deeply"))?;
        *slot = number.parse().map_err(|_| format!("{text:?} is not a field number"))?;
    }
    Ok(wire)
}

fn parse_field_kind(names: &Names, package: &str, text: &str) -> Result<FieldKind, String> {
    let inner = |open, close| text.strip_prefix(open).and_then(|t| t.strip_suffix(close));
    if let Some(item) = inner('[', ']') {
        return Ok(FieldKind::List(Box::new(parse_field_kind(names, package, item)?)));
    }
    if let Some(value) = inner('{', '}') {
        return Ok(FieldKind::Map(Box::new(parse_field_kind(names, package, value)?)));
    }
    let message = |name: &str| {
        names
            .types
            .get(&qualify(package, name))
            .copied()
            .ok_or_else(|| format!("{name:?} is not in the table"))
    };
    Ok(match text {
        "bool" => FieldKind::Bool,
        "int32" => FieldKind::Int32,
        "int64" => FieldKind::Int64,
        "double" => FieldKind::Double,
        "string" => FieldKind::String,
        "bytes" => FieldKind::Bytes,
        "time" => FieldKind::Time,
        "microtime" => FieldKind::MicroTime,
        "quantity" => FieldKind::Quantity,
        "intorstring" => FieldKind::IntOrString,
        "raw" => FieldKind::Json(FreeForm::RawExtension),
        "fieldsv1" => FieldKind::Json(FreeForm::FieldsV1),
        "json" => FieldKind::Json(FreeForm::Any),
        "strings" => FieldKind::Strings,
        "schema-or-bool" => FieldKind::SchemaOr(Alternative::Bool, message("JSONSchemaProps")?),
        "schema-or-schemas" => FieldKind::SchemaOr(Alternative::Schemas, message("JSONSchemaProps")?),
        "schema-or-strings" => FieldKind::SchemaOr(Alternative::Strings, message("JSONSchemaProps")?),
        name => FieldKind::Message(message(name)?),
    })
}

fn parse_list_type(text: &str) -> Result<ListType, String> {
    match text {
        "atomic" => Ok(ListType::Atomic),
        "set" => Ok(ListType::Set),
        "map" => Ok(ListType::Map),
        _ => Err(format!("unknown list type {text:?}")),
    }
}

fn parse_strategy(text: &str) -> Result<PatchStrategy, String> {
    match text {
        "merge" => Ok(PatchStrategy::Merge),
        "retainKeys" => Ok(PatchStrategy::RetainKeys),
        "merge,retainKeys" => Ok(PatchStrategy::MergeRetainKeys),
        "replace" => Ok(PatchStrategy::Replace),
        _ => Err(format!("unknown patch strategy {text:?}")),
    }
}

/// Gives the last type the fields read since its line.
fn finish(types: &mut [Type], fields: &mut Vec<Field>) {
    let Some(last) = types.last_mut() else { return };
    let mut fields = std::mem::take(fields);
    fields.sort_by(|a, b| a.name.cmp(&b.name));
    let positions = || (0..).zip(&fields);
    let mut by_number: Vec<u16> = positions().filter(|(_, f)| f.wire[0] > 0).map(|(at, _)| at).collect();
    by_number.sort_by_key(|&at| fields[usize::from(at)].wire);
    last.by_number = by_number.into();
    last.always = positions().filter(|(_, f)| f.presence == Presence::Always).map(|(at, _)| at).collect();
    last.fields = fields.into();
}

fn kinds(types: &[Type]) -> Box<[(GroupVersionKind, TypeId)]> {
    let mut kinds: Vec<_> = (0..)
        .map(TypeId)
        .zip(types)
        .flat_map(|(id, t)| t.kinds.iter().map(move |k| (k.clone(), id)))
        .collect();
    kinds.sort();
    kinds.into()
}
