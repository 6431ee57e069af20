//! `ci`: the one gate. Its steps run in order, named and timed, and the first that fails ends it.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::{build, conformance, embed, images, machine, process, tidy, workspace};

/// How long each fuzz target runs.
const FUZZ_SECONDS: u32 = 10;

/// One step of the gate.
struct Step {
    name: &'static str,
    run: fn() -> Result<()>,
}

/// Cheap steps first. `embed` stands before what compiles the binary, which includes the bundle.
const STEPS: &[Step] = &[
    Step { name: "fmt", run: || cargo(&["fmt", "--all", "--check"]) },
    Step { name: "tidy", run: tidy::run },
    Step { name: "deny", run: || cargo(&["deny", "check", "bans", "licenses", "sources"]) },
    Step { name: "embed", run: embed::run },
    Step {
        name: "clippy",
        run: || cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]),
    },
    Step { name: "test", run: test },
    Step { name: "images", run: images::run },
    Step { name: "machine", run: machine::run },
    Step { name: "build", run: || build::run(build::Profile::Quick).map(|_| ()) },
    Step { name: "system", run: system },
    Step { name: "conformance", run: conformance::gate },
    Step { name: "fuzz", run: fuzz },
];

/// Which steps to run.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only these steps, in the gate's order.
    #[arg(value_name = "STEP", value_parser = STEPS.iter().map(|step| step.name).collect::<Vec<_>>())]
    steps: Vec<String>,
}

/// Runs the steps, prints how long each took, and fails with the first that fails.
pub(crate) fn run(args: &Args) -> Result<()> {
    let mut timings = Vec::new();
    let mut outcome = Ok(());
    for step in STEPS.iter().filter(|step| wanted(args, step)) {
        println!("\n=== {}", step.name);
        let start = now();
        outcome = (step.run)().context(step.name);
        timings.push((step.name, start.elapsed(), outcome.is_ok()));
        if outcome.is_err() {
            break;
        }
    }
    println!("\n=== summary");
    for (name, duration, passed) in &timings {
        println!("{name:<11} {:>7.1} s  {}", duration.as_secs_f64(), if *passed { "ok" } else { "FAILED" });
    }
    let total: Duration = timings.iter().map(|(_, duration, _)| *duration).sum();
    println!("{:<11} {:>7.1} s", "total", total.as_secs_f64());
    outcome
}

fn wanted(args: &Args, step: &Step) -> bool {
    args.steps.is_empty() || args.steps.iter().any(|name| name == step.name)
}

#[expect(clippy::disallowed_methods, reason = "real time is what is measured")]
fn now() -> Instant {
    Instant::now()
}

fn cargo(arguments: &[&str]) -> Result<()> {
    process::run(Command::new("cargo").current_dir(workspace::root()).args(arguments))
}

/// Unit and crate tests. The runtime's drive the bundled containerd.
fn test() -> Result<()> {
    let mut test = Command::new("cargo");
    test.current_dir(workspace::root()).env("EDGEK_BUNDLE", embed::programs()).args([
        "test",
        "--workspace",
        "--exclude",
        "edgek-tests",
    ]);
    process::run(&mut test)
}

/// The system tests, with the binary that the step before built. They share one machine, so they say themselves what
/// may run side by side.
fn system() -> Result<()> {
    let binary = build::path(build::Profile::Quick);
    let mut test = Command::new("cargo");
    test.current_dir(workspace::root()).env("TESTED_EDGEK", binary).args([
        "test",
        "--package",
        "edgek-tests",
    ]);
    process::run(&mut test)
}

/// A short run of every fuzz target, from its seeds and the corpus that earlier runs left.
fn fuzz() -> Result<()> {
    let folder = workspace::root().join("fuzz");
    let targets = fuzz_targets(&folder)?;
    if targets.is_empty() {
        bail!("no fuzz target in {}", folder.display());
    }
    for target in targets {
        println!("fuzz: {target}");
        let (corpus, seeds) = (folder.join("corpus").join(&target), folder.join("seeds").join(&target));
        fs::create_dir_all(&corpus)?;
        // The instrumentation needs options that the stable compiler keeps to itself otherwise.
        let mut fuzz = Command::new("cargo");
        fuzz.current_dir(&folder)
            .env("RUSTC_BOOTSTRAP", "1")
            .args(["fuzz", "run", &target])
            .arg(corpus)
            .arg(seeds);
        fuzz.arg("--").arg(format!("-max_total_time={FUZZ_SECONDS}"));
        process::run(fuzz.args([
            "-verbosity=0",
            "-print_final_stats=1",
            "-max_len=8192",
            "-rss_limit_mb=1024",
        ]))?;
    }
    Ok(())
}

fn fuzz_targets(folder: &Path) -> Result<Vec<String>> {
    let mut targets = Vec::new();
    for entry in fs::read_dir(folder.join("fuzz_targets")).context("the fuzz targets")? {
        let path = entry?.path();
        if let Some(name) =
            path.file_stem().filter(|_| path.extension().is_some_and(|extension| extension == "rs"))
        {
            targets.push(name.to_string_lossy().into_owned());
        }
    }
    targets.sort();
    Ok(targets)
}
