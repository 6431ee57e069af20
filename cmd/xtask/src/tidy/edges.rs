//! Which crate may use which: the table "Crates" in ARCHITECTURE.md compared with what cargo says.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context as _, Result};
use serde::Deserialize;

use super::Source;
use crate::process;

const MAP: &str = "ARCHITECTURE.md";

/// Every crate but `api` may use these.
const EVERYWHERE: &[&str] = &["base/lifecycle", "base/telemetry"];

/// Third-party crates that only some of ours may use: whoever else wants what they do asks those crates.
const OWNED: &[(&str, &[&str])] = &[
    ("anyhow", &["cmd/edgek", "cmd/xtask", "testkit", "tests"]),
    ("clap", &["cmd/edgek", "cmd/xtask"]),
    ("containerd-client", &["node/runtime"]),
    ("libc", &["base/sys"]),
    ("nlink", &["node/network", "node/proxy"]),
    ("rcgen", &["base/pki"]),
    ("rusqlite", &["store/log"]),
    ("tonic", &["node/runtime"]),
];

/// Third-party crates that one of ours must stay free of.
const FOREIGN: &[(&str, &[&str])] = &[
    ("api", &["tokio", "hyper", "http", "rusqlite", "tracing"]),
    ("store/log", &["hyper", "http", "k8s-openapi"]),
];

/// One crate of the workspace, named by its folder without `pkg/`.
pub(super) struct Crate {
    name: String,
    manifest: String,
    dependencies: Vec<Dependency>,
}

struct Dependency {
    name: String,
    kind: Kind,
}

#[derive(PartialEq, Eq, Clone, Copy)]
enum Kind {
    /// Ends up in what is shipped.
    Shipped,
    /// For tests and build scripts.
    Development,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    manifest_path: String,
    dependencies: Vec<PackageDependency>,
}

#[derive(Deserialize)]
struct PackageDependency {
    name: String,
    kind: Option<String>,
    path: Option<String>,
}

/// Reads the workspace from cargo.
pub(super) fn crates(root: &Path) -> Result<Vec<Crate>> {
    let mut cargo = std::process::Command::new("cargo");
    cargo.current_dir(root).args(["metadata", "--format-version", "1", "--no-deps"]);
    let metadata: Metadata = serde_json::from_str(&process::output(&mut cargo)?).context("cargo metadata")?;
    let relative = |path: &str| short(Path::new(path).strip_prefix(root).unwrap_or(Path::new(path)));
    let crates = metadata.packages.iter().map(|package| {
        let dependencies = package.dependencies.iter().map(|dependency| Dependency {
            name: dependency.path.as_deref().map_or_else(|| dependency.name.clone(), relative),
            kind: if dependency.kind.is_none() { Kind::Shipped } else { Kind::Development },
        });
        let manifest = Path::new(&package.manifest_path);
        let folder = relative(&manifest.parent().unwrap_or(root).to_string_lossy());
        let manifest = manifest.strip_prefix(root).unwrap_or(manifest).to_string_lossy().into_owned();
        Crate { name: folder, manifest, dependencies: dependencies.collect() }
    });
    Ok(crates.collect())
}

fn short(folder: &Path) -> String {
    folder.strip_prefix("pkg").unwrap_or(folder).to_string_lossy().into_owned()
}

/// What a crate may use, by the table.
enum Allowed {
    All,
    These(BTreeSet<String>),
}

/// Compares the crates with the table, the owners of third-party crates and the lints they must inherit.
pub(super) fn check(crates: &[Crate], files: &[Source]) -> Vec<String> {
    let map = files.iter().find(|file| file.path == MAP).map_or("", |file| &file.text);
    let table = parse(map);
    if table.is_empty() {
        return vec![format!("{MAP}: no table that begins with `| crate |`")];
    }
    let ours: BTreeSet<&str> = crates.iter().map(|member| member.name.as_str()).collect();
    let mut problems = Vec::new();
    for name in table.keys().filter(|name| !ours.contains(name.as_str())) {
        problems.push(format!("{MAP}: the table names {name}, which is no crate"));
    }
    for member in crates {
        match table.get(&member.name) {
            None => problems.push(format!("{MAP}: the table does not name {}", member.name)),
            Some(allowed) => problems.extend(check_crate(member, allowed, &ours)),
        }
        if files
            .iter()
            .any(|file| file.path == member.manifest && !file.text.contains("[lints]\nworkspace = true"))
        {
            problems.push(format!("{}: inherit the workspace's lints", member.manifest));
        }
    }
    problems
}

