//! Joins the sources into the text tables; `pkg/api/src/schema/parse.rs` documents and reads their grammar.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::openapi::{Definitions, Generated};
use super::{Package, golang};

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";

/// Messages that the codecs know by themselves, and the kinds the table calls them by.
const SPECIAL: &[(&str, &str)] = &[
    ("io.k8s.apimachinery.pkg.api.resource.Quantity", "quantity"),
    ("io.k8s.apimachinery.pkg.apis.meta.v1.Duration", "-"),
    ("io.k8s.apimachinery.pkg.apis.meta.v1.FieldsV1", "fieldsv1"),
    ("io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime", "microtime"),
    ("io.k8s.apimachinery.pkg.apis.meta.v1.Time", "time"),
    ("io.k8s.apimachinery.pkg.apis.meta.v1.Timestamp", "-"),
    ("io.k8s.apimachinery.pkg.apis.meta.v1.TypeMeta", "-"),
    ("io.k8s.apimachinery.pkg.apis.meta.v1.Verbs", "strings"),
    ("io.k8s.apimachinery.pkg.runtime.RawExtension", "raw"),
    ("io.k8s.apimachinery.pkg.util.intstr.IntOrString", "intorstring"),
    ("io.k8s.api.authentication.v1.AttestationValue", "strings"),
    ("io.k8s.api.authentication.v1.ExtraValue", "strings"),
    ("io.k8s.api.authorization.v1.ExtraValue", "strings"),
    ("io.k8s.api.certificates.v1.ExtraValue", "strings"),
    ("io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSON", "json"),
    ("io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrArray", "schema-or-schemas"),
    ("io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrBool", "schema-or-bool"),
    (
        "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrStringArray",
        "schema-or-strings",
    ),
];

/// Kinds that are registered but not published in OpenAPI.
const UNPUBLISHED: &[(&str, &str)] = &[
    ("CreateOptions", " kind=/v1/CreateOptions every-group"),
    ("GetOptions", " kind=/v1/GetOptions every-group"),
    ("List", " kind=/v1/List"),
    ("ListOptions", " kind=/v1/ListOptions every-group"),
    ("PartialObjectMetadata", " kind=meta.k8s.io/v1/PartialObjectMetadata"),
    ("PartialObjectMetadataList", " kind=meta.k8s.io/v1/PartialObjectMetadataList"),
    ("PatchOptions", " kind=/v1/PatchOptions every-group"),
    ("UpdateOptions", " kind=/v1/UpdateOptions every-group"),
];

/// The facts, one line a field.
pub(super) fn types(packages: &[Package], definitions: &Definitions) -> Result<String> {
    let mut out = String::from(
        "# The built-in kinds of Kubernetes v1.37. Written by `cargo xtask gen-schema`; do not edit.\n",
    );
    for package in packages {
        writeln!(out, "package {}", package.name)?;
        for name in package.enums.names() {
            let values = package.enums.values(name);
            ensure!(values.iter().all(|value| !value.contains(',')), "a value of {name} has a comma");
            writeln!(out, "enum {name} {}", values.join(","))?;
        }
        for name in package.structs.keys() {
            let full = format!("{}.{name}", package.name);
            let definition = definitions.get(&full);
            if special(&full).is_none() && is_wanted(package, name, definition) {
                write_type(&mut out, packages, package, name, definition).with_context(|| full.clone())?;
            }
        }
    }
    Ok(out)
}

/// Published types and, of meta/v1, those that travel as protobuf; of alpha packages only what a GA kind uses.
fn is_wanted(package: &Package, name: &str, definition: Option<&Value>) -> bool {
    match package.name.as_str() {
        META => definition.is_some() || package.messages.contains_key(name),
        "io.k8s.api.scheduling.v1alpha3" => {
            name.starts_with("WorkloadPodGroup") || name == "TopologyConstraint"
        }
        _ => definition.is_some(),
    }
}

/// The prose, one line a type or field: type, field (empty for the type), JSON text; separated by tabs.
/// Servers list the values of enumerations there, the published documents do not.
pub(super) fn descriptions(packages: &[Package], definitions: &Definitions, generated: &Generated) -> String {
    let mut out = String::new();
    for (name, definition) in definitions {
        let (package, short) = name.rsplit_once('.').unwrap_or_default();
        let known = packages.iter().find(|p| p.name == package);
        if special(name).is_none() && !known.is_some_and(|p| is_wanted(p, short, Some(definition))) {
            continue;
        }
        let mut line = |field: &str, schema: &Value| {
            let listed = generated.get(name, field).and_then(|found| found.description.as_deref());
            if let Some(text) = listed.or(schema["description"].as_str()) {
                out.push_str(&format!("{name}\t{field}\t{}\n", Value::from(text)));
            }
        };
        line("", definition);
        for (field, schema) in definition["properties"].as_object().into_iter().flatten() {
            line(field, schema);
        }
    }
    out
}

