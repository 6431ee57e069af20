//! The schema: what every kind looks like, as data. The codecs, patches, defaulting, Table output and OpenAPI are
//! engines over these types; no kind has code of its own here. `Schema::builtin` is the published v1.37 API, read
//! from `schema/types.txt` (written by `cargo xtask gen-schema`); a custom resource brings a `Schema` of its own.

mod canonical;
mod parse;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::fmt;
use std::sync::LazyLock;

pub use canonical::{complete, insert, zero};
pub use parse::ParseError;

/// A name in a schema: borrowed from the table in the binary for built-ins, owned for custom resources.
pub type Name = Cow<'static, str>;

/// Names a type inside one [`Schema`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TypeId(u16);

/// A set of message types that refer to each other by [`TypeId`].
#[derive(Debug)]
pub struct Schema {
    /// Sorted by name.
    types: Box<[Type]>,
    /// Sorted by group, version and kind.
    kinds: Box<[(GroupVersionKind, TypeId)]>,
    /// Differs between tables of different text.
    fingerprint: u64,
}

/// A message: an object kind or a part of one.
#[derive(Debug)]
pub struct Type {
    /// The OpenAPI definition's name, `io.k8s.api.core.v1.Pod`.
    pub name: Name,
    /// The kinds this type is registered as; empty for parts.
    pub kinds: Box<[GroupVersionKind]>,
    /// Registered in every group and version too (`DeleteOptions`, `WatchEvent`).
    pub every_group: bool,
    /// Patches and appliers replace the message as a whole (`x-kubernetes-map-type: atomic`).
    pub atomic: bool,
    /// `x-kubernetes-unions` as JSON.
    pub unions: Option<Name>,
    /// Sorted by JSON name.
    pub fields: Box<[Field]>,
    /// Indexes into `fields` of those on the wire, by `wire`.
    by_number: Box<[u16]>,
    /// Indexes into `fields` of those with `Presence::Always`.
    always: Box<[u16]>,
}

/// A field of a message.
#[derive(Debug)]
pub struct Field {
    /// The JSON name.
    pub name: Name,
    /// What the field holds.
    pub kind: FieldKind,
    /// The protobuf field number, after those of the embedded messages that JSON inlines: `[4, 0, 0]`, or `[2, 4, 0]`
    /// for number 4 inside embedded message 2. Zeros when the field is not on the wire (apiVersion and kind travel in
    /// the envelope).
    pub wire: [u16; 3],
    /// When canonical JSON holds the field.
    pub presence: Presence,
    /// Listed under the type's `required`.
    pub required: bool,
    extra: Option<Box<Extra>>,
}

/// What only some fields have.
#[derive(Debug, Default)]
struct Extra {
    list_type: Option<ListType>,
    map_keys: Box<[Name]>,
    patch_key: Option<Name>,
    patch_strategy: PatchStrategy,
    map_type: Option<Name>,
    default: Option<Name>,
    /// Separated by commas.
    values: Option<Name>,
}

/// What a field, list element or map value holds. Map keys are always strings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FieldKind {
    /// `true` or `false`.
    Bool,
    /// A 32-bit integer.
    Int32,
    /// A 64-bit integer.
    Int64,
    /// A floating-point number.
    Double,
    /// Text.
    String,
    /// Base64 in JSON, raw bytes in protobuf.
    Bytes,
    /// RFC 3339 in seconds.
    Time,
    /// RFC 3339 in microseconds.
    MicroTime,
    /// `100m`, `2Gi`; canonical as upstream prints it.
    Quantity,
    /// An int32 or text.
    IntOrString,
    /// Any JSON; kept as it came.
    Json(FreeForm),
    /// A list of text that protobuf wraps in a message (`ExtraValue`, `Verbs`).
    Strings,
    /// A JSON schema or something shorter (`JSONSchemaPropsOrBool` and its like). The id is `JSONSchemaProps`.
    SchemaOr(Alternative, TypeId),
    /// A message.
    Message(TypeId),
    /// A list.
    List(Box<FieldKind>),
    /// A map from text.
    Map(Box<FieldKind>),
}

