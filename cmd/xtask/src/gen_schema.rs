//! `cargo xtask gen-schema`: reads the published v1.37 API from the Go modules and writes `pkg/api/schema/types.txt`
//! (facts) and `pkg/api/schema/descriptions.txt` (prose, for OpenAPI and `kubectl explain`). What upstream publishes as
//! OpenAPI goes to `pkg/api/testdata`, to test ours against.
//!
//! Three sources are joined by name: Go sources (JSON names, pointers, `omitempty`, enumerations), `generated.proto` (field
//! numbers and wire types) and OpenAPI v3 (list and patch keys, defaults, required, kinds, descriptions). A name that one
//! source has and another lacks is an error, so a new release can't slip in half read.

mod enums;
mod golang;
mod openapi;
mod proto;
mod table;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::workspace;

const VERSION: &str = "v0.37.0";
const KUBERNETES_VERSION: &str = "v1.37.0";

/// Every package with a GA kind, by module.
const PACKAGES: &[(&str, &[&str])] = &[
    (
        "k8s.io/api",
        &[
            "admissionregistration/v1",
            "apps/v1",
            "authentication/v1",
            "authorization/v1",
            "autoscaling/v1",
            "autoscaling/v2",
            "batch/v1",
            "certificates/v1",
            "coordination/v1",
            "core/v1",
            "discovery/v1",
            "events/v1",
            "flowcontrol/v1",
            "networking/v1",
            "node/v1",
            "policy/v1",
            "rbac/v1",
            "resource/v1",
            "scheduling/v1",
            // batch/v1 Job borrows a few types of this one; see `table::is_wanted`.
            "scheduling/v1alpha3",
            "storage/v1",
            "storagemigration/v1",
        ],
    ),
    ("k8s.io/apiextensions-apiserver", &["pkg/apis/apiextensions/v1"]),
    ("k8s.io/apimachinery", &["pkg/apis/meta/v1", "pkg/version"]),
    ("k8s.io/kube-aggregator", &["pkg/apis/apiregistration/v1"]),
];

/// One package's Go structs and protobuf messages.
struct Package {
    /// `io.k8s.api.core.v1`
    name: String,
    structs: BTreeMap<String, golang::Struct>,
    messages: BTreeMap<String, proto::Message>,
    enums: enums::Enums,
}

/// `gen-schema` takes no arguments.
#[derive(clap::Args)]
pub(crate) struct Args {}

/// Writes both files into the checkout.
pub(crate) fn run(_: &Args) -> Result<()> {
    let mut packages = Vec::new();
    for (module, paths) in PACKAGES {
        let dir = download(&format!("{module}@{VERSION}"))?;
        for path in *paths {
            packages.push(read_package(module, &dir, path).with_context(|| format!("{module}/{path}"))?);
        }
    }
    packages.sort_by(|a, b| a.name.cmp(&b.name));
    resolve_constants(&mut packages);
    let kubernetes = download(&format!("k8s.io/kubernetes@{KUBERNETES_VERSION}"))?;
    let spec = kubernetes.join("api/openapi-spec");
    let definitions = openapi::read(&spec)?;
    let generated = kubernetes.join("pkg/generated/openapi/zz_generated.openapi.go");
    let generated = openapi::Generated::parse(&std::fs::read_to_string(generated)?)?;

    let out = workspace::root().join("pkg/api/schema");
    let types = table::types(&packages, &definitions)?;
    std::fs::write(out.join("types.txt"), types)?;
    std::fs::write(out.join("descriptions.txt"), table::descriptions(&packages, &definitions, &generated))?;
    openapi::write_published(
        &spec,
        &definitions,
        &generated,
        &workspace::root().join("pkg/api/testdata/definitions.json.gz"),
    )
}

/// Gives constants that stand for those of other packages their text.
fn resolve_constants(packages: &mut [Package]) {
    let mut found = Vec::new();
    for (at, package) in packages.iter().enumerate() {
        for (import, constant) in package.enums.references() {
            let path = package.enums.import(import).map(package_name);
            let owner = packages.iter().find(|package| Some(&package.name) == path.as_ref());
            if let Some(text) = owner.and_then(|owner| owner.enums.text(constant)) {
                found.push((at, import.to_owned(), constant.to_owned(), text.to_owned()));
            }
        }
    }
    for (at, import, constant, text) in found {
        packages[at].enums.resolve(&import, &constant, &text);
    }
}

/// Fetches a module by the Go client and returns its folder.
fn download(module: &str) -> Result<PathBuf> {
    let output = Command::new("go")
        .args(["mod", "download", "-json", module])
        .env("GOFLAGS", "-mod=mod")
        .current_dir(std::env::temp_dir())
        .output()
        .context("run go")?;
    ensure!(output.status.success(), "go mod download {module}: {}", String::from_utf8_lossy(&output.stdout));
    let info: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let dir = info["Dir"].as_str().context("go mod download named no folder")?;
    Ok(dir.into())
}

fn read_package(module: &str, dir: &Path, path: &str) -> Result<Package> {
    let name = package_name(&format!("{module}/{path}"));
    let dir = dir.join(path);
    let mut structs = BTreeMap::new();
    let mut enums = enums::Enums::default();
    for file in ["types.go", "types_jsonschema.go", "watch.go", "group_version.go"] {
        if let Ok(source) = std::fs::read_to_string(dir.join(file)) {
            golang::parse(&source, &mut structs)?;
            enums.read(&source);
        }
    }
    ensure!(!structs.is_empty(), "no Go structs");
    let messages = match std::fs::read_to_string(dir.join("generated.proto")) {
        Ok(source) => proto::parse(&source)?,
        Err(_) => BTreeMap::new(),
    };
    Ok(Package { name, structs, messages, enums })
}

/// `io.k8s.api.core.v1` for `k8s.io/api/core/v1`.
fn package_name(path: &str) -> String {
    format!("io.{}", path.replace("k8s.io", "k8s").replace('/', "."))
}
