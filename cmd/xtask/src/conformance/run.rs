//! [`Run`]: tests of the suite on a running cluster, several side by side.
//!
//! Below `build/conformance/run/` each test has a folder with its last run: `e2e.log`, JUnit, and if it did not pass what
//! every node logged meanwhile. `e2e.log` and `junit_01.xml` beside the folders are those of all tests.

use std::fs::{self, File};
use std::io::{self, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use jiff::Timestamp;

use super::cluster::Cluster;
use super::missing::{self, Missing};
use super::results::{Outcome, Record, Results};
use super::suite;
use crate::{digest, embed, machine, process, workspace};

/// How long one test may take. The longest of upstream's waits for ten minutes of compaction.
const LIMIT: &str = "15m";
/// The same for a test of what is known to be missing: most of them would wait in vain for many minutes.
const LIMIT_OF_MISSING: &str = "2m";
/// What a test that never ran is taken to take, in seconds.
const GUESS: u64 = 30;

/// Tests on a cluster.
pub(super) struct Run<'a> {
    cluster: &'a Cluster,
    procs: usize,
    folder: PathBuf,
    commit: String,
    missing: Missing,
}

/// How one test ended.
struct Finished {
    name: String,
    outcome: Outcome,
    took: Duration,
    folder: PathBuf,
}

impl<'a> Run<'a> {
    /// Prepares a run.
    pub(super) fn new(cluster: &'a Cluster, procs: usize) -> Result<Self> {
        let folder = workspace::build_dir().join("conformance/run");
        fs::create_dir_all(&folder)?;
        Ok(Self { cluster, procs, folder, commit: commit()?, missing: Missing::load()? })
    }

    /// Runs tests and notes down how each ended; returns how many did not pass. Those marked `[Serial]` run alone,
    /// after the others; in either part what is known to be missing comes last, before it those that failed when they
    /// last ran, and the longest first.
    pub(super) fn tests(&self, names: &[String], results: &mut Results) -> Result<usize> {
        let unknown = self.missing.unknown(&results.names().collect::<Vec<_>>());
        ensure!(unknown.is_empty(), "no test is named as {} says: {unknown:?}", missing::LIST);
        let mut names: Vec<&str> = names.iter().map(String::as_str).collect();
        names.sort_by_key(|name| {
            let last = results.get(name).map(|record| (record.outcome, record.seconds));
            (
                self.missing.contains(name),
                last.is_some_and(|(outcome, _)| outcome == Outcome::Failed),
                u64::MAX - last.map_or(0, |(_, s)| s),
            )
        });
        let (serial, parallel): (Vec<&str>, Vec<&str>) =
            names.into_iter().partition(|name| name.contains("[Serial]"));
        let mut progress = Progress { done: 0, failed: 0, all: serial.len() + parallel.len(), began: now() };
        self.part(&parallel, self.procs, results, &mut progress)?;
        self.part(&serial, 1, results, &mut progress)?;
        self.join_reports()?;
        Ok(progress.failed)
    }

    fn part(
        &self,
        names: &[&str],
        procs: usize,
        results: &mut Results,
        progress: &mut Progress,
    ) -> Result<()> {
        let next = AtomicUsize::new(0);
        let (sender, receiver) = sync_channel(procs);
        thread::scope(|scope| {
            for number in 0..procs.min(names.len()) {
                let (sender, next) = (sender.clone(), &next);
                thread::Builder::new()
                    .name(format!("test-{number}"))
                    .spawn_scoped(scope, move || self.work(names, next, &sender))?;
            }
            drop(sender);
            let mut left: Vec<&str> = names.to_vec();
            for finished in receiver {
                let finished: Finished = finished?;
                left.retain(|name| *name != finished.name);
                let guess = |name: &&str| results.get(name).map_or(GUESS, |record| record.seconds.max(1));
                let seconds = left.iter().map(guess).sum::<u64>() / procs as u64;
                progress.show(&finished, seconds);
                let (outcome, seconds) = (finished.outcome, finished.took.as_secs());
                let record =
                    Record { outcome, seconds, when: Some(Timestamp::now()), commit: self.commit.clone() };
                results.set(&finished.name, record)?;
            }
            Ok(())
        })
    }

    /// Takes one test after the other until none is left.
    fn work(&self, names: &[&str], next: &AtomicUsize, sender: &SyncSender<Result<Finished>>) {
        while let Some(name) = names.get(next.fetch_add(1, Ordering::Relaxed)) {
            if sender.send(self.test(name)).is_err() {
                break;
            }
        }
    }

