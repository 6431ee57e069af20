//! The text of a label selector: tokens and the grammar over them, with upstream's words when they do not fit.
//!
//! ```text
//! selector    = [ requirement { "," requirement } ]
//! requirement = [ "!" ] key | key ( "=" | "==" | "!=" | ">" | "<" ) [ value ] | key ( "in" | "notin" ) "(" values ")"
//! ```

use super::{Operator, Requirement};
use crate::field::ErrorList;
use crate::name;
use crate::quote::quote;

const BINARY: &str = "in, notin, =, ==, !=, gt, lt";

/// A label selector that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LabelError {
    /// A requirement's words do not fit together.
    #[error("unable to parse requirement: {0}")]
    Syntax(String),
    /// Something else stands where a requirement or its end should.
    #[error("{0}")]
    Found(String),
    /// A requirement's key or values are not valid.
    #[error("{0}")]
    Requirement(ErrorList),
    /// A `LabelSelector` has an unknown operator.
    #[error("{} is not a valid label selector operator", quote(.0))]
    Operator(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token {
    End,
    Close,
    Comma,
    Not,
    Operator(Operator),
    Identifier,
    Open,
}

/// A token and its text.
type Item<'a> = (Token, &'a str);

struct Parser<'a> {
    text: &'a str,
    at: usize,
}

/// Reads a selector's requirements in the order of the text.
pub(super) fn requirements(text: &str) -> Result<Vec<Requirement>, LabelError> {
    let mut parser = Parser { text, at: 0 };
    let mut requirements = Vec::new();
    loop {
        match parser.peek() {
            (Token::End, _) => return Ok(requirements),
            (Token::Identifier | Token::Not, _) => requirements.push(parser.requirement()?),
            (_, text) => {
                return Err(LabelError::Found(format!(
                    "found '{text}', expected: !, identifier, or 'end of string'"
                )));
            }
        }
        match parser.next() {
            (Token::End, _) => return Ok(requirements),
            (Token::Comma, _) => match parser.peek() {
                (Token::Identifier | Token::Not, _) => {}
                (_, text) => {
                    return Err(LabelError::Found(format!("found '{text}', expected: identifier after ','")));
                }
            },
            (_, text) => {
                return Err(LabelError::Found(format!("found '{text}', expected: ',' or 'end of string'")));
            }
        }
    }
}

impl<'a> Parser<'a> {
    fn requirement(&mut self) -> Result<Requirement, LabelError> {
        let (mut token, mut key) = self.next();
        let negated = token == Token::Not;
        if negated {
            (token, key) = self.next();
        }
        if token != Token::Identifier {
            return Err(syntax(&format!("found '{key}', expected: identifier")));
        }
        let problems = name::qualified_name(key);
        if !problems.is_empty() {
            // Upstream has no path for the key of a text.
            return Err(syntax(&format!("<nil>: Invalid value: {}: {}", quote(key), problems.join("; "))));
        }
        let alone = matches!(self.peek().0, Token::End | Token::Comma);
        let (operator, values) = match (negated, alone) {
            (true, _) => (Operator::DoesNotExist, Vec::new()),
            (false, true) => (Operator::Exists, Vec::new()),
            (false, false) => {
                let operator = self.operator()?;
                let values = match operator {
                    Operator::In | Operator::NotIn => self.values()?,
                    _ => vec![self.value()?],
                };
                (operator, values)
            }
        };
        let requirement = Requirement::new(key.to_owned(), operator, values);
        requirement.map_err(|error| LabelError::Syntax(error.to_string()))
    }

    fn operator(&mut self) -> Result<Operator, LabelError> {
        match self.scan() {
            (Token::Operator(operator), _) => Ok(operator),
            (_, text) => Err(syntax(&format!("found '{text}', expected: {BINARY}"))),
        }
    }

    fn value(&mut self) -> Result<String, LabelError> {
        if matches!(self.peek().0, Token::End | Token::Comma) {
            return Ok(String::new());
        }
        match self.next() {
            (Token::Identifier, value) => Ok(value.to_owned()),
            (_, text) => Err(syntax(&format!("found '{text}', expected: identifier"))),
        }
    }

    fn values(&mut self) -> Result<Vec<String>, LabelError> {
        match self.next() {
            (Token::Open, _) => {}
            (_, text) => return Err(syntax(&format!("found '{text}' expected: '('"))),
        }
        match self.peek() {
            (Token::Identifier | Token::Comma, _) => self.list(),
            (Token::Close, _) => {
                self.next();
                Ok(vec![String::new()])
            }
            (_, text) => Err(syntax(&format!("found '{text}', expected: ',', ')' or identifier"))),
        }
    }

    /// The values up to and with the closing parenthesis; between two commas stands an empty one.
    fn list(&mut self) -> Result<Vec<String>, LabelError> {
        let mut values: Vec<String> = Vec::new();
        loop {
            match self.next() {
                (Token::Identifier, value) => {
                    values.push(value.to_owned());
                    match self.peek() {
                        (Token::Comma, _) => {}
                        (Token::Close, _) => break,
                        (_, text) => return Err(syntax(&format!("found '{text}', expected: ',' or ')'"))),
                    }
                }
                (Token::Comma, _) => {
                    let next = self.peek().0;
                    if values.is_empty() || matches!(next, Token::Close | Token::Comma) {
                        values.push(String::new());
                    }
                    if next == Token::Close {
                        break;
                    }
                }
                (_, text) => return Err(syntax(&format!("found '{text}', expected: ',', or identifier"))),
            }
        }
        self.next();
        values.sort_unstable();
        values.dedup();
        Ok(values)
    }

    /// The next token, taking `in` and `notin` for identifiers.
    fn next(&mut self) -> Item<'a> {
        match self.scan() {
            (Token::Operator(Operator::In | Operator::NotIn), text) => (Token::Identifier, text),
            item => item,
        }
    }

    fn peek(&mut self) -> Item<'a> {
        let at = self.at;
        let item = self.next();
        self.at = at;
        item
    }

    fn scan(&mut self) -> Item<'a> {
        let rest = &self.text[self.at..];
        let blanks = rest.len() - rest.trim_start_matches(is_blank).len();
        self.at += blanks;
        let rest = &rest[blanks..];
        let Some(first) = rest.chars().next() else { return (Token::End, "") };
        let end = match rest.get(..2) {
            Some("==" | "!=") => 2,
            _ if is_symbol(first) => 1,
            _ => rest.find(|c| is_symbol(c) || is_blank(c)).unwrap_or(rest.len()),
        };
        self.at += end;
        let text = &rest[..end];
        (keyword(text).unwrap_or(Token::Identifier), text)
    }
}

fn keyword(text: &str) -> Option<Token> {
    Some(match text {
        ")" => Token::Close,
        "(" => Token::Open,
        "," => Token::Comma,
        "!" => Token::Not,
        "=" => Token::Operator(Operator::Equals),
        "==" => Token::Operator(Operator::DoubleEquals),
        "!=" => Token::Operator(Operator::NotEquals),
        ">" => Token::Operator(Operator::GreaterThan),
        "<" => Token::Operator(Operator::LessThan),
        "in" => Token::Operator(Operator::In),
        "notin" => Token::Operator(Operator::NotIn),
        _ => return None,
    })
}

fn is_symbol(c: char) -> bool {
    matches!(c, '=' | '!' | '(' | ')' | ',' | '>' | '<')
}

fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}

fn syntax(what: &str) -> LabelError {
    LabelError::Syntax(what.to_owned())
}
