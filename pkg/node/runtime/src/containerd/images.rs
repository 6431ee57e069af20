//! `Images`: the images of a node: what is there, pulls, imports and removals.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use containerd_client::services::v1::{
    DeleteImageRequest, GetImageRequest, Image as ImageRecord, ListImagesRequest, TransferRequest,
};
use containerd_client::tonic::Code;
use containerd_client::types::transfer::{
    ImageImportStream, ImageReference, ImageStore, OciRegistry, RegistryResolver, UnpackConfiguration,
};
use edgek_base_lifecycle::Scope;
use jiff::Timestamp;
use parking_lot::Mutex;

use super::client::{Client, any, failed, found};
use super::manifest::{self, Manifest};
use super::transfer::{self, Logins};
use super::{Config, Registries};
use crate::{Credentials, Error, Image, ImageVersion, Reference, Result};

/// The snapshotter all images are unpacked with.
pub(super) const SNAPSHOTTER: &str = "overlayfs";

/// Marks images that came in archives: garbage collection spares them, since no registry may have them.
const PINNED: (&str, &str) = ("io.cri-containerd.pinned", "pinned");

/// What containerd calls an image that has no name in its archive, before `@` and the digest.
const UNNAMED: &str = "import";

/// The images of a node.
pub(super) struct Images {
    scope: Scope,
    client: Client,
    registries: Arc<Registries>,
    hosts_dir: PathBuf,
    /// Manifests by digest: they never change.
    manifests: Mutex<HashMap<String, Arc<Manifest>>>,
}

impl Images {
    pub(super) fn new(scope: Scope, client: Client, config: &Config) -> Self {
        let (registries, hosts_dir) = (Arc::new(config.registries.clone()), config.hosts_dir());
        Self { scope, client, registries, hosts_dir, manifests: Mutex::default() }
    }

    /// All images whose content for this platform is here, by id.
    pub(super) async fn list(&self) -> Result<Vec<Image>> {
        let mut images: BTreeMap<String, Image> = BTreeMap::new();
        let records = self.records().await?;
        self.manifests.lock().retain(|digest, _| records.iter().any(|record| target(record) == digest));
        for record in records {
            if let Some(manifest) = self.manifest(&record).await? {
                let image = images.entry(manifest.id.clone()).or_insert_with(|| empty(&manifest));
                add_name(image, &record);
            }
        }
        Ok(images.into_values().collect())
    }

    /// The image a reference or an id names.
    pub(super) async fn find(&self, reference: &str) -> Result<Option<Image>> {
        let Some((_, manifest)) = self.resolve(reference).await? else { return Ok(None) };
        Ok(self.list().await?.into_iter().find(|image| image.id == manifest.id))
    }

    /// The record and manifest behind a reference or an id.
    pub(super) async fn resolve(&self, reference: &str) -> Result<Option<(ImageRecord, Arc<Manifest>)>> {
        if !is_id(reference) {
            let name = Reference::parse(reference)?;
            let request = GetImageRequest { name: name.to_string() };
            let answer = found("get image", self.client.images().get(request).await)?;
            if let Some(record) = answer.and_then(|response| response.image) {
                return Ok(self.manifest(&record).await?.map(|manifest| (record, manifest)));
            }
            // Stored under another form of the name, or by tag and asked for by digest.
            let same = |record: &ImageRecord| {
                let Ok(other) = Reference::parse(&record.name) else { return false };
                let digest =
                    matches!(&name.version, ImageVersion::Digest(digest) if digest == target(record));
                other == name || (digest && other.repository == name.repository)
            };
            let Some(record) = self.records().await?.into_iter().find(same) else { return Ok(None) };
            return Ok(self.manifest(&record).await?.map(|manifest| (record, manifest)));
        }
        let id = if reference.contains(':') { reference.to_owned() } else { format!("sha256:{reference}") };
        for record in self.records().await? {
            match self.manifest(&record).await? {
                Some(manifest) if manifest.id == id => return Ok(Some((record, manifest))),
                _ => {}
            }
        }
        Ok(None)
    }

    /// Pulls and unpacks through containerd's transfer service.
    pub(super) async fn pull(&self, reference: &str, credentials: Option<&Credentials>) -> Result<Image> {
        let name = Reference::parse(reference)?;
        let problem = |problem: String| Error::Pull { reference: name.to_string(), problem };
        let mut resolver =
            RegistryResolver { host_dir: text(&self.hosts_dir), ..RegistryResolver::default() };
        let mut logins = None;
        if let Some(Credentials::Bearer(token)) = credentials {
            resolver.headers.insert("Authorization".to_owned(), format!("Bearer {token}"));
        } else {
            let answers = Logins::new(&name, credentials.cloned(), self.registries.clone());
            let stream = transfer::answer_logins(&self.scope, &self.client, answers).await?;
            resolver.auth_stream.clone_from(&stream.id);
            logins = Some(stream);
        }
        let source = any(&OciRegistry { reference: name.to_string(), resolver: Some(resolver) });
        let destination = any(&ImageStore { name: name.to_string(), ..unpacked() });
        let transferred = self.transfer(source, destination).await;
        drop(logins);
        transferred.map_err(|error| match error {
            Error::Call { problem: text, .. } => problem(text),
            other => other,
        })?;
        self.find(reference)
            .await?
            .ok_or_else(|| problem("the image has no content for this platform".to_owned()))
    }

