//! The programs inside the binary, and how they come to disk: each once, whole or not at all.
//!
//! The archive holds a manifest and then the programs in the order in which a starting node needs them, so a start
//! waits only for the first few ([`NODE`]); the rest follows in the background. `<data-dir>/bin/current` always names
//! the folder of the newest programs: what outlives an upgrade (the path of runc in a running shim) goes through it.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use edgek_base_sys::files::{create_dir_private, sync_dir};
use edgek_base_sys::memory;
use serde::Deserialize;

static ARCHIVE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/bundle.tar.zst"));
static HASH: &str = include_str!(concat!(env!("OUT_DIR"), "/bundle.hash"));
/// The window the archive was packed with (`zstd --long=26`): unpacking takes that much memory for a moment.
const WINDOW_LOG: u32 = 26;

/// What a node cannot start without.
pub(crate) const NODE: [&str; 3] = ["containerd", "containerd-shim-runc-v2", "runc"];

#[derive(Deserialize)]
struct Manifest {
    files: Vec<Program>,
}

#[derive(Deserialize)]
struct Program {
    name: String,
    size: u64,
    mode: u32,
}

/// The bundle unpacked under one folder.
#[derive(Debug, Clone)]
pub(crate) struct Bundle {
    /// `<data-dir>/bin`.
    root: PathBuf,
}

impl Bundle {
    /// The bundle below `root`; nothing is unpacked yet.
    pub(crate) fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The folder of the newest programs.
    pub(crate) fn current(&self) -> PathBuf {
        self.root.join("current")
    }

    fn folder(&self) -> PathBuf {
        self.root.join(HASH.trim())
    }

    /// Makes sure that these programs are unpacked, and points `current` at them.
    pub(crate) fn unpack(&self, names: &[&str]) -> Result<()> {
        ensure!(
            !ARCHIVE.is_empty(),
            "this edgek was built without its bundle of programs; build it with `cargo xtask embed` first"
        );
        let folder = self.folder();
        let Manifest { files } = manifest(&mut archive()?)?;
        let is_whole = |name: &str| {
            let size = fs::metadata(folder.join(name)).ok().map(|metadata| metadata.len());
            files.iter().any(|program| program.name == name && Some(program.size) == size)
        };
        let missing: BTreeSet<&str> = names.iter().copied().filter(|name| !is_whole(name)).collect();
        if !missing.is_empty() {
            create_dir_private(&folder).with_context(|| format!("making {}", folder.display()))?;
            extract(&folder, &files, missing)?;
        }
        self.point_current()
    }

    /// Unpacks what is still missing and removes the programs of other versions.
    pub(crate) fn finish(&self) -> Result<()> {
        let folder = self.folder();
        let Manifest { files } = manifest(&mut archive()?)?;
        let names: Vec<&str> = files.iter().map(|program| program.name.as_str()).collect();
        self.unpack(&names)?;
        remove_leftovers(&folder)?;
        for entry in fs::read_dir(&self.root)? {
            let path = entry?.path();
            let is_old = path != folder && path != self.current() && path.is_dir();
            if is_old {
                fs::remove_dir_all(&path).with_context(|| format!("removing {}", path.display()))?;
            }
        }
        memory::evict(ARCHIVE);
        Ok(())
    }

    fn point_current(&self) -> Result<()> {
        let (link, target) = (self.current(), Path::new(HASH.trim()));
        if fs::read_link(&link).is_ok_and(|there| there == target) {
            return Ok(());
        }
        let temporary = self.root.join(format!(".current.{}", std::process::id()));
        let _ = fs::remove_file(&temporary);
        symlink(target, &temporary).and_then(|()| fs::rename(&temporary, &link))?;
        sync_dir(&self.root)?;
        Ok(())
    }
}

type Archive = tar::Archive<zstd::Decoder<'static, &'static [u8]>>;

fn archive() -> Result<Archive> {
    let mut decoder = zstd::Decoder::with_buffer(ARCHIVE)?;
    decoder.window_log_max(WINDOW_LOG)?;
    Ok(tar::Archive::new(decoder))
}

/// Reads the manifest, the archive's first entry.
fn manifest(archive: &mut Archive) -> Result<Manifest> {
    let mut first = archive.entries()?.next().context("the bundle is empty")??;
    ensure!(
        first.path()?.as_ref() == Path::new("manifest.json"),
        "the bundle does not begin with its manifest"
    );
    let mut text = Vec::new();
    first.read_to_end(&mut text)?;
    Ok(serde_json::from_slice(&text)?)
}

fn extract(folder: &Path, files: &[Program], mut missing: BTreeSet<&str>) -> Result<()> {
    let mut archive = archive()?;
    for entry in archive.entries()? {
        if missing.is_empty() {
            break;
        }
        let mut entry = entry?;
        let name = entry.path()?.to_string_lossy().into_owned();
        if let Some(program) = files.iter().find(|program| program.name == name)
            && missing.remove(name.as_str())
        {
            write_program(folder, program, &mut entry).with_context(|| format!("unpacking {name}"))?;
        }
    }
    if let Some(name) = missing.first() {
        bail!("the bundle does not hold {name}");
    }
    sync_dir(folder)?;
    Ok(())
}

/// Removes what a process that was killed while it unpacked has left: `.<program>.<process>`.
fn remove_leftovers(folder: &Path) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let writer =
            name.strip_prefix('.').and_then(|name| name.rsplit_once('.')).map(|(_, process)| process);
        if writer.is_some_and(|process| !Path::new("/proc").join(process).exists()) {
            fs::remove_file(entry.path()).with_context(|| format!("removing {name}"))?;
        }
    }
    Ok(())
}

fn write_program(folder: &Path, program: &Program, contents: &mut impl Read) -> Result<()> {
    let temporary = folder.join(format!(".{}.{}", program.name, std::process::id()));
    let written = (|| {
        let mut file = File::create(&temporary)?;
        let size = io::copy(contents, &mut file)?;
        if size != program.size {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
        }
        file.set_permissions(fs::Permissions::from_mode(program.mode))?;
        file.sync_all()?;
        // Nobody can run a program that is open for writing ("text file busy").
        drop(file);
        fs::rename(&temporary, folder.join(&program.name))
    })();
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written.with_context(|| {
        let folder = folder.display();
        format!("{folder} cannot take {} bytes: make room there, or choose another --data-dir", program.size)
    })
}
