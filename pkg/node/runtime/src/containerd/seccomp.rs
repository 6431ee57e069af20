//! The seccomp profiles: `RuntimeDefault` from `seccomp.json`, and those of `Localhost` files. Called by `spec`.
//!
//! `seccomp.json` states containerd's default profile as facts: the system calls that are always allowed, those
//! allowed for some arguments, and what each architecture and capability adds.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::{Error, Result, Seccomp};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rules {
    always: Vec<String>,
    arguments: Vec<Value>,
    architectures: BTreeMap<String, Architecture>,
    capabilities: BTreeMap<String, Vec<String>>,
    without_sys_admin: Vec<Value>,
}

#[derive(Deserialize)]
struct Architecture {
    filters: Vec<String>,
    names: Vec<String>,
}

/// The `linux.seccomp` of a container with these capabilities; `None` for no filter.
pub(super) fn profile(seccomp: &Seccomp, capabilities: &BTreeSet<String>) -> Result<Option<Value>> {
    match seccomp {
        Seccomp::Unconfined => Ok(None),
        Seccomp::RuntimeDefault => Ok(Some(default_profile(std::env::consts::ARCH, capabilities))),
        Seccomp::Localhost(path) => load(path).map(Some),
    }
}

fn default_profile(arch: &str, capabilities: &BTreeSet<String>) -> Value {
    let rules: Rules =
        serde_json::from_str(include_str!("seccomp.json")).expect("the built-in profile is valid");
    let mut names: BTreeSet<&String> = rules.always.iter().collect();
    let architecture = rules.architectures.get(arch);
    names.extend(architecture.iter().flat_map(|a| &a.names));
    names.extend(capabilities.iter().filter_map(|name| rules.capabilities.get(name)).flatten());
    let mut syscalls = vec![json!({"names": names, "action": "SCMP_ACT_ALLOW"})];
    syscalls.extend(rules.arguments);
    if !capabilities.contains("CAP_SYS_ADMIN") {
        syscalls.extend(rules.without_sys_admin);
    }
    json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "architectures": architecture.map(|a| a.filters.as_slice()).unwrap_or_default(),
        "syscalls": syscalls,
    })
}

fn load(path: &Path) -> Result<Value> {
    let text = std::fs::read(path).map_err(|source| Error::io("read the seccomp profile", path, source))?;
    serde_json::from_slice(&text)
        .map_err(|error| Error::InvalidSpec(format!("seccomp profile {}: {error}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(capabilities: &[&str]) -> BTreeSet<String> {
        let capabilities = capabilities.iter().map(ToString::to_string).collect();
        let profile = default_profile("x86_64", &capabilities);
        let names = profile["syscalls"][0]["names"].as_array().unwrap();
        names.iter().map(|name| name.as_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn a_capability_allows_its_system_calls() {
        let plain = allowed(&[]);
        assert!(plain.contains("openat") && plain.contains("arch_prctl"));
        for (capability, call) in [
            ("CAP_SYS_ADMIN", "mount"),
            ("CAP_SYS_BOOT", "reboot"),
            ("CAP_SYS_TIME", "clock_settime"),
            ("CAP_BPF", "bpf"),
        ] {
            assert!(!plain.contains(call), "{call}");
            assert!(allowed(&[capability]).contains(call), "{call}");
        }
    }

    #[test]
    fn new_user_namespaces_need_sys_admin() {
        let plain = default_profile("x86_64", &BTreeSet::new());
        let calls: Vec<_> =
            plain["syscalls"].as_array().unwrap().iter().map(|s| s["names"][0].clone()).collect();
        assert!(calls.contains(&json!("clone3")) && calls.contains(&json!("clone")));
        let admin = default_profile("x86_64", &BTreeSet::from(["CAP_SYS_ADMIN".to_owned()]));
        assert_eq!(admin["syscalls"].as_array().unwrap().len(), calls.len() - 2);
    }
}
