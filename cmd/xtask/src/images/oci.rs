//! OCI images: layers, the image's configuration and manifest, an archive that containerd imports, and
//! the storage folder of a docker-registry. The bytes depend on the content only.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use crate::digest;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// What an image holds, by path without a leading slash.
#[derive(Default)]
pub(super) struct Rootfs(BTreeMap<String, Node>);

enum Node {
    Folder { mode: u32 },
    File { mode: u32, content: Vec<u8> },
    Link { target: String },
}

impl Rootfs {
    /// Adds a folder, with any missing folders above it.
    pub(super) fn folder(&mut self, path: &str, mode: u32) {
        self.insert(path, Node::Folder { mode });
    }

    /// Adds or replaces a file.
    pub(super) fn file(&mut self, path: &str, mode: u32, content: impl Into<Vec<u8>>) {
        self.insert(path, Node::File { mode, content: content.into() });
    }

    /// Adds a symbolic link.
    pub(super) fn link(&mut self, path: &str, target: &str) {
        self.insert(path, Node::Link { target: target.to_owned() });
    }

    /// Whether something is there.
    pub(super) fn contains(&self, path: &str) -> bool {
        self.0.contains_key(path)
    }

    fn insert(&mut self, path: &str, node: Node) {
        for (at, _) in path.match_indices('/') {
            self.0.entry(path[..at].to_owned()).or_insert(Node::Folder { mode: 0o755 });
        }
        self.0.insert(path.to_owned(), node);
    }

    fn tar(&self) -> Result<Vec<u8>> {
        let mut tar = tar::Builder::new(Vec::new());
        for (path, node) in &self.0 {
            match node {
                Node::Folder { mode } => {
                    tar.append_data(
                        &mut header(tar::EntryType::Directory, *mode, 0),
                        format!("{path}/"),
                        &[][..],
                    )?;
                }
                Node::File { mode, content } => {
                    let mut header = header(tar::EntryType::Regular, *mode, content.len());
                    tar.append_data(&mut header, path, content.as_slice())?;
                }
                Node::Link { target } => {
                    tar.append_link(&mut header(tar::EntryType::Symlink, 0o777, 0), path, target)?;
                }
            }
        }
        Ok(tar.into_inner()?)
    }
}

/// How a container of the image starts.
#[derive(Default)]
pub(super) struct Config {
    /// The program and its first arguments; empty for none.
    pub(super) entrypoint: &'static [&'static str],
    /// The arguments that a pod may replace.
    pub(super) command: &'static [&'static str],
    /// `uid:gid`; empty for root.
    pub(super) user: &'static str,
    /// Documented ports, as `80/tcp`.
    pub(super) ports: &'static [&'static str],
}

/// Some bytes and their digest.
struct Blob {
    digest: String,
    bytes: Vec<u8>,
}

impl Blob {
    fn new(bytes: Vec<u8>) -> Self {
        Self { digest: digest::sha256(&bytes), bytes }
    }

    fn descriptor(&self, media_type: &str) -> Value {
        json!({"mediaType": media_type, "digest": format!("sha256:{}", self.digest), "size": self.bytes.len()})
    }
}

/// Files, packed.
pub(super) struct Layer {
    blob: Blob,
    /// The digest of the archive before it was compressed.
    diff_id: String,
}

impl Layer {
    /// Packs the files.
    pub(super) fn new(rootfs: &Rootfs) -> Result<Self> {
        let tar = rootfs.tar()?;
        let diff_id = format!("sha256:{}", digest::sha256(&tar));
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        gzip.write_all(&tar)?;
        Ok(Self { blob: Blob::new(gzip.finish()?), diff_id })
    }
}

/// A finished image for this machine's architecture.
pub(super) struct Image<'a> {
    layers: Vec<&'a Blob>,
    config: Blob,
    manifest: Blob,
}

