//! Where things are in this checkout. Used by every command.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

/// The root of the checkout: this crate is compiled inside it.
pub(crate) fn root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.ancestors().nth(2).expect("cmd/xtask lies two folders below the root").to_path_buf()
}

/// The folder of everything built that cargo does not build: the bundle, images, reports.
pub(crate) fn build_dir() -> PathBuf {
    root().join("build")
}

/// The lines of a list of this checkout; empty ones do not count.
pub(crate) fn lines(path: &str) -> Result<Vec<String>> {
    let text = std::fs::read_to_string(root().join(path)).with_context(|| path.to_owned())?;
    Ok(text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect())
}

/// Replaces a file in one step, so that no reader sees half of it.
pub(crate) fn write(path: &Path, content: &[u8]) -> std::io::Result<()> {
    let partial = path.with_extension("partial");
    std::fs::write(&partial, content)?;
    std::fs::rename(&partial, path)
}
