//! The part of the suite that every change must pass: `conformance/gate.txt`, a test a line.

use std::collections::BTreeSet;
use std::process::Command;

use anyhow::{Result, ensure};

use super::results::Results;
use super::{start, suite};
use crate::{build, process, workspace};

const LIST: &str = "conformance/gate.txt";

/// Runs the listed tests with the binary that an earlier step built.
pub(crate) fn run() -> Result<()> {
    let names = list()?;
    suite::build()?;
    let mut results = Results::load(&suite::tests()?)?;
    for name in &names {
        ensure!(results.get(name).is_some(), "{LIST}: not a conformance test: {name}");
    }
    results.detach();
    let failed = start(&names, 4, Some(build::path(build::Profile::Quick)), &mut results)?;
    ensure!(failed == 0, "{failed} of {} conformance tests of the gate did not pass", names.len());
    Ok(())
}

/// The list, which only grows: whatever was ever in it must still be there.
fn list() -> Result<Vec<String>> {
    let names: BTreeSet<String> = workspace::lines(LIST)?.into_iter().collect();
    let mut git = Command::new("git");
    git.current_dir(workspace::root()).args(["log", "--patch", "--format=", "--", LIST]);
    for line in process::output(&mut git)?.lines() {
        if let Some(name) = line.strip_prefix("+[").map(|rest| format!("[{rest}")) {
            ensure!(names.contains(&name), "{LIST} has lost a test: {name}");
        }
    }
    Ok(names.into_iter().collect())
}
