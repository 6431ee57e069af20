//! Gathers what the configuration is made of: flags, environment, files. Only here is the environment read.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::ArgMatches;
use edgek_base_config::{Config, ConfigFile, Problems, SETTINGS, Shape, Sources};

use crate::exit::{Code, Failure};

/// Where the configuration is when nobody says.
const CONFIG: &str = "/etc/edgek/config.yaml";

/// The configuration from flags, environment and files.
pub(crate) fn config(flags: &ArgMatches) -> Result<Config, Failure> {
    load(flag_values(flags), flags.get_one::<String>("config").map(PathBuf::from))
}

/// The configuration as a command without flags sees it.
pub(crate) fn ambient() -> Result<Config, Failure> {
    load(BTreeMap::new(), None)
}

#[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
fn environment() -> BTreeMap<String, String> {
    std::env::vars().filter(|(name, _)| name.starts_with("EDGEK_")).collect()
}

/// Whether standard error goes to journald, which adds times itself.
#[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
pub(crate) fn under_journald() -> bool {
    std::env::var_os("JOURNAL_STREAM").is_some()
}

/// The proxies through which images are pulled: `CONTAINERD_HTTP_PROXY` before `HTTP_PROXY`, and so on, as K3s has it.
#[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
pub(crate) fn proxies() -> Vec<(String, String)> {
    let names = ["HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"];
    let value = |name: &str| {
        let spellings = [format!("CONTAINERD_{name}"), name.to_owned(), name.to_lowercase()];
        spellings.iter().find_map(|name| std::env::var(name).ok())
    };
    names.iter().filter_map(|name| Some(((*name).to_owned(), value(name)?))).collect()
}

fn load(flags: BTreeMap<String, Vec<String>>, config: Option<PathBuf>) -> Result<Config, Failure> {
    let environment = environment();
    let named = config.or_else(|| environment.get("EDGEK_CONFIG").map(PathBuf::from));
    let (files, mut problems) = read_files(named.as_deref())?;
    match edgek_base_config::load(&Sources { flags, environment, files }) {
        Ok(config) if problems.0.is_empty() => Ok(config),
        Ok(_) => Err(Failure::new(Code::Usage, wrong(&problems))),
        Err(more) => {
            problems.0.extend(more.0);
            Err(Failure::new(Code::Usage, wrong(&problems)))
        }
    }
}

fn wrong(problems: &Problems) -> anyhow::Error {
    anyhow::anyhow!("the configuration is wrong:\n{problems}")
}

/// The file that was named, or the default one if it exists, then those of its `.d` folder in the order of their
/// names.
fn read_files(named: Option<&Path>) -> Result<(Vec<ConfigFile>, Problems), Failure> {
    let path = named.unwrap_or(Path::new(CONFIG));
    let mut paths = Vec::new();
    if named.is_some() || path.exists() {
        paths.push(path.to_owned());
    }
    let mut folder = path.as_os_str().to_owned();
    folder.push(".d");
    if let Ok(entries) = std::fs::read_dir(&folder) {
        let mut more: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
        more.retain(|path| path.extension().is_some_and(|e| e == "yaml" || e == "yml"));
        more.sort();
        paths.extend(more);
    }
    let mut files = Vec::new();
    let mut problems = Problems::default();
    for path in paths {
        let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()));
        let text = text.map_err(|error| Failure::new(Code::Usage, error))?;
        match ConfigFile::parse(&path, &text) {
            Ok(file) => files.push(file),
            Err(found) => problems.0.extend(found.0),
        }
    }
    Ok((files, problems))
}

fn flag_values(matches: &ArgMatches) -> BTreeMap<String, Vec<String>> {
    let mut values = BTreeMap::new();
    for setting in SETTINGS {
        // A command takes the flags of its role.
        if !matches!(matches.try_contains_id(setting.name), Ok(true)) {
            continue;
        }
        let given = match setting.shape {
            Shape::Switch => matches.get_flag(setting.name).then(|| vec!["true".to_owned()]),
            Shape::One | Shape::Many => {
                matches.get_many::<String>(setting.name).map(|values| values.cloned().collect())
            }
        };
        if let Some(given) = given {
            values.insert(setting.name.to_owned(), given);
        }
    }
    values
}
