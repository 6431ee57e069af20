//! The schema-directed decoder: one pass from text to the canonical `Value` of a type.

use std::fmt::Write as _;

use serde_json::{Map, Value};

use super::scalar;
use super::scan::{MAX_DEPTH, Scanner, Token, number};
use super::{DecodeError, Decoded, MAX_PROBLEMS, Problem, SyntaxError};
use crate::schema::{self, Alternative, Field, FieldKind, Schema, Type, TypeId};

type Result<T, E = DecodeError> = std::result::Result<T, E>;

/// Decodes a whole text as the given type.
pub(super) fn decode(text: &str, schema: &Schema, id: TypeId) -> Result<Decoded> {
    let mut decoder = Decoder { schema, scanner: Scanner::new(text), problems: Vec::new(), muted: 0 };
    let value = decoder.document(id).map_err(|error| first_error(text, error))?;
    Ok(Decoded { value, problems: decoder.problems })
}

/// Go checks a text's syntax before it looks at types, so a syntax error further on comes first.
fn first_error(text: &str, error: DecodeError) -> DecodeError {
    let mut scanner = Scanner::new(text);
    match scanner.value(0).and_then(|_| scanner.end()) {
        Err(syntax) => syntax.into(),
        Ok(()) => error,
    }
}

struct Decoder<'a> {
    schema: &'a Schema,
    scanner: Scanner<'a>,
    problems: Vec<Problem>,
    /// Above zero inside `JSONSchemaPropsOr...`: upstream does not report problems there.
    muted: usize,
}

/// Where the decoder is, from the innermost step outwards; spelled out only when something is wrong.
#[derive(Clone, Copy)]
struct Path<'a> {
    outer: Option<&'a Path<'a>>,
    step: Step<'a>,
    depth: usize,
}

#[derive(Clone, Copy)]
enum Step<'a> {
    Root,
    Field(&'a Type, &'a str),
    Key(&'a str),
    Index(usize),
}

impl<'a> Path<'a> {
    fn enter(&'a self, step: Step<'a>) -> Path<'a> {
        Path { outer: Some(self), step, depth: self.depth + 1 }
    }

    /// `spec.containers[0].name`, as strict errors name fields.
    fn full(&self) -> String {
        let mut out = self.outer.map_or_else(String::new, Path::full);
        match self.step {
            Step::Root => {}
            Step::Index(index) => write!(out, "[{index}]").expect("a String takes everything"),
            Step::Field(_, name) | Step::Key(name) => {
                if !out.is_empty() {
                    out.push('.');
                }
                out.push_str(name);
            }
        }
        out
    }

    /// `spec.containers.name`: Go's type errors leave out keys and indexes.
    fn fields(&self) -> String {
        let mut out = self.outer.map_or_else(String::new, Path::fields);
        if let Step::Field(_, name) = self.step {
            if !out.is_empty() {
                out.push('.');
            }
            out.push_str(name);
        }
        out
    }

    /// `struct field PodSpec.spec.replicas`, or `value` outside of any field.
    fn place(&self) -> String {
        let mut at = Some(self);
        while let Some(path) = at {
            if let Step::Field(message, _) = path.step {
                return format!("struct field {}.{}", message.short_name(), self.fields());
            }
            at = path.outer;
        }
        "value".to_owned()
    }
}

impl<'a> Decoder<'a> {
    fn document(&mut self, id: TypeId) -> Result<Value> {
        let root = Path { outer: None, step: Step::Root, depth: 0 };
        let value = match self.scanner.token()? {
            Token::Null => {
                self.scanner.null()?;
                schema::zero(self.schema, &FieldKind::Message(id)).unwrap_or_default()
            }
            token => self.message(id, token, &root)?,
        };
        self.scanner.end()?;
        Ok(value)
    }

    /// A value of the given kind; null comes back as `Value::Null`.
    fn value(&mut self, kind: &FieldKind, path: &Path<'_>) -> Result<Value> {
        let token = self.scanner.token()?;
        if path.depth > MAX_DEPTH {
            return Err(SyntaxError::too_deep(token).into());
        }
        if token == Token::Null {
            self.scanner.null()?;
            return Ok(Value::Null);
        }
        match kind {
            FieldKind::Message(id) => self.message(*id, token, path),
            FieldKind::List(item) => self.list(item, token, path),
            FieldKind::Strings => self.list(&FieldKind::String, token, path),
            FieldKind::Map(value) => self.map(value, token, path),
            FieldKind::Json(_) => Ok(self.scanner.value(path.depth)?),
            FieldKind::SchemaOr(alternative, id) => {
                self.muted += 1;
                let value = self.schema_or(*alternative, *id, token, path);
                self.muted -= 1;
                value
            }
            _ => self.scalar(kind, token, path),
        }
    }