fn check_crate(member: &Crate, allowed: &Allowed, ours: &BTreeSet<&str>) -> Vec<String> {
    let mut problems = Vec::new();
    let mut problem = |text: String| problems.push(format!("{}: {text}", member.manifest));
    let name = member.name.as_str();
    for dependency in member.dependencies.iter().filter(|dependency| dependency.kind == Kind::Shipped) {
        let used = dependency.name.as_str();
        if ours.contains(used) {
            let everywhere = EVERYWHERE.contains(&used) && name != "api";
            if !everywhere && !allows(allowed, used) {
                problem(format!("{name} may not use {used} by the table in {MAP}"));
            }
        } else if let Some((_, owners)) = OWNED.iter().find(|(owned, _)| *owned == used)
            && !owners.contains(&name)
        {
            problem(format!("only {} may use {used}", owners.join(", ")));
        } else if FOREIGN.iter().any(|(of, foreign)| *of == name && foreign.contains(&used)) {
            problem(format!("{name} stays free of {used}"));
        }
    }
    problems
}

fn allows(allowed: &Allowed, used: &str) -> bool {
    match allowed {
        Allowed::All => used != "testkit",
        Allowed::These(names) => names.contains(used),
    }
}

/// Reads the rows after `| crate |`: the crate in the first column, what it may use in the last, in backticks.
fn parse(map: &str) -> BTreeMap<String, Allowed> {
    let rows = map.lines().skip_while(|line| !line.starts_with("| crate |")).skip(2);
    let rows = rows.take_while(|line| line.starts_with('|'));
    let mut table = BTreeMap::new();
    for row in rows {
        let mut columns = row.trim_matches('|').split('|');
        let (first, last) = (columns.next().unwrap_or_default(), columns.next_back().unwrap_or_default());
        let allowed = || match last.trim() {
            "all" => Allowed::All,
            _ => Allowed::These(names(last).map(str::to_owned).collect()),
        };
        for name in names(first) {
            table.insert(name.to_owned(), allowed());
        }
    }
    table
}

fn names(column: &str) -> impl Iterator<Item = &str> {
    column.split('`').skip(1).step_by(2).map(|name| name.strip_prefix("pkg/").unwrap_or(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "# Map\n\n| crate | owns | may use |\n|---|---|---|\n| `pkg/api` | bytes | – |\n\
                         | `pkg/store/log` | a log | – |\n| `pkg/store/watch` | a cache | `api`, `store/log` |\n\
                         | `pkg/base/lifecycle` | tasks | – |\n| `pkg/testkit` | tests | all |\n\
                         | `cmd/edgek` | the binary | all |\n\nMore.\n";

    fn check_uses(name: &str, used: &str, expected: Option<&str>) {
        let others = ["api", "store/log", "store/watch", "base/lifecycle", "testkit", "cmd/edgek"];
        let dependency = Dependency { name: used.to_owned(), kind: Kind::Shipped };
        let mut crates: Vec<Crate> = others
            .iter()
            .map(|name| Crate {
                name: (*name).to_owned(),
                manifest: format!("{name}.toml"),
                dependencies: vec![],
            })
            .collect();
        crates.iter_mut().find(|member| member.name == name).unwrap().dependencies.push(dependency);
        let map = Source { path: MAP.to_owned(), text: TABLE.to_owned() };
        let problems = check(&crates, &[map]);
        assert_eq!(
            problems,
            expected.map(|text| format!("{name}.toml: {text}")).into_iter().collect::<Vec<_>>()
        );
    }

    #[test]
    fn a_crate_uses_what_its_row_names() {
        check_uses("store/watch", "store/log", None);
        check_uses(
            "store/watch",
            "testkit",
            Some("store/watch may not use testkit by the table in ARCHITECTURE.md"),
        );
        check_uses("store/log", "api", Some("store/log may not use api by the table in ARCHITECTURE.md"));
        check_uses("cmd/edgek", "store/log", None);
        check_uses(
            "cmd/edgek",
            "testkit",
            Some("cmd/edgek may not use testkit by the table in ARCHITECTURE.md"),
        );
    }

    #[test]
    fn every_crate_but_api_may_use_the_task_tree() {
        check_uses("store/log", "base/lifecycle", None);
        check_uses(
            "api",
            "base/lifecycle",
            Some("api may not use base/lifecycle by the table in ARCHITECTURE.md"),
        );
    }

    #[test]
    fn third_party_crates_have_owners() {
        check_uses("store/log", "rusqlite", None);
        check_uses("store/watch", "rusqlite", Some("only store/log may use rusqlite"));
        check_uses("api", "tokio", Some("api stays free of tokio"));
    }

    #[test]
    fn the_table_and_the_workspace_name_the_same_crates() {
        let map = Source { path: MAP.to_owned(), text: TABLE.replace("pkg/store/log", "pkg/store/gone") };
        let member =
            |name: &str| Crate { name: name.to_owned(), manifest: String::new(), dependencies: vec![] };
        let crates =
            ["api", "store/log", "store/watch", "base/lifecycle", "testkit", "cmd/edgek"].map(member);
        assert_eq!(
            check(&crates, &[map]),
            [
                "ARCHITECTURE.md: the table names store/gone, which is no crate",
                "ARCHITECTURE.md: the table does not name store/log"
            ]
        );
    }
}
