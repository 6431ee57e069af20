//! `build` and `dist`: the binary with its bundle, statically linked, at a fixed path below `build/`.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::{embed, process, workspace};

/// How the binary is compiled.
#[derive(Clone, Copy, clap::ValueEnum)]
pub(crate) enum Profile {
    /// Optimised, but linked quickly: what tests run.
    Quick,
    /// As small as it gets: what is shipped.
    Release,
}

/// The sizes that the design sets, in bytes.
const BINARY_LIMIT: u64 = 40 * 1024 * 1024;

/// Where [`run`] puts the binary.
pub(crate) fn path(profile: Profile) -> PathBuf {
    workspace::build_dir().join(folder(profile)).join("edgek")
}

fn folder(profile: Profile) -> &'static str {
    match profile {
        Profile::Quick => "quick",
        Profile::Release => "release",
    }
}

/// Builds the bundle and the binary around it; returns the binary's path.
pub(crate) fn run(profile: Profile) -> Result<PathBuf> {
    embed::run()?;
    let target = host()?;
    let mut cargo = Command::new("cargo");
    cargo
        .current_dir(workspace::root())
        .env("RUSTFLAGS", "-C target-feature=+crt-static -C force-unwind-tables=no");
    cargo.args(["build", "--package", "edgek", "--profile", folder(profile), "--target", &target]);
    process::run(&mut cargo)?;

    let built = workspace::root().join("target").join(&target).join(folder(profile)).join("edgek");
    let binary = path(profile);
    fs::create_dir_all(binary.parent().context("the binary has a folder")?)?;
    // A running binary cannot be written to, but it can be replaced.
    let partial = binary.with_extension("partial");
    fs::copy(&built, &partial).with_context(|| format!("copy {}", built.display()))?;
    fs::rename(&partial, &binary)?;
    println!("build: {}", binary.display());
    Ok(binary)
}

/// Builds what is shipped and prints what it weighs.
pub(crate) fn dist() -> Result<()> {
    let binary = run(Profile::Release)?;
    let bundle = workspace::build_dir().join("bundle");
    let size = fs::metadata(&binary)?.len();
    let packed = fs::metadata(bundle.join("bundle.tar.zst"))?.len();
    println!("{:<26} {:>9}", "edgek", megabytes(size));
    println!("{:<26} {:>9}", "  of it the bundle", megabytes(packed));
    println!("{:<26} {:>9}", "  of it our code", megabytes(size.saturating_sub(packed)));
    let mut programs: Vec<_> = fs::read_dir(bundle.join("bin"))?.collect::<Result<_, _>>()?;
    programs.sort_by_key(fs::DirEntry::file_name);
    for program in programs {
        println!(
            "  {:<24} {:>9}",
            program.file_name().to_string_lossy(),
            megabytes(program.metadata()?.len())
        );
    }
    anyhow::ensure!(size <= BINARY_LIMIT, "the binary is larger than {}", megabytes(BINARY_LIMIT));
    Ok(())
}

fn megabytes(bytes: u64) -> String {
    format!("{}.{} MiB", bytes >> 20, ((bytes & 0xf_ffff) * 10) >> 20)
}

/// The compiler's name of this machine. Naming it keeps the flags away from build scripts and macros.
fn host() -> Result<String> {
    let verbose = process::output(Command::new("rustc").arg("-vV"))?;
    verbose
        .lines()
        .find_map(|line| line.strip_prefix("host: "))
        .map(str::to_owned)
        .context("rustc -vV names no host")
}