    fn message(&mut self, id: TypeId, token: Token, path: &Path<'_>) -> Result<Value> {
        let message_type = self.schema.get(id);
        if token != Token::Object {
            return Err(self.wrong_type(&FieldKind::Message(id), token, path));
        }
        let mut message = Map::new();
        let mut seen = 0u128;
        let mut first = true;
        self.scanner.open_object()?;
        while let Some(name) = self.scanner.key(&mut first)? {
            let Some(at) = message_type.position(&name) else {
                self.report(Problem::UnknownField, &path.enter(Step::Field(message_type, &name)));
                self.scanner.value(path.depth + 1)?;
                continue;
            };
            let field: &Field = &message_type.fields[at];
            let inner = path.enter(Step::Field(message_type, &field.name));
            // A duplicate in a type of more than 128 fields (there is none) would go unreported.
            let bit = 1u128.checked_shl(u32::try_from(at).unwrap_or(u32::MAX)).unwrap_or(0);
            if seen & bit != 0 {
                self.report(Problem::DuplicateField, &inner);
                message.remove(&*field.name);
            }
            seen |= bit;
            let value = self.value(&field.kind, &inner)?;
            schema::insert(&mut message, field, value);
        }
        schema::complete(self.schema, message_type, &mut message);
        Ok(Value::Object(message))
    }

    fn list(&mut self, item: &FieldKind, token: Token, path: &Path<'_>) -> Result<Value> {
        if token != Token::Array {
            return Err(self.wrong_type(&FieldKind::List(Box::new(item.clone())), token, path));
        }
        let mut items = Vec::new();
        let mut first = true;
        self.scanner.open_array();
        while self.scanner.element(&mut first)? {
            let value = self.value(item, &path.enter(Step::Index(items.len())))?;
            items.push(self.or_zero(item, value));
        }
        Ok(Value::Array(items))
    }

    fn map(&mut self, kind: &FieldKind, token: Token, path: &Path<'_>) -> Result<Value> {
        if token != Token::Object {
            return Err(self.wrong_type(&FieldKind::Map(Box::new(kind.clone())), token, path));
        }
        let mut entries = Map::new();
        let mut first = true;
        self.scanner.open_object()?;
        while let Some(key) = self.scanner.key(&mut first)? {
            let inner = path.enter(Step::Key(&key));
            let value = self.value(kind, &inner)?;
            if entries.contains_key(&*key) {
                self.report(Problem::DuplicateField, &inner);
            }
            let value = self.or_zero(kind, value);
            entries.insert(key.into_owned(), value);
        }
        Ok(Value::Object(entries))
    }

    /// A null element of a list or map is its kind's zero.
    fn or_zero(&self, kind: &FieldKind, value: Value) -> Value {
        match (value, kind) {
            (Value::Null, FieldKind::Bytes) => Value::from(""),
            (Value::Null, FieldKind::Strings) => Value::Array(Vec::new()),
            (Value::Null, _) => schema::zero(self.schema, kind).unwrap_or_default(),
            (value, _) => value,
        }
    }

    fn schema_or(
        &mut self,
        alternative: Alternative,
        id: TypeId,
        token: Token,
        path: &Path<'_>,
    ) -> Result<Value> {
        match (alternative, token) {
            (_, Token::Object) => self.message(id, token, path),
            (Alternative::Bool, Token::Bool) => Ok(Value::Bool(self.scanner.bool()?)),
            (Alternative::Bool, _) => Err(DecodeError::Text("boolean or JSON schema expected".to_owned())),
            (Alternative::Schemas, Token::Array) => {
                self.list(&FieldKind::Message(id), token, path).map(null_if_empty)
            }
            (Alternative::Strings, Token::Array) => {
                self.list(&FieldKind::String, token, path).map(null_if_empty)
            }
            // Upstream takes anything else for nothing.
            _ => Ok(self.scanner.value(path.depth).map(|_| Value::Null)?),
        }
    }

