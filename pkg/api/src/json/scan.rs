//! JSON tokens with upstream's words for syntax errors. Used by the schema-directed decoder.

use std::borrow::Cow;

use serde_json::{Map, Number, Value};

use crate::quote::quote;

/// Deeper bodies are refused. Everything stored must stay below the 128 levels that `serde_json` reads back, inside a
/// list and a watch event.
pub(crate) const MAX_DEPTH: usize = 100;

/// Bodies with more objects are refused: a few bytes of text become most of a kilobyte in memory. The largest custom
/// resource definitions have some ten thousand.
pub(crate) const MAX_OBJECTS: usize = 65_536;

/// A syntax error in Go's words.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SyntaxError(String);

impl SyntaxError {
    pub(super) fn too_deep(token: Token) -> Self {
        let opening = if token == Token::Object { '{' } else { '[' };
        Self(format!("invalid character '{opening}' exceeded max depth"))
    }

    fn too_many() -> Self {
        Self(format!("exceeded max number of objects, {MAX_OBJECTS}"))
    }
}

type Result<T, E = SyntaxError> = std::result::Result<T, E>;

/// What the next value is, by its first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token {
    Object,
    Array,
    String,
    Number,
    Bool,
    Null,
}

impl Token {
    /// As Go names it in type errors.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Object => "object",
            Self::Array => "array",
            Self::String => "string",
            Self::Number => "number",
            Self::Bool => "bool",
            Self::Null => "null",
        }
    }
}

/// A position in a JSON text.
#[derive(Clone)]
pub(super) struct Scanner<'a> {
    text: &'a str,
    at: usize,
    /// How many objects may follow.
    objects: usize,
}

