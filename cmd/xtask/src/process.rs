//! Runs other programs for the commands of xtask: one line says what runs, a failure says what failed.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

/// Runs a command with the terminal's output and fails when it does.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let shown = show(command);
    let status = command.status().with_context(|| format!("start {shown}"))?;
    if !status.success() {
        bail!("{shown}: {status}");
    }
    Ok(())
}

/// Runs a command and returns what it printed, without the surrounding white space.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let shown = show(command);
    let output = command.stderr(Stdio::inherit()).output().with_context(|| format!("start {shown}"))?;
    if !output.status.success() {
        bail!("{shown}: {}", output.status);
    }
    Ok(String::from_utf8(output.stdout)
        .with_context(|| format!("{shown} printed no UTF-8"))?
        .trim()
        .to_owned())
}

/// A Go command in a module's folder, two builds at a time and behind interactive work, since builders are small.
pub(crate) fn go(module: &Path) -> Command {
    let mut command = Command::new("nice");
    command.args(["-n", "5", "go"]).current_dir(module).env("GOFLAGS", "-p=2");
    command
}

fn show(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}