/// Which of upstream's free-form types a field is; they differ only in OpenAPI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FreeForm {
    /// `RawExtension`: an object of some kind.
    RawExtension,
    /// `FieldsV1`: a set of field paths.
    FieldsV1,
    /// `JSON`: any value.
    Any,
}

/// What may stand in place of a JSON schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alternative {
    /// `true` or `false`.
    Bool,
    /// A list of schemas.
    Schemas,
    /// A list of text.
    Strings,
}

/// When canonical JSON holds a field; what a Go struct's pointers and `omitempty` say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// When it was given, even if zero (a pointer).
    Optional,
    /// When it is not zero or empty (a value with `omitempty`).
    NonZero,
    /// Always (a value without `omitempty`, or a struct value). Empty lists and maps are left out all the same.
    Always,
}

/// `x-kubernetes-list-type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListType {
    /// Replaced as a whole.
    Atomic,
    /// Merged by value.
    Set,
    /// Merged by key fields.
    Map,
}

/// `x-kubernetes-patch-strategy`: what a strategic merge patch does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PatchStrategy {
    /// Lists are replaced, messages and maps merged.
    #[default]
    Default,
    /// Lists are merged, by `patch_key` or by value.
    Merge,
    /// The message's fields not in the patch are dropped.
    RetainKeys,
    /// Both.
    MergeRetainKeys,
    /// The field is replaced as a whole.
    Replace,
}

/// Group, version and kind; the core group is empty.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupVersionKind {
    /// `apps`; empty for core.
    pub group: Name,
    /// `v1`.
    pub version: Name,
    /// `Deployment`.
    pub kind: Name,
}

impl Schema {
    /// The published v1.37 API. The first call reads the table (about a millisecond).
    pub fn builtin() -> &'static Schema {
        static BUILTIN: LazyLock<Schema> = LazyLock::new(|| {
            Schema::parse(include_str!("../schema/types.txt"))
                .expect("the table in the binary is well-formed")
        });
        &BUILTIN
    }

    /// A number that differs between schemas of different content.
    pub fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    /// The type with that id.
    pub fn get(&self, id: TypeId) -> &Type {
        &self.types[usize::from(id.0)]
    }

    /// The type with that OpenAPI definition name.
    pub fn by_name(&self, name: &str) -> Option<TypeId> {
        let at = self.types.binary_search_by(|t| (*t.name).cmp(name)).ok()?;
        Some(TypeId(u16::try_from(at).ok()?))
    }

    /// The type registered as that kind.
    pub fn by_kind(&self, group: &str, version: &str, kind: &str) -> Option<TypeId> {
        let key = (group, version, kind);
        let at = self.kinds.binary_search_by(|(k, _)| (&*k.group, &*k.version, &*k.kind).cmp(&key)).ok()?;
        Some(self.kinds[at].1)
    }

    /// The type registered as that kind, from an object's `apiVersion` (`apps/v1`, `v1`).
    pub fn by_api_version(&self, api_version: &str, kind: &str) -> Option<TypeId> {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        self.by_kind(group, version, kind)
    }

    /// Every type, in order of name.
    pub fn types(&self) -> impl Iterator<Item = (TypeId, &Type)> {
        (0..).map(TypeId).zip(&self.types)
    }
}

impl Type {
    /// The field with that JSON name. Names are case-sensitive.
    pub fn field(&self, name: &str) -> Option<&Field> {
        Some(&self.fields[self.position(name)?])
    }

    /// The index in `fields` of the field with that JSON name.
    pub fn position(&self, name: &str) -> Option<usize> {
        self.fields.binary_search_by(|f| (*f.name).cmp(name)).ok()
    }

    /// The fields on the wire, in the order upstream writes them; fields of one embedded message stand together.
    pub fn by_number(&self) -> impl Iterator<Item = &Field> {
        self.by_number.iter().map(|&at| &self.fields[usize::from(at)])
    }

    /// The field at that place on the wire.
    pub(crate) fn by_wire(&self, wire: [u16; 3]) -> Option<&Field> {
        let field = |at: &u16| &self.fields[usize::from(*at)];
        let found = self.by_number.binary_search_by_key(&wire, |at| field(at).wire).ok()?;
        Some(field(&self.by_number[found]))
    }

