//! The files and functions that are longer than they should be: a list that only shrinks.
//!
//! A file over [`FILE`] lines, tests left out, must be listed with a bound it does not pass. A function over clippy's
//! limit carries an `expect` attribute, and the number of them in a file is listed likewise.

use std::collections::BTreeMap;

use super::Source;

/// The list: `<path> lines|functions <bound>` per line.
pub(super) const EXCEPTIONS: &str = "cmd/xtask/exceptions.txt";

const FILE: usize = 800;

/// Compares the files with the list.
pub(super) fn check(files: &[Source], exceptions: &str) -> Vec<String> {
    let mut problems = Vec::new();
    let mut listed = BTreeMap::new();
    for line in exceptions.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        match line.split_whitespace().collect::<Vec<_>>()[..] {
            [path, what, bound] => listed.insert((path, what), bound.parse().unwrap_or(0)),
            _ => return vec![format!("{EXCEPTIONS}: not `<path> lines|functions <bound>`: {line}")],
        };
    }
    for file in files.iter().filter(|file| file.path.ends_with(".rs") && !is_test(&file.path)) {
        let attribute = concat!("clippy::too_many", "_lines");
        let counts =
            [("lines", code_lines(&file.text), FILE), ("functions", file.text.matches(attribute).count(), 0)];
        for (what, count, limit) in counts {
            let bound = listed.remove(&(file.path.as_str(), what));
            if count > bound.unwrap_or(limit) {
                problems
                    .push(format!("{}: {count} long {what}: split, or list it in {EXCEPTIONS}", file.path));
            } else if bound.is_some() && count <= limit {
                problems.push(format!("{EXCEPTIONS}: {} {what} is no longer needed", file.path));
            }
        }
    }
    problems.extend(listed.keys().map(|(path, what)| format!("{EXCEPTIONS}: {path} {what} names no file")));
    problems
}

fn is_test(path: &str) -> bool {
    path.ends_with("/tests.rs") || path.starts_with("tests/") || path.contains("/tests/")
}

/// Lines before the tests at a file's end.
fn code_lines(text: &str) -> usize {
    text.lines().take_while(|line| *line != "#[cfg(test)]").count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_lengths(path: &str, lines: usize, exceptions: &str, expected: &[&str]) {
        let file = Source { path: path.to_owned(), text: "a\n".repeat(lines) + "#[cfg(test)]\nb\n" };
        assert_eq!(check(&[file], exceptions), expected);
    }

    #[test]
    fn a_long_file_is_listed_with_its_bound() {
        let split = "a.rs: 801 long lines: split, or list it in cmd/xtask/exceptions.txt";
        check_lengths("a.rs", 800, "", &[]);
        check_lengths("a.rs", 801, "", &[split]);
        check_lengths("a.rs", 801, "# why\na.rs lines 900\n", &[]);
        check_lengths("a.rs", 801, "a.rs lines 800\n", &[split]);
        check_lengths("a/tests.rs", 801, "", &[]);
    }

    #[test]
    fn the_list_shrinks() {
        let problem = "cmd/xtask/exceptions.txt: a.rs lines is no longer needed";
        check_lengths("a.rs", 800, "a.rs lines 900\n", &[problem]);
        check_lengths("a.rs", 1, "b.rs lines 900\n", &["cmd/xtask/exceptions.txt: b.rs lines names no file"]);
    }
}
