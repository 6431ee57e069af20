//! Join tokens: `EK1<hash of the CA>::<id>.<secret>`. The hash tells a joining node which server to trust, the rest is a
//! bootstrap token, a Secret in kube-system.

use std::path::PathBuf;
use std::str::FromStr;

use anyhow::{Context as _, Result};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use edgek_base_config::Config;
use edgek_base_pki::request::hex;
use edgek_base_sys::files::write_atomic;
use edgek_client::{Api, Client, ResourceRef};
use k8s_openapi::api::core::v1::Secret;
use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom as _, SystemRandom};
use serde_json::{Value, json};

/// What every token with a hash begins with.
const PREFIX: &str = "EK1";
/// The group whose members may join as nodes.
const NODES: &str = "system:bootstrappers:edgek:default-node-token";

/// A token as nodes are given it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Token {
    /// SHA-256 of the CA's PEM text; `None` in the short form, with which a node believes any server.
    pub(crate) ca_hash: Option<String>,
    /// `<id>.<secret>`.
    pub(crate) bearer: String,
}

impl Token {
    /// What tells it from other tokens, and is no secret.
    pub(crate) fn id(&self) -> &str {
        self.bearer.split_once('.').map_or("", |(id, _)| id)
    }

    /// Whether the token is of the cluster with this CA, as far as it says.
    pub(crate) fn is_of(&self, ca: &str) -> bool {
        self.ca_hash.as_ref().is_none_or(|hash| *hash == ca_hash(ca))
    }
}

impl FromStr for Token {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let wrong =
            || "the token is damaged: it has the form EK1<hash>::<id>.<secret>; copy all of it".to_owned();
        let (ca_hash, bearer) = match text.strip_prefix(PREFIX) {
            None => (None, text),
            Some(rest) => {
                let (hash, bearer) = rest.split_once("::").ok_or_else(wrong)?;
                let is_hash = hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
                (Some(is_hash.then(|| hash.to_ascii_lowercase()).ok_or_else(wrong)?), bearer)
            }
        };
        let plain = |part: &str, length: usize| {
            part.len() == length && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
        };
        match bearer.split_once('.') {
            Some((id, secret)) if plain(id, 6) && plain(secret, 16) => {
                Ok(Self { ca_hash, bearer: bearer.to_owned() })
            }
            _ => Err(wrong()),
        }
    }
}

impl std::fmt::Display for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.ca_hash {
            Some(hash) => write!(f, "{PREFIX}{hash}::{}", self.bearer),
            None => f.write_str(&self.bearer),
        }
    }
}

/// The hash of a CA by which tokens name it.
pub(crate) fn ca_hash(pem: &str) -> String {
    hex(digest(&SHA256, pem.as_bytes()).as_ref())
}

/// Where the server's own token is.
pub(crate) fn path(config: &Config) -> PathBuf {
    config.data_dir.join("server/node-token")
}

/// Makes the server's own token, which does not expire, when there is none.
pub(crate) async fn ensure(client: &Client, config: &Config, ca: &str) -> Result<()> {
    let path = path(config);
    if path.exists() {
        return Ok(());
    }
    let token = create(client, ca, &Wanted { description: "made at the first start", ttl: None }).await?;
    write_atomic(&path, format!("{token}\n").as_bytes(), 0o600)
        .with_context(|| format!("writing {}", path.display()))
}

/// What a new token is to be.
pub(crate) struct Wanted<'a> {
    pub(crate) description: &'a str,
    /// How long it is good; for ever when `None`.
    pub(crate) ttl: Option<std::time::Duration>,
}

/// Makes a token.
pub(crate) async fn create(client: &Client, ca: &str, wanted: &Wanted<'_>) -> Result<Token> {
    let (id, secret) = (random(6)?, random(16)?);
    let mut data = json!({
        "token-id": id,
        "token-secret": secret,
        "usage-bootstrap-authentication": "true",
        "usage-bootstrap-signing": "true",
        "auth-extra-groups": NODES,
        "description": wanted.description,
    });
    if let Some(ttl) = wanted.ttl {
        let end = jiff::Timestamp::now() + jiff::SignedDuration::try_from(ttl)?;
        data["expiration"] = json!(end.strftime("%Y-%m-%dT%H:%M:%SZ").to_string());
    }
    let data = data.as_object().into_iter().flatten();
    let encoded: serde_json::Map<String, Value> = data
        .map(|(key, value)| (key.clone(), json!(STANDARD.encode(value.as_str().unwrap_or_default()))))
        .collect();
    let object = json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": format!("bootstrap-token-{id}"), "namespace": "kube-system"},
        "type": "bootstrap.kubernetes.io/token",
        "data": encoded,
    });
    secrets(client).create(&object).await.context("creating the token")?;
    Ok(Token { ca_hash: Some(ca_hash(ca)), bearer: format!("{id}.{secret}") })
}

pub(crate) fn secrets(client: &Client) -> Api<Value> {
    client.untyped(ResourceRef::namespaced::<Secret>(), Some("kube-system"))
}

/// Letters and digits, each as likely as any other.
fn random(length: usize) -> Result<String> {
    const LETTERS: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";
    let random = SystemRandom::new();
    let mut text = String::with_capacity(length);
    while text.len() < length {
        let mut byte = [0];
        random.fill(&mut byte).map_err(|_| anyhow::anyhow!("no randomness"))?;
        // 252 is a multiple of 36.
        if byte[0] < 252 {
            text.push(char::from(LETTERS[usize::from(byte[0]) % LETTERS.len()]));
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_as_it_is_written() {
        let hash = "ab".repeat(32);
        let check = |text: &str, expected: Option<(Option<&str>, &str)>| {
            let expected = expected
                .map(|(hash, bearer)| Token { ca_hash: hash.map(str::to_owned), bearer: bearer.to_owned() });
            assert_eq!(text.parse::<Token>().ok(), expected, "{text}");
        };
        let whole = format!("EK1{hash}::abcdef.0123456789abcdef");
        check(&format!(" {whole}\n"), Some((Some(&hash), "abcdef.0123456789abcdef")));
        check("abcdef.0123456789abcdef", Some((None, "abcdef.0123456789abcdef")));
        for wrong in [
            "",
            "EK1",
            "EK1ab::abcdef.0123456789abcdef",
            &whole[..whole.len() - 1],
            "Abcdef.0123456789abcdef",
        ] {
            check(wrong, None);
        }
        assert_eq!(whole.parse::<Token>().unwrap().to_string(), whole);
    }

    #[test]
    fn a_token_knows_its_cluster() {
        let of = |hash: Option<String>| Token { ca_hash: hash, bearer: String::new() };
        assert!(of(Some(ca_hash("a"))).is_of("a"));
        assert!(!of(Some(ca_hash("a"))).is_of("b"));
        assert!(of(None).is_of("b"));
    }

    #[test]
    fn random_text_has_letters_and_digits_only() {
        let text = random(4000).unwrap();
        assert!(text.len() == 4000 && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()));
    }
}