    fn scalar(&mut self, kind: &FieldKind, token: Token, path: &Path<'_>) -> Result<Value> {
        let text = |decoder: &mut Self| decoder.scanner.string();
        match (kind, token) {
            (FieldKind::String, Token::String) => Ok(Value::String(text(self)?.into_owned())),
            (FieldKind::Bool, Token::Bool) => Ok(Value::Bool(self.scanner.bool()?)),
            (FieldKind::Int32 | FieldKind::Int64, Token::Number) => self.integer(kind, path),
            (FieldKind::Double, Token::Number) => Ok(Value::Number(number(self.scanner.number()?))),
            (FieldKind::Bytes, Token::String) => Ok(Value::String(scalar::base64(&text(self)?)?)),
            (FieldKind::Time, Token::String) => scalar::time(&text(self)?),
            (FieldKind::MicroTime, Token::String) => scalar::micro_time(&text(self)?),
            (FieldKind::Quantity, Token::String) => Ok(Value::String(scalar::quantity(&text(self)?)?)),
            (FieldKind::Quantity, Token::Number) => {
                Ok(Value::String(scalar::quantity(self.scanner.number()?)?))
            }
            (FieldKind::IntOrString, Token::String) => Ok(Value::String(text(self)?.into_owned())),
            (FieldKind::IntOrString, Token::Number) => self.integer(&FieldKind::Int32, path),
            (FieldKind::Quantity, _) => {
                Err(scalar::quantity(token.as_str()).expect_err("a word is no quantity"))
            }
            _ => Err(self.wrong_type(kind, token, path)),
        }
    }

    fn integer(&mut self, kind: &FieldKind, path: &Path<'_>) -> Result<Value> {
        let text = self.scanner.number()?;
        let parsed = match kind {
            FieldKind::Int32 => text.parse::<i32>().map(i64::from),
            _ => text.parse::<i64>(),
        };
        parsed.map(Value::from).map_err(|_| DecodeError::Type {
            given: format!("number {text}"),
            place: path.place(),
            wanted: self.go_type(kind),
        })
    }

    fn wrong_type(&self, kind: &FieldKind, token: Token, path: &Path<'_>) -> DecodeError {
        // In Go, these types decode their own text as another.
        let wanted = match kind {
            FieldKind::Time | FieldKind::MicroTime => "string".to_owned(),
            FieldKind::IntOrString => "int32".to_owned(),
            _ => self.go_type(kind),
        };
        DecodeError::Type { given: token.as_str().to_owned(), place: path.place(), wanted }
    }

    /// The kind as Go prints its type.
    fn go_type(&self, kind: &FieldKind) -> String {
        match kind {
            FieldKind::Bool => "bool".to_owned(),
            FieldKind::Int32 => "int32".to_owned(),
            FieldKind::Int64 => "int64".to_owned(),
            FieldKind::Double => "float64".to_owned(),
            FieldKind::Bytes => "[]uint8".to_owned(),
            FieldKind::Time => "v1.Time".to_owned(),
            FieldKind::MicroTime => "v1.MicroTime".to_owned(),
            FieldKind::Quantity => "resource.Quantity".to_owned(),
            FieldKind::IntOrString => "intstr.IntOrString".to_owned(),
            FieldKind::String => "string".to_owned(),
            FieldKind::Strings => "[]string".to_owned(),
            FieldKind::Json(_) => "runtime.RawExtension".to_owned(),
            FieldKind::SchemaOr(_, id) | FieldKind::Message(id) => self.schema.get(*id).go_name().to_owned(),
            FieldKind::List(item) => format!("[]{}", self.go_type(item)),
            FieldKind::Map(value) => format!("map[string]{}", self.go_type(value)),
        }
    }

    fn report(&mut self, problem: fn(String) -> Problem, path: &Path<'_>) {
        if self.muted == 0 && self.problems.len() < MAX_PROBLEMS {
            let problem = problem(path.full());
            if !self.problems.contains(&problem) {
                self.problems.push(problem);
            }
        }
    }
}

fn null_if_empty(list: Value) -> Value {
    if list.as_array().is_some_and(Vec::is_empty) { Value::Null } else { list }
}
