//! Continue tokens: where the next page of a list starts, in upstream's form (`apiserver/pkg/storage/continue.go`).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use crate::Revision;

const VERSION: &str = "meta.k8s.io/v1";

/// Where the next page of a list starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Token {
    /// The revision of the list; `None` for the current one.
    pub(crate) revision: Option<Revision>,
    /// The first key of the page, below the list's own prefix.
    pub(crate) start: String,
}

/// A continue token that this server did not make.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Not base64 or not JSON, or a key that leaves the list.
    #[error("continue key is not valid: {0}")]
    Malformed(String),
    /// Another form of token.
    #[error("continue key is not valid: server does not recognize this encoded version {0}")]
    Version(String),
    /// No revision.
    #[error("continue key is not valid: incorrect encoded start resourceVersion (version meta.k8s.io/v1)")]
    Revision,
    /// No key.
    #[error("continue key is not valid: encoded start key empty (version meta.k8s.io/v1)")]
    Start,
}

#[derive(Serialize, Deserialize)]
struct Wire {
    #[serde(rename = "v", default)]
    version: String,
    #[serde(rename = "rv", default)]
    revision: i64,
    #[serde(default)]
    start: String,
}

impl Token {
    pub(crate) fn encode(&self) -> String {
        let revision = self.revision.map_or(-1, |revision| revision.0.cast_signed());
        let wire = Wire { version: VERSION.to_owned(), revision, start: self.start.clone() };
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(&wire).expect("strings and numbers encode"))
    }

    pub(crate) fn decode(text: &str) -> Result<Self, TokenError> {
        let json =
            URL_SAFE_NO_PAD.decode(text).map_err(|error| TokenError::Malformed(illegal(&error, text)))?;
        let wire: Wire =
            serde_json::from_slice(&json).map_err(|error| TokenError::Malformed(error.to_string()))?;
        if wire.version != VERSION {
            return Err(TokenError::Version(wire.version));
        }
        if wire.revision == 0 {
            return Err(TokenError::Revision);
        }
        if wire.start.is_empty() {
            return Err(TokenError::Start);
        }
        let start = wire.start.strip_prefix('/').unwrap_or(&wire.start);
        if start.split('/').any(|segment| matches!(segment, "" | "." | "..")) {
            return Err(TokenError::Malformed(wire.start));
        }
        let revision = u64::try_from(wire.revision).ok().map(Revision);
        Ok(Self { revision, start: start.to_owned() })
    }
}

/// What is wrong with base64, in Go's words.
fn illegal(error: &base64::DecodeError, text: &str) -> String {
    let at = match error {
        base64::DecodeError::InvalidByte(at, _) | base64::DecodeError::InvalidLastSymbol(at, _) => *at,
        // Go counts from the group that is not whole.
        base64::DecodeError::InvalidLength(_) => text.len() - text.len() % 4,
        base64::DecodeError::InvalidPadding => text.len(),
    };
    format!("illegal base64 data at input byte {at}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(json: &str, expected: Result<(Option<u64>, &str), &str>) {
        let found = Token::decode(&URL_SAFE_NO_PAD.encode(json));
        let found =
            found.map(|token| (token.revision.map(|r| r.0), token.start)).map_err(|error| error.to_string());
        assert_eq!(found, expected.map(|(r, s)| (r, s.to_owned())).map_err(str::to_owned), "{json}");
    }

    #[test]
    fn a_token_survives_the_round_trip() {
        let token = Token { revision: Some(Revision(7)), start: "default/web\0".into() };
        assert_eq!(Token::decode(&token.encode()).unwrap(), token);
        let inconsistent = Token { revision: None, ..token };
        assert_eq!(Token::decode(&inconsistent.encode()).unwrap(), inconsistent);
    }

    #[test]
    fn tokens_are_judged_as_upstream_judges_them() {
        check(r#"{"v":"meta.k8s.io/v1","rv":3,"start":"a/b\u0000"}"#, Ok((Some(3), "a/b\0")));
        check(r#"{"v":"meta.k8s.io/v1","rv":-1,"start":"/a"}"#, Ok((None, "a")));
        let revision =
            "continue key is not valid: incorrect encoded start resourceVersion (version meta.k8s.io/v1)";
        check(r#"{"v":"meta.k8s.io/v1","start":"a"}"#, Err(revision));
        let start = "continue key is not valid: encoded start key empty (version meta.k8s.io/v1)";
        check(r#"{"v":"meta.k8s.io/v1","rv":3}"#, Err(start));
        let version = "continue key is not valid: server does not recognize this encoded version v0";
        check(r#"{"v":"v0","rv":3,"start":"a"}"#, Err(version));
        check(r#"{"v":"meta.k8s.io/v1","rv":3,"start":"../a"}"#, Err("continue key is not valid: ../a"));
        check(r#"{"v":"meta.k8s.io/v1","rv":3,"start":"a//b"}"#, Err("continue key is not valid: a//b"));
        assert!(Token::decode("%").is_err());
        check("{", Err("continue key is not valid: EOF while parsing an object at line 1 column 1"));
    }
}
