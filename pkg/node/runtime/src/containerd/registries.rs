//! `Registries`: the mirrors, TLS settings and credentials of `registries.yaml`, and the `hosts.toml` files containerd
//! reads them from.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use crate::{Credentials, Error, Result};

/// The registry whose settings count for those that have none.
const ANY: &str = "*";

/// The file that users of K3s know as `registries.yaml`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Registries {
    /// Where to look first, by registry as it stands in image names.
    pub mirrors: BTreeMap<String, Mirror>,
    /// How to reach a host, by host and port.
    pub configs: BTreeMap<String, HostConfig>,
}

/// Where to look for a registry's images before the registry itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Mirror {
    /// URLs in order; the scheme decides between TLS and plain HTTP.
    pub endpoint: Vec<String>,
}

/// How to reach a host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HostConfig {
    /// How to log in.
    pub auth: Option<Auth>,
    /// How to trust it.
    pub tls: Option<Tls>,
}

/// How to log in, in one of three ways.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Auth {
    /// With `password`.
    pub username: String,
    /// With `username`.
    pub password: String,
    /// `username:password` in base64.
    pub auth: String,
    /// A refresh token.
    #[serde(alias = "token")]
    pub identity_token: String,
}

impl std::fmt::Debug for Auth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Auth(..)")
    }
}

/// How to trust a host, and what it trusts us by.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Tls {
    /// The CA that signed its certificate.
    pub ca_file: Option<PathBuf>,
    /// Our certificate.
    pub cert_file: Option<PathBuf>,
    /// The key of our certificate.
    pub key_file: Option<PathBuf>,
    /// Whether any certificate will do.
    pub insecure_skip_verify: bool,
}

impl Registries {
    /// The login for a host, with which images of that host and of mirrors there are pulled.
    pub fn credentials(&self, host: &str) -> Option<Credentials> {
        self.configs.get(host)?.auth.as_ref()?.credentials()
    }

    /// Replaces the directory by one `hosts.toml` for each registry, for [`super::Config::hosts_dir`].
    ///
    /// # Errors
    /// When the directory cannot be written.
    pub fn write(&self, dir: &Path) -> Result<()> {
        match std::fs::remove_dir_all(dir) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::io("replace", dir, error));
            }
            _ => {}
        }
        std::fs::create_dir_all(dir).map_err(|source| Error::io("create", dir, source))?;
        for (registry, text) in self.files() {
            // containerd's name for the registry that stands for all.
            let path = dir.join(if registry == ANY { "_default" } else { registry });
            std::fs::create_dir_all(&path).map_err(|source| Error::io("create", &path, source))?;
            let file = path.join("hosts.toml");
            std::fs::write(&file, text).map_err(|source| Error::io("write", &file, source))?;
        }
        Ok(())
    }

    /// The text of each registry's `hosts.toml`.
    fn files(&self) -> BTreeMap<&str, String> {
        let own = self.configs.iter().filter(|(host, config)| *host != ANY && config.tls.is_some());
        let named = self.mirrors.keys().chain(own.map(|(host, _)| host));
        named.map(|registry| (registry.as_str(), self.file(registry))).collect()
    }

    fn file(&self, registry: &str) -> String {
        let mut text = String::new();
        let mut hosts: Vec<String> =
            self.mirrors.get(registry).map(|mirror| mirror.endpoint.clone()).unwrap_or_default();
        if registry != ANY && self.configs.get(registry).is_some_and(|config| config.tls.is_some()) {
            // The registry itself, last, with its own settings.
            hosts.push(format!("https://{registry}"));
        }
        for url in hosts {
            let _ = writeln!(text, "[host.{}]", quote(&url));
            let _ = writeln!(text, "  capabilities = [\"pull\", \"resolve\"]");
            let address = url.split_once("://").map_or(url.as_str(), |(_, rest)| rest);
            if let Some(tls) =
                self.configs.get(address.split('/').next().unwrap_or_default()).and_then(|c| c.tls.as_ref())
            {
                write_tls(tls, &mut text);
            }
        }
        text
    }
}

fn write_tls(tls: &Tls, text: &mut String) {
    let path = |path: &PathBuf| quote(&path.to_string_lossy());
    if let Some(ca) = &tls.ca_file {
        let _ = writeln!(text, "  ca = {}", path(ca));
    }
    if let (Some(certificate), Some(key)) = (&tls.cert_file, &tls.key_file) {
        let _ = writeln!(text, "  client = [[{}, {}]]", path(certificate), path(key));
    }
    if tls.insecure_skip_verify {
        let _ = writeln!(text, "  skip_verify = true");
    }
}

/// A basic string of TOML is written as one of JSON.
fn quote(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

impl Auth {
    fn credentials(&self) -> Option<Credentials> {
        if !self.identity_token.is_empty() {
            return Some(Credentials::Identity(self.identity_token.clone()));
        }
        let (username, password) = if self.auth.is_empty() {
            (self.username.clone(), self.password.clone())
        } else {
            let pair = String::from_utf8(STANDARD.decode(&self.auth).ok()?).ok()?;
            let (username, password) = pair.split_once(':')?;
            (username.to_owned(), password.to_owned())
        };
        (!username.is_empty()).then_some(Credentials::Basic { username, password })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registries(json: &str) -> Registries {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn mirrors_come_before_the_registry_each_with_its_own_settings() {
        let registries = registries(
            r#"{"mirrors": {"docker.io": {"endpoint": ["https://mirror:5000", "http://10.0.0.1/v2"]}, "*": {"endpoint": ["https://all"]}},
                "configs": {"mirror:5000": {"tls": {"ca_file": "/ca.pem", "cert_file": "/c.pem", "key_file": "/k.pem"}},
                            "private": {"tls": {"insecure_skip_verify": true}}}}"#,
        );
        let files = registries.files();
        assert_eq!(files.keys().copied().collect::<Vec<_>>(), ["*", "docker.io", "mirror:5000", "private"]);
        expect_test::expect![[r#"
            [host."https://mirror:5000"]
              capabilities = ["pull", "resolve"]
              ca = "/ca.pem"
              client = [["/c.pem", "/k.pem"]]
            [host."http://10.0.0.1/v2"]
              capabilities = ["pull", "resolve"]
        "#]]
        .assert_eq(&files["docker.io"]);
        expect_test::expect![[r#"
            [host."https://private"]
              capabilities = ["pull", "resolve"]
              skip_verify = true
        "#]]
        .assert_eq(&files["private"]);
    }

    #[test]
    fn a_login_is_a_pair_in_either_form_or_a_token() {
        let check = |auth: &str, expected: Option<Credentials>| {
            let registries = registries(&format!(r#"{{"configs": {{"host": {{"auth": {auth}}}}}}}"#));
            assert!(registries.credentials("host") == expected, "{auth}");
            assert!(registries.credentials("other").is_none());
        };
        let pair = Credentials::Basic { username: "user".to_owned(), password: "pass:word".to_owned() };
        check(r#"{"username": "user", "password": "pass:word"}"#, Some(pair.clone()));
        check(r#"{"auth": "dXNlcjpwYXNzOndvcmQ="}"#, Some(pair));
        check(r#"{"token": "t"}"#, Some(Credentials::Identity("t".to_owned())));
        check(r#"{"auth": "no base64"}"#, None);
        check("{}", None);
    }
}
