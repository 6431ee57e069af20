//! `embed`: builds the programs that edgek carries (containerd, its shim, runc, ctr, kubectl) from the Go module in
//! `embedded/` and packs them for the build of `cmd/edgek`.
//!
//! Results, below `build/bundle/`: `bin/` (the plain programs, which tests run), `bundle.tar.zst` (`manifest.json`, then
//! the programs in the order in which a starting node needs them) and `bundle.hash` (the SHA-256 of the manifest, which
//! names the folder they are unpacked to).

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::Serialize;

use crate::{digest, process, workspace};

/// The version of Kubernetes whose kubectl is built.
const KUBERNETES: &str = "v1.37.0";

/// zstd's level, and its window as a power of two. Long matches find what the Go programs share.
const LEVEL: i32 = 19;
const WINDOW_LOG: u32 = 26;

/// One program to build.
#[derive(Debug)]
struct Program {
    name: &'static str,
    package: &'static str,
    tags: &'static str,
    /// What the linker stamps: `variable=value`, separated by spaces; versions are filled in.
    stamps: &'static [&'static str],
    link: Link,
}

/// How a program becomes static.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Link {
    /// Pure Go.
    Go,
    /// With C code, linked by the system's compiler.
    C,
}

const CONTAINERD: &[&str] =
    &["github.com/containerd/containerd/v2/version.Version={github.com/containerd/containerd/v2}"];
const KUBECTL: &[&str] = &[
    "k8s.io/component-base/version.gitVersion={kubernetes}",
    "k8s.io/component-base/version.gitMajor=1",
    "k8s.io/component-base/version.gitMinor=37",
    "k8s.io/component-base/version.gitTreeState=clean",
    "k8s.io/client-go/pkg/version.gitVersion={kubernetes}",
];

/// In the order in which a starting node needs them; kubectl, the largest, last.
const PROGRAMS: &[Program] = &[
    Program {
        name: "containerd",
        package: "./containerd",
        tags: "netgo,osusergo,grpcnotrace",
        stamps: CONTAINERD,
        link: Link::Go,
    },
    Program {
        name: "containerd-shim-runc-v2",
        package: "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2",
        tags: "netgo,osusergo,grpcnotrace",
        stamps: CONTAINERD,
        link: Link::Go,
    },
    Program {
        name: "runc",
        package: "github.com/opencontainers/runc",
        tags: "netgo,osusergo,seccomp,urfave_cli_no_docs",
        stamps: &[],
        link: Link::C,
    },
    Program {
        name: "ctr",
        package: "github.com/containerd/containerd/v2/cmd/ctr",
        tags: "netgo,osusergo,grpcnotrace",
        stamps: CONTAINERD,
        link: Link::Go,
    },
    Program {
        name: "kubectl",
        package: "./kubectl",
        tags: "netgo,osusergo,grpcnotrace",
        stamps: KUBECTL,
        link: Link::Go,
    },
];

/// The linker's flags that stamp the version of Kubernetes.
pub(crate) fn kubernetes_stamps() -> String {
    KUBECTL.iter().map(|stamp| format!("-X {} ", stamp.replace("{kubernetes}", KUBERNETES))).collect()
}

/// What the bundle holds: the first entry of the archive.
#[derive(Serialize)]
struct Manifest {
    files: Vec<Entry>,
}

/// One program in the manifest.
#[derive(Serialize)]
struct Entry {
    name: &'static str,
    size: u64,
    sha256: String,
    mode: u32,
}

/// Where the plain programs lie.
pub(crate) fn programs() -> PathBuf {
    workspace::build_dir().join("bundle/bin")
}