impl<'a> Image<'a> {
    /// Writes configuration and manifest around the layers, the lowest first.
    pub(super) fn new(layers: &[&'a Layer], config: &Config) -> Result<Self> {
        let diff_ids: Vec<&str> = layers.iter().map(|layer| layer.diff_id.as_str()).collect();
        let layers: Vec<&Blob> = layers.iter().map(|layer| &layer.blob).collect();
        let ports: serde_json::Map<_, _> =
            config.ports.iter().map(|port| ((*port).to_owned(), json!({}))).collect();
        let config = Blob::new(serde_json::to_vec(&json!({
            "architecture": architecture()?,
            "os": "linux",
            "config": {
                "Entrypoint": config.entrypoint,
                "Cmd": config.command,
                "User": config.user,
                "ExposedPorts": ports,
                "WorkingDir": "/",
                "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
            },
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        }))?);
        let manifest = Blob::new(serde_json::to_vec(&json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": config.descriptor(CONFIG),
            "layers": layers.iter().map(|layer| layer.descriptor(LAYER)).collect::<Vec<_>>(),
        }))?);
        Ok(Self { layers, config, manifest })
    }

    fn blobs(&self) -> impl Iterator<Item = &Blob> {
        self.layers.iter().copied().chain([&self.config, &self.manifest])
    }

    /// Writes an OCI layout as a tar file; containerd imports the image under each of the names.
    pub(super) fn write_archive(&self, path: &Path, names: &[&str]) -> Result<()> {
        let manifests = names.iter().map(|name| {
            let mut descriptor = self.manifest.descriptor(MANIFEST);
            let (_, tag) = name.rsplit_once(':').unwrap_or((name, "latest"));
            descriptor["annotations"] =
                json!({"io.containerd.image.name": name, "org.opencontainers.image.ref.name": tag});
            descriptor
        });
        let index = json!({"schemaVersion": 2, "manifests": manifests.collect::<Vec<_>>()});
        let mut files = BTreeMap::from([
            ("index.json".to_owned(), serde_json::to_vec(&index)?),
            ("oci-layout".to_owned(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec()),
        ]);
        for blob in self.blobs() {
            files.insert(format!("blobs/sha256/{}", blob.digest), blob.bytes.clone());
        }
        let partial = path.with_extension("partial");
        let mut tar = tar::Builder::new(fs::File::create(&partial)?);
        for (name, content) in files {
            let mut header = header(tar::EntryType::Regular, 0o644, content.len());
            tar.append_data(&mut header, name, content.as_slice())?;
        }
        tar.into_inner()?.flush()?;
        fs::rename(&partial, path).context("put the archive in its place")
    }
}

/// The storage folder of a docker-registry, as its filesystem driver lays it out.
pub(super) struct Registry {
    root: PathBuf,
}

impl Registry {
    /// Starts an empty folder in place of an old one.
    pub(super) fn create(folder: &Path) -> Result<Self> {
        if folder.exists() {
            fs::remove_dir_all(folder)?;
        }
        let root = folder.join("docker/registry/v2");
        fs::create_dir_all(&root)?;
        Ok(Self { root })
    }

    /// Adds an image under the names' repositories, without their host.
    pub(super) fn add(&self, image: &Image<'_>, names: &[&str]) -> Result<()> {
        for blob in image.blobs() {
            let name = format!("blobs/sha256/{}/{}/data", &blob.digest[..2], blob.digest);
            self.write(&name, &blob.bytes)?;
        }
        for name in names {
            let (_, path) = name.split_once('/').context("an image name has a host")?;
            let (repository, tag) = path.rsplit_once(':').context("an image name has a tag")?;
            for blob in image.layers.iter().copied().chain([&image.config]) {
                self.link(&format!("repositories/{repository}/_layers/sha256/{}", blob.digest), blob)?;
            }
            let (manifests, digest) =
                (format!("repositories/{repository}/_manifests"), &image.manifest.digest);
            self.link(&format!("{manifests}/revisions/sha256/{digest}"), &image.manifest)?;
            self.link(&format!("{manifests}/tags/{tag}/current"), &image.manifest)?;
            self.link(&format!("{manifests}/tags/{tag}/index/sha256/{digest}"), &image.manifest)?;
        }
        Ok(())
    }

    fn link(&self, folder: &str, blob: &Blob) -> Result<()> {
        self.write(&format!("{folder}/link"), format!("sha256:{}", blob.digest).as_bytes())
    }

    fn write(&self, name: &str, content: &[u8]) -> Result<()> {
        let path = self.root.join(name);
        fs::create_dir_all(path.parent().context("a file has a folder")?)?;
        fs::write(&path, content).with_context(|| format!("write {}", path.display()))
    }
}

/// Go's name of this machine's architecture, which images use.
fn architecture() -> Result<&'static str> {
    Ok(match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "arm" => "arm",
        "riscv64" => "riscv64",
        other => bail!("no images for {other}"),
    })
}

fn header(kind: tar::EntryType, mode: u32, size: usize) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size as u64);
    header
}