fn special(name: &str) -> Option<&'static str> {
    SPECIAL.iter().find(|(special, _)| *special == name).map(|(_, kind)| *kind)
}

fn write_type(
    out: &mut String,
    packages: &[Package],
    package: &Package,
    name: &str,
    definition: Option<&Value>,
) -> Result<()> {
    write!(out, "type {name}")?;
    match definition {
        Some(definition) => type_attributes(out, definition)?,
        None => out.push_str(UNPUBLISHED.iter().find(|(n, _)| *n == name).map_or("", |(_, a)| *a)),
    }
    out.push('\n');

    let mut lines = BTreeMap::new();
    fields(package, name, "", &mut lines)?;
    let Some(definition) = definition else {
        lines.values().for_each(|line| *out += &format!("  {line}\n"));
        return Ok(());
    };
    let empty = serde_json::Map::new();
    let properties = definition["properties"].as_object().unwrap_or(&empty);
    let published: Vec<&String> = properties.keys().collect();
    ensure!(
        published == lines.keys().collect::<Vec<_>>(),
        "Go and OpenAPI differ: {published:?} and {lines:?}"
    );
    let enums = enums(packages, package, name);
    for (field, line) in &lines {
        let mut facts = attributes(&properties[field], line)?;
        if let Some(found) = enums.get(field) {
            let place = if found.owner.name == package.name { "" } else { &format!("{}.", found.owner.name) };
            write!(facts, " enum={place}{}", found.name)?;
        }
        let required = definition["required"].as_array().is_some_and(|r| r.iter().any(|r| r == field));
        writeln!(out, "  {line}{}{}", if required { " required" } else { "" }, facts)?;
    }
    Ok(())
}

fn type_attributes(out: &mut String, definition: &Value) -> Result<()> {
    let kinds = definition["x-kubernetes-group-version-kind"].as_array();
    // Published once for every group and version.
    let every_group = kinds.is_some_and(|kinds| kinds.len() > 5);
    for kind in kinds.into_iter().flatten() {
        let text = |key: &str| kind[key].as_str().unwrap_or_default();
        if !every_group || text("group").is_empty() {
            write!(out, " kind={}/{}/{}", text("group"), text("version"), text("kind"))?;
        }
    }
    if every_group {
        out.push_str(" every-group");
    }
    if definition["x-kubernetes-map-type"] == "atomic" {
        out.push_str(" atomic");
    }
    if let Some(unions) = definition.get("x-kubernetes-unions") {
        write!(out, " unions={unions}")?;
    }
    Ok(())
}

/// Collects the struct's fields by JSON name, those of inlined structs included. `prefix` holds the numbers of the
/// inlined structs on the way, `2.2.`.
fn fields(package: &Package, name: &str, prefix: &str, lines: &mut BTreeMap<String, String>) -> Result<()> {
    let fields = &package.structs.get(name).with_context(|| format!("no Go struct {name}"))?.fields;
    for field in fields {
        match &field.json {
            None if field.go_type.ends_with("TypeMeta") => {
                for name in ["apiVersion", "kind"] {
                    lines.insert(name.to_owned(), format!("{name} - string nonzero"));
                }
            }
            None => {
                self::fields(package, &field.go_type, &format!("{prefix}{}.", field.number), lines)?;
            }
            Some(json) => {
                let kind = kind(package, name, field).with_context(|| json.clone())?;
                let number =
                    if field.number == 0 { "-".to_owned() } else { format!("{prefix}{}", field.number) };
                let presence = presence(field, &kind);
                lines.insert(json.clone(), format!("{json} {number} {kind} {presence}"));
            }
        }
    }
    Ok(())
}

/// The enumeration that a field is or holds.
struct FieldEnum<'a> {
    owner: &'a Package,
    name: &'a str,
}

