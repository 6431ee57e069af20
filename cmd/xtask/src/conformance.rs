//! `conformance`: upstream's conformance suite against a cluster of this tree.
//!
//! Every test is a process of `e2e.test` of its own: killing the command loses only the tests that run, each test has a
//! time limit and a log, and nothing that one leaves in its process reaches the next. `conformance/results.tsv` knows of
//! every test how it last ended; it is written after each one.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use jiff::Timestamp;

use crate::{build, images, workspace};
use cluster::Cluster;
use results::{Outcome, Results};
use run::Run;

mod cluster;
mod gate;
mod missing;
mod results;
mod run;
mod suite;

pub(crate) use gate::run as gate;

/// What to do.
#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    choice: Choice,
    #[command(flatten)]
    how: How,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Builds the suite, its tools and its images.
    Build,
    /// Writes the table of conformance/README.md from the results.
    Report,
}

/// Which tests to run.
#[derive(clap::Args)]
struct Choice {
    /// All of the suite.
    #[arg(long, conflicts_with_all = ["focus", "sig", "failed", "resume"])]
    all: bool,
    /// Those whose names match a regular expression (of Go's dialect).
    #[arg(long, value_name = "REGEX")]
    focus: Option<String>,
    /// Those of one area, as sig-node.
    #[arg(long, value_name = "NAME")]
    sig: Option<String>,
    /// Those that failed when they last ran.
    #[arg(long)]
    failed: bool,
    /// Those that the last run left, when it was ended early.
    #[arg(long, conflicts_with_all = ["focus", "sig", "failed"])]
    resume: bool,
}

/// How to run them.
#[derive(clap::Args)]
struct How {
    /// How many tests run side by side; those marked [Serial] never do.
    #[arg(long, default_value_t = 4)]
    procs: usize,
    /// One test at a time.
    #[arg(long, conflicts_with = "procs")]
    serial: bool,
    /// The binary to test, instead of one built from this tree.
    #[arg(long, value_name = "PATH")]
    edgek: Option<PathBuf>,
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> Result<()> {
    match args.command {
        Some(Command::Build) => suite::build().and_then(|()| images::run_suite().map(|_| ())),
        Some(Command::Report) => Results::load(&suite::tests()?)?.write_report(),
        None => {
            suite::build()?;
            let mut results = Results::load(&suite::tests()?)?;
            let plan = plan(&args.choice, &results)?;
            let procs = if args.how.serial { 1 } else { args.how.procs };
            let failed = start(&plan, procs, args.how.edgek.clone(), &mut results)?;
            results.print();
            ensure!(failed == 0, "{failed} of {} tests did not pass", plan.len());
            Ok(())
        }
    }
}

/// Runs the tests on a cluster of their own; returns how many did not pass.
fn start(plan: &[String], procs: usize, edgek: Option<PathBuf>, results: &mut Results) -> Result<usize> {
    let registry = images::run_suite()?;
    let edgek = match edgek {
        Some(path) => path,
        None => build::run(build::Profile::Quick)?,
    };
    let cluster = Cluster::up(&edgek, &registry)?;
    Run::new(&cluster, procs)?.tests(plan, results)
}

/// The tests to run. A choice is noted down, for `--resume`.
fn plan(choice: &Choice, results: &Results) -> Result<Vec<String>> {
    let path = workspace::build_dir().join("conformance/plan");
    if choice.resume {
        let text = fs::read_to_string(&path).context("no run to resume")?;
        let (began, names) = text.split_once('\n').context("no run to resume")?;
        let began: Timestamp = began.parse()?;
        let left = names.lines().filter(|name| results.get(name).is_some_and(|r| r.when < Some(began)));
        return Ok(left.map(str::to_owned).collect());
    }
    ensure!(
        choice.all || choice.failed || choice.focus.is_some() || choice.sig.is_some(),
        "say what to run: --all, --focus, --sig, --failed or --resume"
    );
    let focused = choice.focus.as_deref().map(suite::matching).transpose()?;
    let wanted = |name: &str| {
        focused.as_ref().is_none_or(|names: &BTreeSet<String>| names.contains(name))
            && choice.sig.as_ref().is_none_or(|sig| name.starts_with(&format!("[{sig}]")))
            && (!choice.failed || results.get(name).is_some_and(|r| r.outcome == Outcome::Failed))
    };
    let names: Vec<String> = results.names().filter(|name| wanted(name)).map(str::to_owned).collect();
    ensure!(!names.is_empty(), "no conformance test is chosen");
    workspace::write(&path, format!("{}\n{}\n", Timestamp::now(), names.join("\n")).as_bytes())?;
    Ok(names)
}
