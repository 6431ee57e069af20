//! Developer commands; run with `cargo xtask <command>`. Each command is one module; this file only dispatches.
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "tests"))]
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command-line tool talks to its terminal")]

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod bench;
mod build;
mod ci;
mod conformance;
mod digest;
mod embed;
mod gen_schema;
mod images;
mod machine;
mod process;
mod tidy;
mod workspace;

/// Developer commands of edgek.
#[derive(Parser)]
#[command(name = "cargo xtask", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Measures an API server, or an edgek that it starts.
    Bench(bench::Args),
    /// Builds the binary with its bundle, to build/<profile>/edgek.
    Build {
        /// How it is compiled.
        #[arg(long, value_enum, default_value = "quick")]
        profile: build::Profile,
    },
    /// Runs the gate: every check and every test.
    Ci(ci::Args),
    /// Runs upstream's conformance suite.
    Conformance(conformance::Args),
    /// Builds what is shipped and prints what it weighs.
    Dist,
    /// Builds and packs the programs that edgek carries.
    Embed,
    /// Writes the schema table from the published Kubernetes API definitions.
    GenSchema(gen_schema::Args),
    /// Makes the container images that tests run.
    Images,
    /// Makes the machine that tests boot.
    Machine,
    /// Serves the images of `images` as a registry.
    Registry(images::ServeArgs),
    /// Checks the rules of the tree that neither compiler nor clippy can see.
    Tidy,
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs one command. A new command adds its module above, a variant, and a line here.
fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Bench(args) => bench::run(&args),
        Command::Build { profile } => build::run(profile).map(|_| ()),
        Command::Ci(args) => ci::run(&args),
        Command::Conformance(args) => conformance::run(&args),
        Command::Dist => build::dist(),
        Command::Embed => embed::run(),
        Command::GenSchema(args) => gen_schema::run(&args),
        Command::Images => images::run(),
        Command::Machine => machine::run(),
        Command::Registry(args) => images::serve(&args),
        Command::Tidy => tidy::run(),
    }
}
