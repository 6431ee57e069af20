//! Images from archives on the node: those of a folder are imported at each start, as K3s does, but once.
//!
//! A file beside the folder remembers which archives were imported, by their size and time, and what was in them: an
//! archive that has not changed and whose images are all there is passed over.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use anyhow::Result;
use edgek_base_lifecycle::{Backoff, Scope};
use edgek_base_sys::files::write_atomic;
use edgek_node_runtime::Runtime;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tracing::{info, warn};

/// What was imported, by the names of the archives.
type Imported = BTreeMap<String, Archive>;

/// An archive as it was when it was imported.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Archive {
    size: u64,
    /// Since 1970.
    modified: Duration,
    /// The ids of its images.
    images: BTreeSet<String>,
}

/// Imports the archives of `folder` that are new, and remembers them in `state`. Says when it is done.
pub(crate) fn import(
    folder: PathBuf,
    state: PathBuf,
    runtime: Arc<dyn Runtime>,
    scope: &Scope,
) -> watch::Receiver<bool> {
    let (done, imported) = watch::channel(false);
    scope.spawn("image import", async move {
        if let Err(error) = import_all(&folder, &state, &*runtime).await {
            warn!(folder = %folder.display(), error = format!("{error:#}"), "importing images");
        }
        done.send_replace(true);
    });
    imported
}

async fn import_all(folder: &Path, state: &Path, runtime: &dyn Runtime) -> Result<()> {
    let archives = archives(folder);
    if archives.is_empty() {
        return Ok(());
    }
    // A file that cannot be read costs one more import.
    let old: Imported =
        fs::read(state).ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default();
    let there = present(runtime).await;
    let mut new = Imported::new();
    for path in archives {
        let name = path.to_string_lossy().into_owned();
        let (size, modified) = match version(&path) {
            Ok(version) => version,
            Err(error) => {
                warn!(archive = name, %error, "importing images");
                continue;
            }
        };
        if let Some(known) = old.get(&name)
            && (known.size, known.modified) == (size, modified)
            && known.images.is_subset(&there)
        {
            new.insert(name, known.clone());
            continue;
        }
        match runtime.import_images(&path).await {
            Ok(images) => {
                info!(archive = name, images = images.len(), "images imported");
                let images = images.into_iter().map(|image| image.id).collect();
                new.insert(name, Archive { size, modified, images });
            }
            Err(error) => warn!(archive = name, %error, "importing images"),
        }
    }
    if new != old {
        write_atomic(state, &serde_json::to_vec(&new)?, 0o600)?;
    }
    Ok(())
}

/// The ids of the images that are there, once the runtime answers: on a slow machine it may take longer to start than
/// its callers wait.
async fn present(runtime: &dyn Runtime) -> BTreeSet<String> {
    let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(10));
    loop {
        match runtime.images().await {
            Ok(images) => return images.into_iter().map(|image| image.id).collect(),
            Err(error) => warn!(%error, "image archives wait for the runtime"),
        }
        backoff.wait().await;
    }
}

fn archives(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut archives: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    archives.retain(|path| {
        let name = path.to_string_lossy();
        [".tar", ".tar.gz", ".tgz", ".tar.zst"].iter().any(|end| name.ends_with(end))
    });
    archives.sort();
    archives
}

/// What changes with an archive's contents.
fn version(archive: &Path) -> std::io::Result<(u64, Duration)> {
    let metadata = fs::metadata(archive)?;
    let modified = metadata.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
    Ok((metadata.len(), modified))
}

#[cfg(test)]
mod tests {
    use super::*;
    use edgek_node_runtime::fake::FakeRuntime;

    #[tokio::test]
    async fn an_archive_is_imported_once_until_it_changes_or_its_image_goes() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("imported.json");
        let runtime = FakeRuntime::with_images(&[]);
        fs::write(folder.path().join("a.tar"), "a").unwrap();
        fs::write(folder.path().join("b.tar.zst"), "b").unwrap();
        fs::write(folder.path().join("readme"), "no archive").unwrap();
        let imports = async || {
            let before = runtime.calls().len();
            import_all(folder.path(), &state, &*runtime).await.unwrap();
            runtime.calls().split_off(before)
        };
        assert_eq!(imports().await, ["import a.tar", "import b.tar.zst"]);
        assert!(imports().await.is_empty());
        fs::write(folder.path().join("a.tar"), "longer").unwrap();
        assert_eq!(imports().await, ["import a.tar"]);
        runtime.remove_image("b.tar.zst").await.unwrap();
        assert_eq!(imports().await, ["import b.tar.zst"]);
        fs::write(&state, "junk").unwrap();
        assert_eq!(imports().await.len(), 2);
    }
}
