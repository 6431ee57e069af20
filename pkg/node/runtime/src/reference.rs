//! `Reference`: an image name in full, from any of the forms users write.

use std::fmt;

use crate::{Error, Result};

const DEFAULT_REGISTRY: &str = "docker.io";
const MAX_NAME: usize = 255;

/// An image name in full: registry, repository, and a tag or a digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// Registry and repository: `docker.io/library/busybox`.
    pub repository: String,
    /// What in that repository.
    pub version: Version,
}

/// What in a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Version {
    /// A tag; `latest` when none is written.
    Tag(String),
    /// `sha256:…`. A tag written beside it counts for nothing.
    Digest(String),
}

impl Reference {
    /// Reads an image name as docker and Kubernetes do.
    ///
    /// # Errors
    /// [`Error::InvalidReference`] with the wording of the reference library that Kubernetes uses.
    pub fn parse(text: &str) -> Result<Self> {
        let invalid = |problem: &str| Error::InvalidReference {
            reference: text.to_owned(),
            problem: problem.to_owned(),
        };
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest)),
            None => (text, None),
        };
        let (name, tag) = match rest.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
            _ => (rest, None),
        };
        if tag.is_some_and(|tag| !is_tag(tag)) || digest.is_some_and(|digest| !is_digest(digest)) {
            return Err(invalid("invalid reference format"));
        }
        let (registry, path) = split_registry(name);
        if path.bytes().any(|b| b.is_ascii_uppercase()) {
            let problem = format!("invalid reference format: repository name ({path}) must be lowercase");
            return Err(invalid(&problem));
        }
        if !is_registry(&registry) || !path.split('/').all(is_path_component) {
            return Err(invalid("invalid reference format"));
        }
        let repository = format!("{registry}/{path}");
        if repository.len() > MAX_NAME {
            return Err(invalid("repository name must not be more than 255 characters"));
        }
        let version = match digest {
            Some(digest) => Version::Digest(digest.to_owned()),
            None => Version::Tag(tag.unwrap_or("latest").to_owned()),
        };
        Ok(Self { repository, version })
    }

    /// The registry's host and port: `docker.io`, `localhost:5000`.
    pub fn registry(&self) -> &str {
        self.repository.split_once('/').map_or(DEFAULT_REGISTRY, |(registry, _)| registry)
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.version {
            Version::Tag(tag) => write!(f, "{}:{tag}", self.repository),
            Version::Digest(digest) => write!(f, "{}@{digest}", self.repository),
        }
    }
}

/// The first part is a registry if it looks like a host; official images of the default registry live in `library/`.
fn split_registry(name: &str) -> (String, String) {
    let is_host = |part: &str| {
        part.contains(['.', ':']) || part == "localhost" || part.bytes().any(|b| b.is_ascii_uppercase())
    };
    let (registry, path) = match name.split_once('/') {
        Some(("index.docker.io", path)) => (DEFAULT_REGISTRY, path),
        Some((first, path)) if is_host(first) => (first, path),
        _ => (DEFAULT_REGISTRY, name),
    };
    let official = registry == DEFAULT_REGISTRY && !path.contains('/');
    (registry.to_owned(), if official { format!("library/{path}") } else { path.to_owned() })
}

fn is_registry(registry: &str) -> bool {
    let (host, port) = match registry.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (registry, None),
    };
    let label = |label: &str| {
        let inner = label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        !label.is_empty() && inner && !label.starts_with('-') && !label.ends_with('-')
    };
    let ipv6 = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
    let host_ok = match ipv6 {
        Some(address) => !address.is_empty() && address.bytes().all(|b| b.is_ascii_hexdigit() || b == b':'),
        None => host.split('.').all(label),
    };
    host_ok && port.is_none_or(|port| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()))
}

/// Lower-case letters and digits, separated by one `.`, one or two `_`, or any number of `-`.
fn is_path_component(component: &str) -> bool {
    let is_word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = component.as_bytes();
    let ends = bytes.first().copied().is_some_and(is_word) && bytes.last().copied().is_some_and(is_word);
    let mut separators = component.split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
    ends && separators.all(|s| s.is_empty() || matches!(s, "." | "_" | "__") || s.bytes().all(|b| b == b'-'))
}

fn is_tag(tag: &str) -> bool {
    let first = tag.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_');
    first && tag.len() <= 128 && tag.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
}

fn is_digest(digest: &str) -> bool {
    let length = match digest.split_once(':') {
        Some(("sha256", hex)) => (hex, 64),
        Some(("sha512", hex)) => (hex, 128),
        _ => return false,
    };
    length.0.len() == length.1 && length.0.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[test]
    fn names_are_completed() {
        let check =
            |input: &str, expected: &str| assert_eq!(Reference::parse(input).unwrap().to_string(), expected);
        check("busybox", "docker.io/library/busybox:latest");
        check("busybox:1.36", "docker.io/library/busybox:1.36");
        check("docker.io/busybox", "docker.io/library/busybox:latest");
        check("index.docker.io/busybox", "docker.io/library/busybox:latest");
        check("rancher/pause:3", "docker.io/rancher/pause:3");
        check("localhost/a/b", "localhost/a/b:latest");
        check("127.0.0.1:5000/web:v1", "127.0.0.1:5000/web:v1");
        check("[::1]:5000/web", "[::1]:5000/web:latest");
        check("registry.k8s.io/e2e-test-images/agnhost:2.56", "registry.k8s.io/e2e-test-images/agnhost:2.56");
        check(&format!("busybox@{DIGEST}"), &format!("docker.io/library/busybox@{DIGEST}"));
        check(&format!("a.b/c:v1@{DIGEST}"), &format!("a.b/c@{DIGEST}"));
        check("a__b/c--d", "docker.io/a__b/c--d:latest");
    }

    #[test]
    fn broken_names_are_refused() {
        let check = |input: &str, problem: &str| {
            let expected = format!("couldn't parse image name {input:?}: {problem}");
            assert_eq!(Reference::parse(input).unwrap_err().to_string(), expected);
        };
        let format = "invalid reference format";
        for input in [
            "",
            "busybox:",
            "a//b",
            "/a",
            "a/",
            "a b",
            "a:b:c/d",
            "a@sha256:12",
            "a..b",
            "a___b",
            "-a",
            "a.b:x/c",
        ] {
            check(input, format);
        }
        check("Web", "invalid reference format: repository name (library/Web) must be lowercase");
        check("a.b/Web:v1", "invalid reference format: repository name (Web) must be lowercase");
        check(&"a".repeat(260), "repository name must not be more than 255 characters");
    }
}