    /// Runs one test.
    fn test(&self, name: &str) -> Result<Finished> {
        let folder = self.folder.join(slug(name));
        machine::remove(&folder)?;
        fs::create_dir_all(&folder)?;
        let log = File::create(folder.join("e2e.log"))?;
        let length = |path: PathBuf| fs::metadata(path).map_or(0, |file| file.len());
        let marks: Vec<u64> = self.cluster.logs().map(|(_, path)| length(path)).collect();
        let began = now();
        let mut e2e = self.cluster.command(suite::programs().join("e2e.test"));
        e2e.args(["--provider=local", "--disable-log-dump", "--report-dir"]).arg(&folder);
        e2e.arg("--kubeconfig").arg(self.cluster.kubeconfig());
        e2e.arg("--kubectl-path").arg(embed::programs().join("kubectl"));
        e2e.args(["--node-schedulable-timeout=1m", "--system-pods-startup-timeout=1m"]);
        let limit = if self.missing.contains(name) { LIMIT_OF_MISSING } else { LIMIT };
        e2e.args(["--ginkgo.v", "--ginkgo.no-color", "--ginkgo.timeout", limit]);
        e2e.arg("--ginkgo.focus").arg(format!("{}$", quote(name)));
        let status = e2e.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).status()?;
        let took = began.elapsed();
        let text = fs::read_to_string(folder.join("e2e.log")).unwrap_or_default();
        let outcome = match (text.contains("\nRan 1 of "), status.success()) {
            (true, true) => Outcome::Passed,
            (true, false) => Outcome::Failed,
            (false, _) => Outcome::NotRun,
        };
        if outcome != Outcome::Passed {
            for ((node, path), mark) in self.cluster.logs().zip(marks) {
                copy_from(&path, mark, &folder.join(format!("{node}.log")))?;
            }
        }
        Ok(Finished { name: name.to_owned(), outcome, took, folder })
    }

    /// Puts the logs and the JUnit reports of all tests together.
    fn join_reports(&self) -> Result<()> {
        let mut folders: Vec<PathBuf> =
            fs::read_dir(&self.folder)?.flatten().map(|entry| entry.path()).collect();
        folders.sort();
        let mut log = File::create(self.folder.join("e2e.log"))?;
        let mut cases = String::new();
        for folder in folders {
            log.write_all(&fs::read(folder.join("e2e.log")).unwrap_or_default())?;
            let report = fs::read_to_string(folder.join("junit_01.xml")).unwrap_or_default();
            let ran = report
                .split_inclusive("</testcase>")
                .filter(|case| case.contains("name=\"[It]") && !case.contains("<skipped"));
            cases.extend(ran.filter_map(|case| case.find("<testcase").map(|begin| &case[begin..])));
        }
        let suite = format!(
            "<testsuites>\n<testsuite name=\"Kubernetes e2e suite\">\n{cases}</testsuite>\n</testsuites>\n"
        );
        fs::write(self.folder.join("junit_01.xml"), suite).context("write the JUnit report")
    }
}

/// What is printed while tests run.
struct Progress {
    done: usize,
    failed: usize,
    all: usize,
    began: Instant,
}

impl Progress {
    fn show(&mut self, finished: &Finished, seconds_left: u64) {
        self.done += 1;
        let seconds = finished.took.as_secs();
        let place = format!("{}/{}", self.done, self.all);
        println!("{place:>7} {} {seconds:>4} s  {}", label(finished.outcome), finished.name);
        if finished.outcome != Outcome::Passed {
            self.failed += 1;
            println!("          {}", finished.folder.display());
        }
        if self.done.is_multiple_of(10) {
            let spent = self.began.elapsed().as_secs() / 60;
            println!(
                "        {} failed, {spent} min so far, about {} min left",
                self.failed,
                seconds_left / 60
            );
        }
    }
}

fn label(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Passed => "ok    ",
        Outcome::Failed => "FAILED",
        Outcome::NotRun => "NO RUN",
    }
}

/// The commit that is tested, marked when the tree differs from it.
fn commit() -> Result<String> {
    let git = |arguments: &[&str]| {
        process::output(Command::new("git").current_dir(workspace::root()).args(arguments))
    };
    let changed = git(&[
        "status",
        "--porcelain",
        "--untracked-files=no",
        "cmd/edgek",
        "pkg",
        "Cargo.lock",
        "embedded",
    ])?;
    let mark = if changed.is_empty() { "" } else { "+" };
    Ok(git(&["rev-parse", "--short=10", "HEAD"])? + mark)
}

/// A test's name as the name of a folder.
fn slug(name: &str) -> String {
    let plain: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).collect();
    let words: Vec<&str> = plain.split('-').filter(|word| !word.is_empty()).collect();
    let mut slug = words.join("-");
    if slug.len() > 200 {
        // Long names differ in their ends.
        slug.truncate(190);
        slug += "-";
        slug += &digest::sha256(name.as_bytes())[..8];
    }
    slug
}

/// A regular expression that matches the text alone.
fn quote(text: &str) -> String {
    text.chars()
        .flat_map(|c| {
            let special = c.is_ascii_punctuation();
            special.then_some('\\').into_iter().chain([c])
        })
        .collect()
}

/// Copies what a log has got since it was `mark` bytes long.
fn copy_from(log: &Path, mark: u64, copy: &Path) -> Result<()> {
    let mut log = File::open(log)?;
    log.seek(SeekFrom::Start(mark))?;
    io::copy(&mut log, &mut File::create(copy)?).context("keep a node's log")?;
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "real time is what is measured")]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quoted_name_matches_itself_only() {
        assert_eq!(quote("[sig-a] x.y (z) [Slow]"), r"\[sig\-a\] x\.y \(z\) \[Slow\]");
    }

    #[test]
    fn a_test_has_a_folder_of_a_plain_name() {
        assert_eq!(slug("[sig-node] Pods: a/b `c` [Conformance]"), "sig-node-pods-a-b-c-conformance");
        let long = "a".repeat(300);
        assert_eq!(slug(&long).len(), 199);
        assert_ne!(slug(&format!("{long} b")), slug(&format!("{long} c")));
    }
}
