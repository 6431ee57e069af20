//! `/healthz`, `/livez`, `/readyz`, `/version` and `/metrics`.

use http::StatusCode;
use serde_json::{Value, json};

use crate::answer;
use crate::body::Body;
use crate::query::Query;
use crate::server::Inner;

/// The checks behind the health endpoints. All are about this process: a dead one answers nothing at all.
const CHECKS: [&str; 3] = ["ping", "log", "etcd"];

/// Answers a health endpoint or one of its checks; `None` when the path is none.
pub(crate) fn answer(server: &Inner, path: &str, query: Query<'_>) -> Option<http::Response<Body>> {
    let mut parts = path.trim_matches('/').splitn(2, '/');
    let name = parts.next().filter(|name| ["healthz", "livez", "readyz"].contains(name))?;
    let mut checks: Vec<&str> = CHECKS.to_vec();
    if name == "readyz" {
        checks.push("shutdown");
    }
    if let Some(single) = parts.next() {
        checks.retain(|check| *check == single);
        if checks.is_empty() {
            return None;
        }
    }
    let excluded = query.all("exclude");
    let mut report = String::new();
    let mut failed = false;
    for check in checks {
        if excluded.iter().any(|name| name == check) {
            report.push_str(&format!("[+]{check} excluded: ok\n"));
        } else if check == "shutdown" && server.scope.is_cancelled() {
            failed = true;
            report.push_str(&format!("[-]{check} failed: reason withheld\n"));
        } else {
            report.push_str(&format!("[+]{check} ok\n"));
        }
    }
    if failed {
        return Some(answer::text(
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("{report}{name} check failed\n"),
        ));
    }
    if query.get("verbose").is_none() {
        return Some(answer::text(StatusCode::OK, "ok"));
    }
    Some(answer::text(StatusCode::OK, format!("{report}{name} check passed\n")))
}

/// The version of the API that is served.
pub(crate) const VERSION: &str = "v1.37.0+edgek1";

/// The document under `/version`.
pub(crate) fn version() -> Value {
    let platform = match std::env::consts::ARCH {
        "x86_64" => "linux/amd64",
        "aarch64" => "linux/arm64",
        _ => "linux/arm",
    };
    json!({
        "major": "1",
        "minor": "37",
        "emulationMajor": "1",
        "emulationMinor": "37",
        "minCompatibilityMajor": "1",
        "minCompatibilityMinor": "36",
        "gitVersion": VERSION,
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "",
        "compiler": "rustc",
        "platform": platform,
    })
}
