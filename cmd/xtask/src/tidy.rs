//! `tidy`: the rules of the tree that neither the compiler nor clippy can see. All problems are reported together.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::{process, workspace};

mod edges;
mod lengths;
mod sources;

/// One file that belongs to the tree: its path from the root, with slashes, and its text.
struct Source {
    path: String,
    text: String,
}

/// Checks everything and fails with the list of what is wrong.
pub(crate) fn run() -> Result<()> {
    let root = workspace::root();
    let files = read_sources(&root)?;
    let crates = edges::crates(&root)?;
    let mut problems = edges::check(&crates, &files);
    for file in &files {
        problems.extend(sources::check(file));
    }
    let exceptions = fs::read_to_string(root.join(lengths::EXCEPTIONS)).context(lengths::EXCEPTIONS)?;
    problems.extend(lengths::check(&files, &exceptions));
    if problems.is_empty() {
        println!("tidy: {} files, {} crates", files.len(), crates.len());
        return Ok(());
    }
    for problem in &problems {
        println!("{problem}");
    }
    bail!("{} problems", problems.len())
}

/// Every text file that is committed or would be.
fn read_sources(root: &Path) -> Result<Vec<Source>> {
    let mut list = Command::new("git");
    list.current_dir(root).args(["ls-files", "--cached", "--others", "--exclude-standard"]);
    let mut files = Vec::new();
    for path in process::output(&mut list)?.lines() {
        // A file may be deleted but not yet committed, and some are no text.
        if let Ok(text) = fs::read_to_string(root.join(path)) {
            files.push(Source { path: path.to_owned(), text });
        }
    }
    Ok(files)
}