/// Builds and packs, unless the last run had the same sources, recipe and compilers.
pub(crate) fn run() -> Result<()> {
    let module = workspace::root().join("embedded");
    let bundle = workspace::build_dir().join("bundle");
    let bin = programs();
    fs::create_dir_all(&bin)?;
    let lock = fs::File::create(bundle.join(".lock"))?;
    lock.lock().context("wait for another run of embed")?;

    let key = cache_key(&module)?;
    let stamp = bundle.join("stamp");
    let outputs = [bundle.join("bundle.tar.zst"), bundle.join("bundle.hash")];
    let complete = outputs
        .iter()
        .cloned()
        .chain(PROGRAMS.iter().map(|program| bin.join(program.name)))
        .all(|path| path.exists());
    if complete && fs::read_to_string(&stamp).is_ok_and(|stamped| stamped == key) {
        println!("embed: up to date");
        return Ok(());
    }
    for program in PROGRAMS {
        println!("embed: build {}", program.name);
        build(program, &module, &bin)?;
    }
    let manifest = serde_json::to_vec(&manifest(&bin)?)?;
    let hash = digest::sha256(&manifest);
    if !outputs[0].exists() || fs::read_to_string(&outputs[1]).is_ok_and(|packed| packed != hash) {
        println!("embed: pack");
        pack(&manifest, &bin, &outputs[0])?;
    }
    workspace::write(&outputs[1], hash.as_bytes())?;
    workspace::write(&stamp, key.as_bytes())?;
    println!("embed: {} bytes in {}", fs::metadata(&outputs[0])?.len(), outputs[0].display());
    Ok(())
}

/// Everything the result depends on.
fn cache_key(module: &Path) -> Result<String> {
    let go = process::output(process::go(module).arg("version"))?;
    let seccomp =
        process::output(std::process::Command::new("pkg-config").args(["--modversion", "libseccomp"]))
            .context("libseccomp is needed to build runc: run scripts/deps")?;
    let sources = digest::tree(module)?;
    Ok(digest::sha256(format!("{go}\n{seccomp}\n{sources}\n{PROGRAMS:?}\n{LEVEL} {WINDOW_LOG}").as_bytes()))
}

fn build(program: &Program, module: &Path, bin: &Path) -> Result<()> {
    let mut flags = "-s -w".to_owned();
    for stamp in program.stamps {
        flags += &format!(" -X {}", fill_version(stamp, module)?);
    }
    if program.link == Link::C {
        flags += " -linkmode external -extldflags -static";
    }
    let cgo = if program.link == Link::C { "1" } else { "0" };
    let mut go = process::go(module);
    go.env("CGO_ENABLED", cgo).args(["build", "-trimpath", "-tags", program.tags, "-ldflags", &flags, "-o"]);
    process::run(go.arg(bin.join(program.name)).arg(program.package))
}

/// Replaces `{module}` in a stamp by the version the module is pinned to.
fn fill_version(stamp: &str, module: &Path) -> Result<String> {
    let Some((before, rest)) = stamp.split_once('{') else { return Ok(stamp.to_owned()) };
    let (name, after) = rest.split_once('}').context("an unclosed brace in a stamp")?;
    let version = match name {
        "kubernetes" => KUBERNETES.to_owned(),
        name => process::output(process::go(module).args(["list", "-m", "-f", "{{.Version}}", name]))?,
    };
    Ok(format!("{before}{version}{after}"))
}

fn manifest(bin: &Path) -> Result<Manifest> {
    let entry = |program: &Program| -> Result<Entry> {
        let path = bin.join(program.name);
        let size = fs::metadata(&path)?.len();
        Ok(Entry { name: program.name, size, sha256: digest::sha256_file(&path)?, mode: 0o755 })
    };
    Ok(Manifest { files: PROGRAMS.iter().map(entry).collect::<Result<_>>()? })
}

/// Writes the archive beside its place, then moves it there.
fn pack(manifest: &[u8], bin: &Path, archive: &Path) -> Result<()> {
    let partial = archive.with_extension("partial");
    let mut zstd = zstd::Encoder::new(fs::File::create(&partial)?, LEVEL)?;
    zstd.long_distance_matching(true)?;
    zstd.window_log(WINDOW_LOG)?;
    zstd.multithread(2)?;
    let mut tar = tar::Builder::new(zstd);
    tar.append_data(&mut header(manifest.len() as u64, 0o644), "manifest.json", manifest)?;
    for program in PROGRAMS {
        let file = fs::File::open(bin.join(program.name))?;
        let size = file.metadata()?.len();
        tar.append_data(&mut header(size, 0o755), program.name, io::BufReader::new(file))?;
    }
    let mut file = tar.into_inner()?.finish()?;
    file.flush()?;
    fs::rename(&partial, archive).context("put the archive in its place")
}

/// A header with nothing in it that differs from build to build.
fn header(size: u64, mode: u32) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_size(size);
    header.set_mode(mode);
    header
}
