//! `Manifest`: what an image's manifest and config say, read from the content store.

use containerd_client::services::v1::ReadContentRequest;
use containerd_client::types::{Descriptor, Platform};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::client::{Client, failed, is_missing};
use super::spec::ImageConfig;
use crate::{Error, Result};

/// Manifests and configs are documents of a few kB.
const MAX_DOCUMENT: usize = 8 << 20;

/// An index may point to indexes.
const MAX_DEPTH: usize = 4;

/// What an image's manifest and config say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Manifest {
    /// `sha256:…` of the config: the image's id.
    pub(super) id: String,
    /// Bytes of manifest, config and layers.
    pub(super) size: u64,
    /// The snapshot of the unpacked image.
    pub(super) chain_id: String,
    /// How its containers run.
    pub(super) config: ImageConfig,
}

#[derive(Deserialize)]
struct Document {
    #[serde(default)]
    manifests: Vec<Entry>,
    config: Option<Entry>,
    #[serde(default)]
    layers: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    digest: String,
    #[serde(default)]
    size: u64,
    platform: Option<EntryPlatform>,
}

#[derive(Deserialize)]
struct EntryPlatform {
    os: String,
    architecture: String,
    #[serde(default)]
    variant: String,
}

#[derive(Deserialize)]
struct Config {
    #[serde(default)]
    config: ImageConfig,
    rootfs: RootFs,
}

#[derive(Deserialize)]
struct RootFs {
    #[serde(default)]
    diff_ids: Vec<String>,
}

/// The platform images are pulled for.
pub(super) fn platform() -> Platform {
    let (architecture, variant) = match std::env::consts::ARCH {
        "x86_64" => ("amd64", ""),
        "aarch64" => ("arm64", ""),
        "arm" => ("arm", "v7"),
        other => (other, ""),
    };
    Platform {
        os: "linux".to_owned(),
        architecture: architecture.to_owned(),
        variant: variant.to_owned(),
        ..Platform::default()
    }
}

/// Reads the manifest an image points to; `None` when its content for this platform is not on the node.
pub(super) async fn read(client: &Client, target: &Descriptor) -> Result<Option<Manifest>> {
    let (mut digest, mut size) = (target.digest.clone(), target.size.unsigned_abs());
    for _ in 0..MAX_DEPTH {
        let Some(document) = document::<Document>(client, &digest).await? else { return Ok(None) };
        let Some(config) = &document.config else {
            let Some(next) = choose(&document.manifests, &platform()) else { return Ok(None) };
            (digest, size) = (next.digest.clone(), next.size);
            continue;
        };
        let Some(image) = self::document::<Config>(client, &config.digest).await? else { return Ok(None) };
        return Ok(Some(Manifest {
            id: config.digest.clone(),
            size: size + config.size + document.layers.iter().map(|layer| layer.size).sum::<u64>(),
            chain_id: chain_id(&image.rootfs.diff_ids),
            config: image.config,
        }));
    }
    Ok(None)
}

/// The manifest for this platform, preferring its exact variant; the first one if none names a platform.
fn choose<'a>(entries: &'a [Entry], wanted: &Platform) -> Option<&'a Entry> {
    let fits = |entry: &&Entry| {
        entry.platform.as_ref().is_some_and(|p| p.os == wanted.os && p.architecture == wanted.architecture)
    };
    let exact = |entry: &&Entry| {
        fits(entry)
            && entry
                .platform
                .as_ref()
                .is_some_and(|p| wanted.variant.is_empty() || p.variant == wanted.variant)
    };
    let unnamed = || entries.iter().find(|entry| entry.platform.is_none());
    entries.iter().find(exact).or_else(|| entries.iter().find(fits)).or_else(unnamed)
}

/// The name of the topmost layer's snapshot: each name hashes the one below it and the layer.
fn chain_id(diff_ids: &[String]) -> String {
    let mut diff_ids = diff_ids.iter();
    let first = diff_ids.next().cloned().unwrap_or_default();
    diff_ids.fold(first, |chain, diff_id| {
        let digest = ring::digest::digest(&ring::digest::SHA256, format!("{chain} {diff_id}").as_bytes());
        let hex: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        format!("sha256:{hex}")
    })
}

async fn document<T: DeserializeOwned>(client: &Client, digest: &str) -> Result<Option<T>> {
    let request = ReadContentRequest { digest: digest.to_owned(), ..ReadContentRequest::default() };
    let failed = failed("read content");
    let mut stream = match client.content().read(request).await {
        Ok(response) => response.into_inner(),
        Err(status) if is_missing(&status) => return Ok(None),
        Err(status) => return Err(failed(status)),
    };
    let mut bytes = Vec::new();
    loop {
        match stream.message().await {
            Ok(Some(part)) => bytes.extend_from_slice(&part.data),
            Ok(None) => break,
            Err(status) if is_missing(&status) => return Ok(None),
            Err(status) => return Err(failed(status)),
        }
        if bytes.len() > MAX_DOCUMENT {
            return Err(unreadable(digest, "it is too large"));
        }
    }
    serde_json::from_slice(&bytes).map(Some).map_err(|error| unreadable(digest, &error.to_string()))
}

fn unreadable(digest: &str, problem: &str) -> Error {
    Error::Call { call: "read image", problem: format!("{digest}: {problem}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manifest_of_this_platform_is_chosen() {
        let check = |json: &str, wanted: (&str, &str), expected: Option<&str>| {
            let entries: Vec<Entry> = serde_json::from_str(json).unwrap();
            let wanted = Platform {
                os: "linux".to_owned(),
                architecture: wanted.0.to_owned(),
                variant: wanted.1.to_owned(),
                ..Platform::default()
            };
            assert_eq!(choose(&entries, &wanted).map(|entry| entry.digest.as_str()), expected);
        };
        let many = r#"[
            {"digest": "win", "platform": {"os": "windows", "architecture": "amd64"}},
            {"digest": "arm6", "platform": {"os": "linux", "architecture": "arm", "variant": "v6"}},
            {"digest": "arm7", "platform": {"os": "linux", "architecture": "arm", "variant": "v7"}},
            {"digest": "amd", "platform": {"os": "linux", "architecture": "amd64"}}]"#;
        check(many, ("amd64", ""), Some("amd"));
        check(many, ("arm", "v7"), Some("arm7"));
        check(many, ("arm", "v8"), Some("arm6"));
        check(many, ("s390x", ""), None);
        check(r#"[{"digest": "only"}]"#, ("amd64", ""), Some("only"));
    }

    #[test]
    fn the_chain_id_hashes_the_layers_from_below() {
        assert_eq!(chain_id(&["sha256:a".to_owned()]), "sha256:a");
        let two = chain_id(&["sha256:a".to_owned(), "sha256:b".to_owned()]);
        assert_eq!(two, "sha256:970a948bffa8de94d6e22d747ba8c95030e6e546909f98f54e99a13005e173a8");
    }
}