impl<'a> Scanner<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self::with_objects(text, MAX_OBJECTS)
    }

    /// A text that is part of another, in which so many objects may follow.
    pub(super) fn with_objects(text: &'a str, objects: usize) -> Self {
        Self { text, at: 0, objects }
    }

    /// How many objects may follow.
    pub(super) fn objects(&self) -> usize {
        self.objects
    }

    /// The next byte that is not white space.
    fn peek(&mut self) -> Option<u8> {
        let bytes = self.text.as_bytes();
        while let Some(byte) = bytes.get(self.at) {
            if !matches!(byte, b' ' | b'\t' | b'\r' | b'\n') {
                return Some(*byte);
            }
            self.at += 1;
        }
        None
    }

    fn unexpected(&self, context: &str) -> SyntaxError {
        // Go names the byte, not the letter that it begins.
        match self.text.as_bytes().get(self.at) {
            None => SyntaxError("unexpected end of JSON input".to_owned()),
            Some(b'\'') => SyntaxError(format!(r"invalid character '\'' {context}")),
            Some(b'"') => SyntaxError(format!("invalid character '\"' {context}")),
            Some(byte) => {
                let quoted = quote(&char::from(*byte).to_string());
                SyntaxError(format!("invalid character '{}' {context}", quoted.trim_matches('"')))
            }
        }
    }

    pub(super) fn token(&mut self) -> Result<Token> {
        match self.peek() {
            Some(b'{') => Ok(Token::Object),
            Some(b'[') => Ok(Token::Array),
            Some(b'"') => Ok(Token::String),
            Some(b'-' | b'0'..=b'9') => Ok(Token::Number),
            Some(b't' | b'f') => Ok(Token::Bool),
            Some(b'n') => Ok(Token::Null),
            _ => Err(self.unexpected("looking for beginning of value")),
        }
    }

    /// Ends the text.
    pub(super) fn end(&mut self) -> Result<()> {
        match self.peek() {
            None => Ok(()),
            Some(_) => Err(self.unexpected("after top-level value")),
        }
    }

    /// Enters an array; the token said that there is one.
    pub(super) fn open_array(&mut self) {
        self.at += 1;
    }

    /// Enters an object; the token said that there is one.
    pub(super) fn open_object(&mut self) -> Result<()> {
        self.objects = self.objects.checked_sub(1).ok_or_else(SyntaxError::too_many)?;
        self.at += 1;
        Ok(())
    }

    /// The next key of an object, `None` at its end. `first` starts true and is kept by the caller.
    pub(super) fn key(&mut self, first: &mut bool) -> Result<Option<Cow<'a, str>>> {
        match self.peek() {
            Some(b'}') => {
                self.at += 1;
                return Ok(None);
            }
            Some(b',') if !*first => {
                self.at += 1;
                self.peek();
            }
            _ if !*first => return Err(self.unexpected("after object key:value pair")),
            _ => {}
        }
        *first = false;
        if self.text.as_bytes().get(self.at) != Some(&b'"') {
            return Err(self.unexpected("looking for beginning of object key string"));
        }
        let key = self.string()?;
        if self.peek() != Some(b':') {
            return Err(self.unexpected("after object key"));
        }
        self.at += 1;
        Ok(Some(key))
    }

    /// True while an array has another element. `first` starts true and is kept by the caller.
    pub(super) fn element(&mut self, first: &mut bool) -> Result<bool> {
        match self.peek() {
            Some(b']') if *first => {
                self.at += 1;
                return Ok(false);
            }
            _ if *first => {}
            Some(b',') => self.at += 1,
            Some(b']') => {
                self.at += 1;
                return Ok(false);
            }
            _ => return Err(self.unexpected("after array element")),
        }
        *first = false;
        Ok(true)
    }

    /// A string; the token said that there is one.
    pub(super) fn string(&mut self) -> Result<Cow<'a, str>> {
        self.at += 1;
        let start = self.at;
        let bytes = self.text.as_bytes();
        while let Some(&byte) = bytes.get(self.at) {
            match byte {
                b'"' => {
                    self.at += 1;
                    return Ok(Cow::Borrowed(&self.text[start..self.at - 1]));
                }
                b'\\' => return self.escaped(start).map(Cow::Owned),
                0..=0x1f => return Err(self.unexpected("in string literal")),
                _ => self.at += 1,
            }
        }
        Err(self.unexpected("in string literal"))
    }

    /// The rest of a string with escapes, from its first backslash.
    fn escaped(&mut self, start: usize) -> Result<String> {
        let bytes = self.text.as_bytes();
        let mut out = self.text[start..self.at].to_owned();
        let mut plain = self.at;
        while let Some(&byte) = bytes.get(self.at) {
            match byte {
                b'"' => {
                    out.push_str(&self.text[plain..self.at]);
                    self.at += 1;
                    return Ok(out);
                }
                b'\\' => {
                    out.push_str(&self.text[plain..self.at]);
                    self.at += 1;
                    out.push(self.escape()?);
                    plain = self.at;
                }
                0..=0x1f => return Err(self.unexpected("in string literal")),
                _ => self.at += 1,
            }
        }
        Err(self.unexpected("in string literal"))
    }

    fn escape(&mut self) -> Result<char> {
        let char = match self.text.as_bytes().get(self.at) {
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b @ (b'"' | b'\\' | b'/')) => char::from(*b),
            Some(b'u') => {
                self.at += 1;
                return self.unicode();
            }
            _ => return Err(self.unexpected("in string escape code")),
        };
        self.at += 1;
        Ok(char)
    }

    /// `\u` and its four digits; a pair of surrogates is one character, a lone one the replacement character.
    fn unicode(&mut self) -> Result<char> {
        let first = self.hex()?;
        if (0xd800..0xdc00).contains(&first) && self.text[self.at..].starts_with("\\u") {
            let before = self.at;
            self.at += 2;
            let second = self.hex()?;
            if (0xdc00..0xe000).contains(&second) {
                let code = 0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00);
                return Ok(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
            }
            self.at = before;
        }
        Ok(char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER))
    }

    fn hex(&mut self) -> Result<u32> {
        let mut code = 0;
        for _ in 0..4 {
            let digit = self.text.as_bytes().get(self.at).and_then(|b| char::from(*b).to_digit(16));
            code = code * 16 + digit.ok_or_else(|| self.unexpected("in \\u hexadecimal character escape"))?;
            self.at += 1;
        }
        Ok(code)
    }

    /// A number's text; the token said that there is one.
    pub(super) fn number(&mut self) -> Result<&'a str> {
        let start = self.at;
        let bytes = self.text.as_bytes();
        let next = |scanner: &Self| bytes.get(scanner.at).copied();
        if next(self) == Some(b'-') {
            self.at += 1;
        }
        match next(self) {
            Some(b'0') => self.at += 1,
            Some(b'1'..=b'9') => self.digits(),
            _ => return Err(self.unexpected("in numeric literal")),
        }
        if next(self) == Some(b'.') {
            self.at += 1;
            self.some_digits("after decimal point in numeric literal")?;
        }
        if let Some(b'e' | b'E') = next(self) {
            self.at += 1;
            if let Some(b'+' | b'-') = next(self) {
                self.at += 1;
            }
            self.some_digits("in exponent of numeric literal")?;
        }
        Ok(&self.text[start..self.at])
    }

    fn digits(&mut self) {
        let bytes = self.text.as_bytes();
        while bytes.get(self.at).is_some_and(u8::is_ascii_digit) {
            self.at += 1;
        }
    }

    fn some_digits(&mut self, context: &str) -> Result<()> {
        let start = self.at;
        self.digits();
        if self.at == start { Err(self.unexpected(context)) } else { Ok(()) }
    }

    pub(super) fn bool(&mut self) -> Result<bool> {
        if self.text.as_bytes().get(self.at) == Some(&b't') {
            self.literal("true")?;
            return Ok(true);
        }
        self.literal("false")?;
        Ok(false)
    }

    pub(super) fn null(&mut self) -> Result<()> {
        self.literal("null")
    }

    fn literal(&mut self, word: &str) -> Result<()> {
        for expected in word.chars() {
            if self.text.as_bytes().get(self.at).copied().map(char::from) != Some(expected) {
                return Err(self.unexpected(&format!("in literal {word} (expecting '{expected}')")));
            }
            self.at += 1;
        }
        Ok(())
    }

    /// Any value as it is.
    pub(super) fn value(&mut self, depth: usize) -> Result<Value> {
        let token = self.token()?;
        if depth > MAX_DEPTH {
            return Err(SyntaxError::too_deep(token));
        }
        let mut first = true;
        Ok(match token {
            Token::Null => self.null().map(|()| Value::Null)?,
            Token::Bool => Value::Bool(self.bool()?),
            Token::String => Value::String(self.string()?.into_owned()),
            Token::Number => Value::Number(number(self.number()?)),
            Token::Array => {
                self.open_array();
                let mut items = Vec::new();
                while self.element(&mut first)? {
                    items.push(self.value(depth + 1)?);
                }
                Value::Array(items)
            }
            Token::Object => {
                self.open_object()?;
                let mut entries = Map::new();
                while let Some(key) = self.key(&mut first)? {
                    entries.insert(key.into_owned(), self.value(depth + 1)?);
                }
                Value::Object(entries)
            }
        })
    }
}

/// A number as canonical JSON holds it: whole numbers without a fraction, as Go prints them.
pub(super) fn number(text: &str) -> Number {
    if let Ok(whole) = text.parse::<i64>() {
        return whole.into();
    }
    let float = text.parse().unwrap_or(f64::MAX);
    whole(float).or_else(|| Number::from_f64(float)).unwrap_or_else(|| 0.into())
}

/// The integer a float equals exactly.
pub(crate) fn whole(float: f64) -> Option<Number> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    #[expect(clippy::cast_possible_truncation, reason = "checked to be whole and in range")]
    (float.fract() == 0.0 && float.abs() < EXACT).then(|| Number::from(float as i64))
}