    /// There is an embedded message at that place on the wire, whose fields JSON inlines.
    pub(crate) fn embeds(&self, path: &[u16]) -> bool {
        self.by_number().any(|field| field.wire.starts_with(path))
    }

    /// The name as Go prints it in errors: `v1.PodSpec`.
    pub fn go_name(&self) -> &str {
        let mut dots = self.name.rmatch_indices('.');
        dots.nth(1).map_or(&*self.name, |(at, _)| &self.name[at + 1..])
    }

    /// The name without its package: `PodSpec`.
    pub fn short_name(&self) -> &str {
        self.name.rsplit('.').next().unwrap_or(&self.name)
    }

    fn always(&self) -> impl Iterator<Item = &Field> {
        self.always.iter().map(|&at| &self.fields[usize::from(at)])
    }
}

impl Field {
    /// How lists merge under server-side apply.
    pub fn list_type(&self) -> Option<ListType> {
        self.extra.as_ref()?.list_type
    }

    /// The key fields of a list of `ListType::Map`.
    pub fn map_keys(&self) -> &[Name] {
        self.extra.as_ref().map_or(&[], |e| &e.map_keys)
    }

    /// The key field by which a strategic merge patch merges the list.
    pub fn patch_key(&self) -> Option<&str> {
        self.extra.as_ref()?.patch_key.as_deref()
    }

    /// What a strategic merge patch does with the field.
    pub fn patch_strategy(&self) -> PatchStrategy {
        self.extra.as_ref().map_or(PatchStrategy::Default, |e| e.patch_strategy)
    }

    /// The map is replaced as a whole under server-side apply.
    pub fn atomic_map(&self) -> bool {
        self.map_type() == Some("atomic")
    }

    /// `x-kubernetes-map-type` as published.
    pub fn map_type(&self) -> Option<&str> {
        self.extra.as_ref()?.map_type.as_deref()
    }

    /// The values that the field, its elements or its values may have, in order; none when any text will do.
    pub fn values(&self) -> impl Iterator<Item = &str> {
        self.extra.iter().filter_map(|extra| extra.values.as_deref()).flat_map(|values| values.split(','))
    }

    /// The default published in OpenAPI v3, as JSON. Fields that are always there have their zero.
    pub fn default(&self) -> Option<&str> {
        match (self.extra.as_ref().and_then(|e| e.default.as_deref()), self.presence) {
            (Some(default), _) => Some(default),
            (None, Presence::Always) => self.kind.zero_text(),
            (None, _) => None,
        }
    }
}

impl FieldKind {
    /// The zero that upstream publishes as a default.
    fn zero_text(&self) -> Option<&'static str> {
        match self {
            Self::Bool => Some("false"),
            Self::Int32 | Self::Int64 => Some("0"),
            Self::String => Some("\"\""),
            Self::Message(_) => Some("{}"),
            _ => None,
        }
    }
}

impl PatchStrategy {
    /// Lists are merged instead of replaced.
    pub fn merges(self) -> bool {
        matches!(self, Self::Merge | Self::MergeRetainKeys)
    }

    /// Fields of the message that are not in the patch are dropped.
    pub fn retains_keys(self) -> bool {
        matches!(self, Self::RetainKeys | Self::MergeRetainKeys)
    }

    /// The OpenAPI text, `None` for the default.
    pub fn as_str(self) -> Option<&'static str> {
        match self {
            Self::Default => None,
            Self::Merge => Some("merge"),
            Self::RetainKeys => Some("retainKeys"),
            Self::MergeRetainKeys => Some("merge,retainKeys"),
            Self::Replace => Some("replace"),
        }
    }
}

impl ListType {
    /// The OpenAPI text.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Atomic => "atomic",
            Self::Set => "set",
            Self::Map => "map",
        }
    }
}

impl GroupVersionKind {
    /// `apps/v1`, or `v1` in the core group.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.to_string()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }
}

impl fmt::Display for GroupVersionKind {
    /// As upstream prints it: `apps/v1, Kind=Deployment`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}, Kind={}", self.group, self.version, self.kind)
    }
}
