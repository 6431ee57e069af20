//! What every file must have, and what none may hold.

use super::Source;

/// Texts that tie the tree to one machine or one package host. Written in pieces, since this file is checked too.
const MACHINES: &[&str] = &[
    concat!("/wo", "rk/"),
    concat!("/ro", "ot/"),
    concat!("proxy.gol", "ang.org"),
    concat!("static.crat", "es.io"),
    concat!("index.crat", "es.io"),
    concat!("deb.deb", "ian.org"),
];

/// Files written by package managers.
const LOCKS: &[&str] = &["Cargo.lock", "go.sum"];

/// Where other programs may be started: containerd, the commands, and development.
const STARTERS: &[&str] = &["pkg/node/runtime/src/containerd/", "cmd/", "pkg/testkit/", "tests/"];

const SYSTEM_CALLS: &str = "pkg/base/sys/";

/// The problems of one file.
pub(super) fn check(file: &Source) -> Vec<String> {
    let name = file.path.rsplit('/').next().unwrap_or_default();
    let mut problems = Vec::new();
    if LOCKS.contains(&name) {
        return problems;
    }
    for (index, line) in file.text.lines().enumerate() {
        let place = format!("{}:{}", file.path, index + 1);
        for machine in MACHINES {
            if holds_path(line, machine) {
                problems.push(format!("{place}: {machine} ties the tree to one machine or host"));
            }
        }
        if file.path.ends_with(".rs")
            && let Some(problem) = check_line(&file.path, line)
        {
            problems.push(format!("{place}: {problem}"));
        }
    }
    if file.path.ends_with(".rs") && !file.text.starts_with("//!") {
        problems.push(format!("{}: begin with `//!` and what the file owns", file.path));
    }
    problems
}

/// Whether a line names a machine's folder or host, and not a longer path that ends like it.
fn holds_path(line: &str, needle: &str) -> bool {
    line.match_indices(needle).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !before.is_some_and(|character| character.is_alphanumeric() || "-_.}*".contains(character))
    })
}

fn check_line(path: &str, line: &str) -> Option<&'static str> {
    let code = line.split("//").next().unwrap_or_default();
    if has_unsafe(code) && !path.starts_with(SYSTEM_CALLS) {
        return Some("unsafe code belongs to base/sys");
    }
    let starter = STARTERS.iter().any(|start| path.starts_with(start)) || path.contains("/tests/");
    if code.contains(concat!("Command::", "new(")) && !starter {
        return Some("only node/runtime and cmd start other programs");
    }
    if code.contains(concat!("#[", "ignore")) {
        return Some("no test is ignored: repair it or delete it");
    }
    let comment = line.split_once("//").map_or("", |(_, comment)| comment);
    for word in [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")] {
        if comment.contains(word) && !comment.contains(concat!("TO", "DO(#")) {
            return Some("name the issue of what is left to do");
        }
    }
    None
}

/// Whether the keyword opens a block, a function or an implementation, and is not a word in a text.
fn has_unsafe(code: &str) -> bool {
    let words: Vec<_> = code.split_whitespace().collect();
    words.windows(2).any(|pair| {
        pair[0] == concat!("uns", "afe")
            && (pair[1].starts_with('{') || ["fn", "impl", "extern"].contains(&pair[1]))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_text(path: &str, text: &str, expected: &[&str]) {
        let file = Source { path: path.to_owned(), text: text.to_owned() };
        assert_eq!(check(&file), expected);
    }

    #[test]
    fn a_source_file_says_what_it_owns() {
        check_text("pkg/a/src/lib.rs", "//! Owns a.\n", &[]);
        check_text(
            "pkg/a/src/lib.rs",
            "use b;\n",
            &["pkg/a/src/lib.rs: begin with `//!` and what the file owns"],
        );
    }

    #[test]
    fn no_file_names_a_machine() {
        let folder = MACHINES[0];
        check_text(
            "a.md",
            &format!("cd {folder}main"),
            &[&format!("a.md:1: {folder} ties the tree to one machine or host")],
        );
        check_text("a.md", &format!("/home/me{folder}main"), &[]);
        check_text("Cargo.lock", &format!("cd {folder}main"), &[]);
    }

    #[test]
    fn system_calls_and_processes_have_their_places() {
        let call = concat!("//! A.\nlet a = uns", "afe { b() };\n");
        check_text("pkg/base/sys/src/lib.rs", call, &[]);
        check_text("pkg/a/src/lib.rs", call, &["pkg/a/src/lib.rs:2: unsafe code belongs to base/sys"]);
        let start = concat!("//! A.\nCommand::", "new(\"nft\");\n");
        check_text("cmd/edgek/src/main.rs", start, &[]);
        check_text(
            "pkg/a/src/lib.rs",
            start,
            &["pkg/a/src/lib.rs:2: only node/runtime and cmd start other programs"],
        );
    }

    #[test]
    fn work_left_names_its_issue() {
        let note = |text: &str| format!("//! A.\n// {}{text} later\n", concat!("TO", "DO"));
        check_text("pkg/a/src/lib.rs", &note("(#12):"), &[]);
        check_text(
            "pkg/a/src/lib.rs",
            &note(":"),
            &["pkg/a/src/lib.rs:2: name the issue of what is left to do"],
        );
    }
}