    /// Adds the images of an archive.
    pub(super) async fn import(&self, archive: &Path) -> Result<Vec<Image>> {
        let started = Timestamp::now();
        let problem = |problem: String| Error::Import { archive: text(archive), problem };
        let stream = transfer::send_file(&self.scope, &self.client, archive).await?;
        let source = any(&ImageImportStream { stream: stream.id.clone(), ..ImageImportStream::default() });
        let unnamed = ImageReference {
            name: UNNAMED.to_owned(),
            is_prefix: true,
            allow_overwrite: true,
            add_digest: true,
            skip_named_digest: true,
        };
        let labels = HashMap::from([(PINNED.0.to_owned(), PINNED.1.to_owned())]);
        let destination = any(&ImageStore { extra_references: vec![unnamed], labels, ..unpacked() });
        let transferred = self.transfer(source, destination).await;
        drop(stream);
        transferred.map_err(|error| match error {
            Error::Call { problem: text, .. } => problem(text),
            other => other,
        })?;
        let mut ids = BTreeSet::new();
        for record in self.records().await? {
            let updated = record.updated_at.as_ref().map_or(0, |time| time.seconds);
            if updated >= started.as_second()
                && let Some(manifest) = self.manifest(&record).await?
            {
                ids.insert(manifest.id.clone());
            }
        }
        Ok(self.list().await?.into_iter().filter(|image| ids.contains(&image.id)).collect())
    }

    /// Removes every name of the image; its content is collected at once.
    pub(super) async fn remove(&self, reference: &str) -> Result<()> {
        let Some((_, manifest)) = self.resolve(reference).await? else { return Ok(()) };
        let mut names = Vec::new();
        for record in self.records().await? {
            if self.manifest(&record).await?.is_some_and(|other| other.id == manifest.id) {
                names.push(record.name);
            }
        }
        let last = names.len().saturating_sub(1);
        for (place, name) in names.into_iter().enumerate() {
            let request = DeleteImageRequest { name, sync: place == last, ..DeleteImageRequest::default() };
            found("remove image", self.client.images().delete(request).await)?;
        }
        Ok(())
    }

    async fn records(&self) -> Result<Vec<ImageRecord>> {
        let answer = self.client.images().list(ListImagesRequest::default()).await;
        Ok(answer.map_err(failed("list images"))?.into_inner().images)
    }

    async fn manifest(&self, record: &ImageRecord) -> Result<Option<Arc<Manifest>>> {
        let Some(descriptor) = &record.target else { return Ok(None) };
        if let Some(manifest) = self.manifests.lock().get(&descriptor.digest) {
            return Ok(Some(manifest.clone()));
        }
        let Some(manifest) = manifest::read(&self.client, descriptor).await? else { return Ok(None) };
        let manifest = Arc::new(manifest);
        self.manifests.lock().insert(descriptor.digest.clone(), manifest.clone());
        Ok(Some(manifest))
    }

    async fn transfer(&self, source: prost_types::Any, destination: prost_types::Any) -> Result<()> {
        let request = TransferRequest { source: Some(source), destination: Some(destination), options: None };
        match self.client.transfer().transfer(request).await {
            Ok(_) => Ok(()),
            // Of the registry, not of containerd: only containerd's own absence is "unavailable".
            Err(status) if status.code() == Code::Unavailable && !is_transport(&status) => {
                Err(Error::Call { call: "transfer", problem: status.message().to_owned() })
            }
            Err(status) => Err(failed("transfer")(status)),
        }
    }
}

fn is_transport(status: &containerd_client::tonic::Status) -> bool {
    std::error::Error::source(status).is_some()
}

/// An image store that takes this platform only and unpacks it.
fn unpacked() -> ImageStore {
    let unpack =
        UnpackConfiguration { platform: Some(manifest::platform()), snapshotter: SNAPSHOTTER.to_owned() };
    ImageStore { platforms: vec![manifest::platform()], unpacks: vec![unpack], ..ImageStore::default() }
}

fn empty(manifest: &Manifest) -> Image {
    Image {
        id: manifest.id.clone(),
        tags: Vec::new(),
        digests: Vec::new(),
        size: manifest.size,
        user: manifest.config.user.clone(),
        pinned: false,
    }
}

fn add_name(image: &mut Image, record: &ImageRecord) {
    image.pinned |= record.labels.get(PINNED.0).is_some_and(|value| value == PINNED.1);
    // Known by its id only.
    if record.name.split_once('@').is_some_and(|(name, _)| name == UNNAMED) {
        return;
    }
    let Ok(name) = Reference::parse(&record.name) else { return };
    if let ImageVersion::Tag(_) = name.version {
        image.tags.push(name.to_string());
    }
    let digest = format!("{}@{}", name.repository, target(record));
    if !image.digests.contains(&digest) {
        image.digests.push(digest);
    }
}

fn target(record: &ImageRecord) -> &str {
    record.target.as_ref().map_or("", |target| target.digest.as_str())
}

/// Whether the text is an image id: `sha256:` and 64 hexadecimal digits, or those digits alone.
fn is_id(text: &str) -> bool {
    let hex = text.strip_prefix("sha256:").unwrap_or(text);
    hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit())
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