/// The enumerations among the fields of a struct by JSON name, those of inlined structs included.
fn enums<'a>(
    packages: &'a [Package],
    package: &'a Package,
    struct_name: &str,
) -> BTreeMap<String, FieldEnum<'a>> {
    let mut found = BTreeMap::new();
    for field in package.structs.get(struct_name).into_iter().flat_map(|known| &known.fields) {
        match &field.json {
            None => found.extend(enums(packages, package, &field.go_type)),
            Some(json) => found.extend(
                enum_of(packages, package, &field.go_type).map(|field_enum| (json.clone(), field_enum)),
            ),
        }
    }
    found
}

fn enum_of<'a>(packages: &'a [Package], package: &'a Package, go_type: &'a str) -> Option<FieldEnum<'a>> {
    let element = go_type.rsplit(']').next()?.trim_start_matches('*');
    let (owner, name) = match element.split_once('.') {
        None => (package, element),
        Some((import, name)) => {
            let path = super::package_name(package.enums.import(import)?);
            (packages.iter().find(|package| package.name == path)?, name)
        }
    };
    let known = owner.enums.names().any(|known| known == name) && !owner.enums.values(name).is_empty();
    known.then_some(FieldEnum { owner, name })
}

/// Go keeps a struct value whatever `omitempty` says; `omitzero` drops it.
fn presence(field: &golang::Field, kind: &str) -> &'static str {
    const SCALARS: &[&str] = &["bool", "int32", "int64", "double", "string", "bytes", "strings"];
    let empties = SCALARS.contains(&kind) || kind.starts_with(['[', '{']);
    if field.go_type.starts_with('*') {
        "optional"
    } else if field.omitzero || field.omitempty && empties {
        "nonzero"
    } else {
        "always"
    }
}

fn kind(package: &Package, message: &str, field: &golang::Field) -> Result<String> {
    let Some(message) = package.messages.get(message) else { return go_kind(&field.go_type) };
    let declared =
        message.get(&field.number).with_context(|| format!("no protobuf field {}", field.number))?;
    if let Some(value) = declared.strip_prefix("map<string, ").and_then(|v| v.strip_suffix('>')) {
        return Ok(format!("{{{}}}", proto_kind(package, value)));
    }
    match declared.split_once(' ') {
        Some(("optional" | "required", kind)) => Ok(proto_kind(package, kind)),
        Some(("repeated", kind)) => Ok(format!("[{}]", proto_kind(package, kind))),
        _ => bail!("unknown protobuf field {declared:?}"),
    }
}

fn proto_kind(package: &Package, name: &str) -> String {
    if ["bool", "int32", "int64", "double", "string", "bytes"].contains(&name) {
        return name.to_owned();
    }
    let local = !name.starts_with('.');
    let full = if local {
        format!("{}.{name}", package.name)
    } else {
        name.replacen(".k8s.io.", "io.k8s.", 1)
            .replace("apiextensions_apiserver", "apiextensions-apiserver")
            .replace("kube_aggregator", "kube-aggregator")
    };
    match special(&full) {
        Some(kind) => kind.to_owned(),
        None if local => name.to_owned(),
        None => full,
    }
}

/// For the few types without protobuf.
fn go_kind(go_type: &str) -> Result<String> {
    match go_type {
        "string" | "bool" | "int32" | "int64" => Ok(go_type.to_owned()),
        _ => bail!("no protobuf message, and {go_type} is not a basic type"),
    }
}

fn attributes(schema: &Value, line: &str) -> Result<String> {
    let mut out = String::new();
    let text = |key: &str| schema[key].as_str();
    if let Some(list) = text("x-kubernetes-list-type") {
        write!(out, " list={list}")?;
    }
    if let Some(keys) = schema["x-kubernetes-list-map-keys"].as_array() {
        let keys: Vec<&str> = keys.iter().filter_map(Value::as_str).collect();
        write!(out, " keys={}", keys.join(","))?;
    }
    if let Some(map) = text("x-kubernetes-map-type") {
        write!(out, " map={map}")?;
    }
    if let Some(strategy) = text("x-kubernetes-patch-strategy") {
        write!(out, " patch={strategy}")?;
    }
    if let Some(key) = text("x-kubernetes-patch-merge-key") {
        write!(out, " patchkey={key}")?;
    }
    if let Some(default) = schema.get("default").filter(|default| !is_implied(default, line)) {
        let default = default.to_string();
        ensure!(!default.contains(' '), "the default {default} has a space");
        write!(out, " default={default}")?;
    }
    Ok(out)
}

/// A field that is always there has its zero as default; the reader of the table knows.
fn is_implied(default: &Value, line: &str) -> bool {
    let zero = default == "" || *default == 0 || *default == false || *default == serde_json::json!({});
    zero && line.ends_with(" always")
}
