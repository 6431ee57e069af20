//! The suite itself: `e2e.test` and its tools, built from the Go module in `conformance/`, and what it says of itself.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result};
use serde::Deserialize;

use crate::{digest, embed, process, workspace};

/// Where programs are put.
pub(super) fn programs() -> PathBuf {
    workspace::build_dir().join("conformance/bin")
}

/// Builds `e2e.test`, ginkgo and the runner of the in-cluster image, unless the last run had the same sources and
/// compiler. kubectl comes from the bundle, which has the suite's version and is built too.
pub(super) fn build() -> Result<()> {
    embed::run()?;
    let module = workspace::root().join("conformance");
    let bin = programs();
    fs::create_dir_all(&bin)?;
    let lock = fs::File::create(bin.with_file_name(".lock-bin"))?;
    lock.lock().context("wait for another build of the suite")?;

    let go = process::output(process::go(&module).arg("version"))?;
    let sums = digest::sha256_file(&module.join("go.sum"))?;
    let stamps = embed::kubernetes_stamps();
    let key = digest::sha256(format!("{go}\n{sums}\n{stamps}\n{}", include_str!("suite.rs")).as_bytes());
    let stamp = bin.with_file_name("stamp-bin");
    if fs::read_to_string(&stamp).is_ok_and(|stamped| stamped == key) {
        return Ok(());
    }
    for (program, verb, package) in [
        ("e2e.test", ["test", "-c"].as_slice(), "k8s.io/kubernetes/test/e2e"),
        ("ginkgo", &["build"], "github.com/onsi/ginkgo/v2/ginkgo"),
        ("go-runner", &["build"], "k8s.io/kubernetes/test/conformance/image/go-runner"),
    ] {
        println!("conformance: build {program}");
        let mut go = process::go(&module);
        go.env("CGO_ENABLED", "0").args(verb).args(["-trimpath", "-ldflags", &format!("-s -w {stamps}")]);
        process::run(go.arg("-o").arg(bin.join(program)).arg(package))?;
    }
    workspace::write(&stamp, key.as_bytes())?;
    Ok(())
}

/// The names of the conformance tests, as the suite lists them.
pub(super) fn tests() -> Result<BTreeSet<String>> {
    #[derive(Deserialize)]
    struct Test {
        codename: String,
    }
    let listed = process::output(Command::new(programs().join("e2e.test")).arg("--list-conformance-tests"))?;
    let tests: Vec<Test> = serde_saphyr::from_str(&listed).context("the list of conformance tests")?;
    Ok(tests.into_iter().map(|test| test.codename).collect())
}

/// The names that match a regular expression: of Go's dialect, since the suite itself chooses.
pub(super) fn matching(regex: &str) -> Result<BTreeSet<String>> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Report {
        spec_reports: Vec<Spec>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Spec {
        container_hierarchy_texts: Option<Vec<String>>,
        leaf_node_text: String,
        state: String,
    }
    let path = workspace::build_dir().join("conformance/matching.json");
    let mut dry = Command::new(programs().join("e2e.test"));
    dry.args(["--ginkgo.dry-run", "--ginkgo.silence-skips", "--ginkgo.succinct", "--ginkgo.focus", regex]);
    process::output(dry.arg("--ginkgo.json-report").arg(&path))?;
    let reports: Vec<Report> = serde_json::from_slice(&fs::read(&path)?)?;
    let specs = reports.into_iter().flat_map(|report| report.spec_reports);
    let chosen = specs.filter(|spec| spec.state == "passed").map(|spec| {
        let mut texts = spec.container_hierarchy_texts.unwrap_or_default();
        texts.push(spec.leaf_node_text);
        texts.join(" ")
    });
    Ok(chosen.collect())
}
