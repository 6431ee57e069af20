//! `conformance/results.tsv`: how every test last ended, a line each, and the tables made from it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::str::FromStr;

use anyhow::{Context as _, Result, bail};
use jiff::Timestamp;

use crate::workspace;

/// The table stands between these lines of the README.
const BEGIN: &str = "<!-- the table: cargo xtask conformance report -->";
const END: &str = "<!-- end of the table -->";

/// How a test ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Passed,
    Failed,
    NotRun,
}

impl Outcome {
    fn text(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::NotRun => "not run",
        }
    }
}

/// The last run of one test.
#[derive(Debug, Clone)]
pub(super) struct Record {
    pub(super) outcome: Outcome,
    /// How long it took; nothing when it never ran.
    pub(super) seconds: u64,
    /// When it ended.
    pub(super) when: Option<Timestamp>,
    /// Of which commit.
    pub(super) commit: String,
}

impl FromStr for Record {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let fields: Vec<&str> = text.split('\t').collect();
        let [outcome, seconds, when, commit] = fields[..] else { bail!("not four fields: {text}") };
        let outcome = [Outcome::Passed, Outcome::Failed, Outcome::NotRun]
            .into_iter()
            .find(|known| known.text() == outcome)
            .with_context(|| format!("an unknown outcome: {outcome}"))?;
        let when = if when.is_empty() { None } else { Some(when.parse()?) };
        Ok(Self { outcome, seconds: seconds.parse()?, when, commit: commit.to_owned() })
    }
}

/// All tests of the suite.
pub(super) struct Results {
    records: BTreeMap<String, Record>,
    /// Whether the file follows.
    kept: bool,
}

impl Results {
    /// What the file says of the suite's tests; a test that it does not know has not run.
    pub(super) fn load(suite: &BTreeSet<String>) -> Result<Self> {
        let text = fs::read_to_string(file()).unwrap_or_default();
        Self::parse(&text, suite).with_context(|| file().display().to_string())
    }

    fn parse(text: &str, suite: &BTreeSet<String>) -> Result<Self> {
        let known: BTreeMap<&str, &str> = text.lines().filter_map(|line| line.split_once('\t')).collect();
        let record = |name: &String| {
            let record = known.get(name.as_str()).unwrap_or(&"not run\t0\t\t").parse();
            Ok((name.clone(), record.with_context(|| name.clone())?))
        };
        Ok(Self { records: suite.iter().map(record).collect::<Result<_>>()?, kept: true })
    }

    /// Leaves the file as it is from here on.
    pub(super) fn detach(&mut self) {
        self.kept = false;
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.records.keys().map(String::as_str)
    }

    pub(super) fn get(&self, name: &str) -> Option<&Record> {
        self.records.get(name)
    }

    /// Notes down how a test ended and writes the file.
    pub(super) fn set(&mut self, name: &str, record: Record) -> Result<()> {
        self.records.insert(name.to_owned(), record);
        if self.kept {
            workspace::write(&file(), self.text()?.as_bytes()).context("write the results")?;
        }
        Ok(())
    }

    fn text(&self) -> Result<String> {
        let mut text = String::from("test\tresult\tseconds\twhen\tcommit\n");
        for (name, record) in &self.records {
            let Record { outcome, seconds, when, commit } = record;
            let when = when.map(|when| when.to_string()).unwrap_or_default();
            writeln!(text, "{name}\t{}\t{seconds}\t{when}\t{commit}", outcome.text())?;
        }
        Ok(text)
    }

    /// Prints the table by area.
    pub(super) fn print(&self) {
        println!("{:<22} {:>6} {:>6} {:>7} {:>6}", "area", "passed", "failed", "not run", "all");
        for (area, [passed, failed, left]) in self.areas() {
            println!("{area:<22} {passed:>6} {failed:>6} {left:>7} {:>6}", passed + failed + left);
        }
    }

    /// Writes the table into the README.
    pub(super) fn write_report(&self) -> Result<()> {
        let path = workspace::root().join("conformance/README.md");
        let readme = fs::read_to_string(&path)?;
        let (before, rest) = readme.split_once(BEGIN).context("the README has no place for the table")?;
        let (_, after) = rest.split_once(END).context("the README has no place for the table")?;
        let mut table =
            String::from("| Area | Passed | Failed | Not run | Tests |\n|---|---:|---:|---:|---:|\n");
        for (area, [passed, failed, left]) in self.areas() {
            writeln!(table, "| {area} | {passed} | {failed} | {left} | {} |", passed + failed + left)?;
        }
        let text = format!("{before}{BEGIN}\n{table}{END}{after}");
        workspace::write(&path, text.as_bytes()).context("write the README")
    }

    /// How many tests passed, failed and did not run, by area and in total.
    fn areas(&self) -> Vec<(&str, [usize; 3])> {
        let mut areas: BTreeMap<&str, [usize; 3]> = BTreeMap::new();
        let mut total = [0; 3];
        for (name, record) in &self.records {
            let area = name.strip_prefix('[').and_then(|rest| rest.split(']').next()).unwrap_or("other");
            let column = match record.outcome {
                Outcome::Passed => 0,
                Outcome::Failed => 1,
                Outcome::NotRun => 2,
            };
            areas.entry(area).or_default()[column] += 1;
            total[column] += 1;
        }
        areas.into_iter().chain([("total", total)]).collect()
    }
}

fn file() -> PathBuf {
    workspace::root().join("conformance/results.tsv")
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "test\tresult\tseconds\twhen\tcommit\n\
        [sig-a] one [Conformance]\tpassed\t3\t2026-11-21T13:00:00Z\tabc\n\
        [sig-a] two [Conformance]\tfailed\t301\t2026-11-21T13:05:00Z\tabc+\n\
        [sig-b] three [Conformance]\tnot run\t0\t\t\n";

    fn suite(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| format!("{name} [Conformance]")).collect()
    }

    #[test]
    fn what_is_read_is_written_again() {
        let results = Results::parse(FILE, &suite(&["[sig-a] one", "[sig-a] two", "[sig-b] three"])).unwrap();
        assert_eq!(results.text().unwrap(), FILE);
    }

    #[test]
    fn the_suite_says_which_tests_there_are() {
        let results = Results::parse(FILE, &suite(&["[sig-a] one", "[sig-b] new"])).unwrap();
        assert_eq!(
            results.areas(),
            [("sig-a", [1, 0, 0]), ("sig-b", [0, 0, 1]), ("total", [1, 0, 1])],
            "a test that is gone is not counted, a new one has not run"
        );
    }

    #[test]
    fn a_broken_line_is_an_error_that_names_the_test() {
        let broken = FILE.replace("passed", "fine");
        let error = Results::parse(&broken, &suite(&["[sig-a] one"])).err().unwrap();
        assert_eq!(format!("{error:#}"), "[sig-a] one [Conformance]: an unknown outcome: fine");
    }
}
