//! Bootstrap tokens: what a node joins with, before it has an identity. Each is a Secret in kube-system that kubectl
//! shows (upstream: `plugin/pkg/auth/authenticator/token/bootstrap`).

use std::time::SystemTime;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ring::digest::{SHA256, digest};
use serde_json::Value;

use crate::{Error, User};

/// The group of those who authenticate so.
pub const BOOTSTRAPPERS: &str = "system:bootstrappers";
/// The length of a token's id, of its secret.
const ID: usize = 6;
const SECRET: usize = 16;

/// The id and the secret of a token that has the form of a bootstrap token.
pub(crate) fn parts(token: &str) -> Option<(&str, &str)> {
    let (id, secret) = token.split_once('.')?;
    let plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    (id.len() == ID && secret.len() == SECRET && plain(id) && plain(secret)).then_some((id, secret))
}

/// The user of a token, given the Secret that its id leads to.
pub(crate) fn user(secret: Option<&Value>, id: &str, token_secret: &str) -> Result<User, Error> {
    let wrong = |text: &str| Error::Token(format!("bootstrap token {id}: {text}"));
    let secret = secret.ok_or_else(|| wrong("there is no such token"))?;
    let field = |name: &str| decoded(&secret["data"][name]);
    if secret["type"] != "bootstrap.kubernetes.io/token" || !secret["metadata"]["deletionTimestamp"].is_null()
    {
        return Err(wrong("there is no such token"));
    }
    let hash = |text: &str| digest(&SHA256, text.as_bytes());
    // Hashes are compared: how long that takes tells nothing.
    if field("token-id") != id || hash(&field("token-secret")).as_ref() != hash(token_secret).as_ref() {
        return Err(wrong("the secret is another one"));
    }
    if has_ended(&field("expiration"), SystemTime::now()) {
        return Err(wrong("it has expired"));
    }
    if field("usage-bootstrap-authentication") != "true" {
        return Err(wrong("it is not for authentication"));
    }
    let extra = field("auth-extra-groups");
    let extra: Vec<&str> = extra.split(',').map(str::trim).filter(|group| !group.is_empty()).collect();
    if let Some(group) = extra.iter().find(|group| !is_bootstrap_group(group)) {
        return Err(wrong(&format!("{group:?} is not a group of bootstrap tokens")));
    }
    let groups = [BOOTSTRAPPERS].into_iter().chain(extra);
    Ok(User::new(format!("system:bootstrap:{id}"), groups).authenticated())
}

fn decoded(value: &Value) -> String {
    let bytes = value.as_str().and_then(|text| STANDARD.decode(text).ok()).unwrap_or_default();
    String::from_utf8(bytes).unwrap_or_default()
}

/// Whether a token that expires then has ended. One that says it expires, but not when, has.
fn has_ended(expiration: &str, now: SystemTime) -> bool {
    if expiration.is_empty() {
        return false;
    }
    let end = expiration.parse::<jiff::Timestamp>().ok().map(SystemTime::from);
    end.is_none_or(|end| end <= now)
}

/// Upstream's `BootstrapGroupPattern`.
fn is_bootstrap_group(group: &str) -> bool {
    let rest = group.strip_prefix("system:bootstrappers:").unwrap_or_default();
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    rest.len() <= 256
        && rest.bytes().last().is_some_and(plain)
        && rest.bytes().all(|byte| plain(byte) || byte == b':' || byte == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const TOKEN: &str = "abcdef.0123456789abcdef";

    fn judge(token: &str, data: &[(&str, &str)]) -> Result<Vec<String>, String> {
        let mut secret = json!({"type": "bootstrap.kubernetes.io/token", "metadata": {"name": "x"}});
        let own = [
            ("token-id", "abcdef"),
            ("token-secret", "0123456789abcdef"),
            ("usage-bootstrap-authentication", "true"),
        ];
        for (key, value) in own.iter().chain(data) {
            secret["data"][*key] = json!(STANDARD.encode(value));
        }
        let (id, token_secret) = parts(token).ok_or("not a bootstrap token")?;
        let judged = user(Some(&secret), id, token_secret);
        judged.map(|user| user.groups).map_err(|error| error.to_string())
    }

    #[test]
    fn a_token_is_a_member_of_the_bootstrappers_and_of_its_own_groups() {
        let groups = judge(TOKEN, &[("auth-extra-groups", "system:bootstrappers:edgek:x")]).unwrap();
        assert_eq!(groups, [BOOTSTRAPPERS, "system:bootstrappers:edgek:x", "system:authenticated"]);
        assert!(judge(TOKEN, &[("auth-extra-groups", "system:masters")]).is_err());
    }

    #[test]
    fn a_token_that_is_wrong_has_ended_or_is_for_something_else_is_refused() {
        let check = |token: &str, data: &[(&str, &str)], text: &str| {
            let error = judge(token, data).unwrap_err();
            assert!(error.contains(text), "{error}");
        };
        check("abcdef.0123456789abcdee", &[], "the secret is another one");
        check("nonsense", &[], "not a bootstrap token");
        check(TOKEN, &[("expiration", "2020-01-01T00:00:00Z")], "it has expired");
        check(TOKEN, &[("expiration", "tomorrow")], "it has expired");
        check(TOKEN, &[("usage-bootstrap-authentication", "false")], "it is not for authentication");
        assert!(judge(TOKEN, &[("expiration", "2999-01-01T00:00:00Z")]).is_ok());
        assert!(user(None, "abcdef", "x").is_err());
    }
}
