//! [`Missing`]: what of Kubernetes edgek does not have yet, `conformance/missing.txt`: the beginnings of tests' names.

use anyhow::Result;

use crate::workspace;

/// Where the list stands.
pub(super) const LIST: &str = "conformance/missing.txt";

/// The list. Its tests run, but last and with little patience.
pub(super) struct Missing(Vec<String>);

impl Missing {
    /// Reads the list.
    pub(super) fn load() -> Result<Self> {
        Ok(Self(workspace::lines(LIST)?))
    }

    /// Whether a test needs something of the list.
    pub(super) fn contains(&self, test: &str) -> bool {
        self.0.iter().any(|beginning| test.starts_with(beginning))
    }

    /// The lines that no test of the suite begins with.
    pub(super) fn unknown(&self, tests: &[&str]) -> Vec<&str> {
        let known = |line: &&String| tests.iter().any(|test| test.starts_with(*line));
        self.0.iter().filter(|line| !known(line)).map(String::as_str).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_stands_for_the_tests_that_begin_with_it() {
        let missing = Missing(vec!["[sig-apps] Job".into(), "[sig-apps] Cron".into()]);
        assert!(missing.contains("[sig-apps] Job should run"));
        assert!(!missing.contains("[sig-apps] ReplicaSet should run a Job"));
        assert_eq!(missing.unknown(&["[sig-apps] Job should run"]), ["[sig-apps] Cron"]);
    }
}
