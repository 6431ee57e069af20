//! The options in a request's query, checked as upstream checks them.

use std::num::{IntErrorKind, ParseIntError};
use std::time::Duration;

use edgek_api::field::{ErrorList, Path};
use edgek_api::json::Unknown;
use edgek_api::resource::Resource;
use edgek_api::selector::{field, label};
use edgek_api::status::{About, Status};
use edgek_apiserver_admission::DryRun;
use edgek_apiserver_registry::{DeleteOptions, check_dry_run};
use edgek_store_watch::{At, AtError, Bookmarks, Filter, Revision};
use serde_json::{Map, Value, json};

use crate::error::Rejection;
use crate::query::Query;

/// `ListOptions`.
#[derive(Debug, Clone)]
pub(crate) struct ListOptions {
    pub(crate) filter: Filter,
    pub(crate) limit: usize,
    /// The `continue` token; empty for the first page.
    pub(crate) token: String,
    pub(crate) at: At,
    /// The `resourceVersion`; 0 when not given.
    pub(crate) version: Revision,
    pub(crate) bookmarks: Bookmarks,
    pub(crate) initial_events: Option<bool>,
    pub(crate) timeout: Option<Duration>,
}

impl ListOptions {
    /// Reads the options of a list, watch or deletecollection in a namespace (empty for all).
    pub(crate) fn parse(
        query: Query<'_>,
        resource: &Resource,
        namespace: &str,
        use_: Use,
    ) -> Result<Self, Rejection> {
        let text = |name: &str| query.get(name).unwrap_or_default().into_owned();
        let bad = |error: &dyn std::fmt::Display| Rejection::from(Status::bad_request(error.to_string()));
        let labels = label::Selector::parse(&text("labelSelector")).map_err(|error| bad(&error))?;
        let fields = field::Selector::parse(&text("fieldSelector"), resource).map_err(|error| bad(&error))?;
        let (version, matching, token) =
            (text("resourceVersion"), text("resourceVersionMatch"), text("continue"));
        check(&matching, &version, &token, query.get("sendInitialEvents").is_some(), use_)?;
        let bookmarks =
            if query.is_set("allowWatchBookmarks") { Bookmarks::Allowed } else { Bookmarks::None };
        let limit = number(query, "limit")?.and_then(|limit| usize::try_from(limit).ok());
        let seconds = number(query, "timeoutSeconds")?.and_then(|seconds| u64::try_from(seconds).ok());
        Ok(Self {
            filter: Filter { namespace: namespace.into(), labels, fields },
            limit: limit.unwrap_or_default(),
            token,
            at: At::parse(&version, &matching).map_err(|error| bad_version(&error, use_))?,
            version: At::parse_version(&version).map_err(|error| bad_version(&error, use_))?,
            bookmarks,
            initial_events: query.get("sendInitialEvents").map(|_| query.is_set("sendInitialEvents")),
            timeout: seconds.filter(|seconds| *seconds > 0).map(Duration::from_secs),
        })
    }
}

fn bad_version(error: &AtError, use_: Use) -> Status {
    match use_ {
        Use::List => Status::bad_request(format!("invalid resource version: {error}")),
        Use::Watch => Status::bad_request(error.to_string()),
    }
}

/// What list options are for: the rules differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Use {
    List,
    Watch,
}

fn number(query: Query<'_>, name: &str) -> Result<Option<i64>, Rejection> {
    match query.get(name) {
        None => Ok(None),
        Some(text) => text.parse().map(Some).map_err(|error: ParseIntError| {
            let problem = match error.kind() {
                IntErrorKind::PosOverflow | IntErrorKind::NegOverflow => "value out of range",
                _ => "invalid syntax",
            };
            Status::bad_request(format!("strconv.ParseInt: parsing {text:?}: {problem}")).into()
        }),
    }
}

/// The rules of `ValidateListOptions`.
fn check(
    version_match: &str,
    version: &str,
    next: &str,
    initial_events: bool,
    use_: Use,
) -> Result<(), Rejection> {
    let mut problems = ErrorList::default();
    let path = Path::Root("resourceVersionMatch");
    if use_ == Use::Watch {
        if initial_events && version_match != "NotOlderThan" {
            problems
                .forbidden(&path, "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan");
        }
        if !version_match.is_empty() {
            if !initial_events {
                problems.forbidden(
                    &path,
                    "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
                );
            }
            if version_match != "NotOlderThan" {
                problems.not_supported(&path, version_match, &["NotOlderThan"]);
            }
        }
        if !next.is_empty() {
            problems.forbidden(&path, "resourceVersionMatch is forbidden when continue is provided");
        }
    } else {
        if !version_match.is_empty() {
            if version.is_empty() {
                problems
                    .forbidden(&path, "resourceVersionMatch is forbidden unless resourceVersion is provided");
            }
            if !next.is_empty() {
                problems.forbidden(&path, "resourceVersionMatch is forbidden when continue is provided");
            }
            if !["Exact", "NotOlderThan"].contains(&version_match) {
                problems.not_supported(&path, version_match, &["Exact", "NotOlderThan", ""]);
            }
            if version_match == "Exact" && version == "0" {
                problems.forbidden(
                    &path,
                    "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"",
                );
            }
        }
        if initial_events {
            problems.forbidden(&Path::Root("sendInitialEvents"), "sendInitialEvents is forbidden for list");
        }
    }
    refuse("ListOptions", &problems)
}

fn refuse(kind: &str, problems: &ErrorList) -> Result<(), Rejection> {
    if problems.is_empty() {
        return Ok(());
    }
    Err(Status::invalid(About { group: "meta.k8s.io", resource: kind, name: "" }, problems).into())
}

/// `CreateOptions`, `UpdateOptions` and `PatchOptions`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WriteOptions {
    pub(crate) dry_run: DryRun,
    pub(crate) unknown: Unknown,
}

impl WriteOptions {
    /// Reads the options of a write; `kind` names them in errors.
    pub(crate) fn parse(query: Query<'_>, kind: &str) -> Result<Self, Rejection> {
        let mut problems = ErrorList::default();
        let directives = query.all("dryRun");
        let dry_run = check_dry_run(directives.iter().map(String::as_str), &mut problems);
        let manager = query.get("fieldManager").unwrap_or_default();
        if manager.len() > 128 {
            problems.too_long(&Path::Root("fieldManager"), 128);
        }
        for (at, letter) in manager.char_indices().filter(|(_, letter)| letter.is_control()) {
            let detail = format!("invalid character U+{:04X} (at position {at})", u32::from(letter));
            problems.invalid(&Path::Root("fieldManager"), &*manager, &detail);
        }
        let validation = query.get("fieldValidation").unwrap_or_default();
        let unknown = match &*validation {
            "Ignore" => Unknown::Ignore,
            "Strict" => Unknown::Strict,
            "" | "Warn" => Unknown::Warn,
            other => {
                problems.not_supported(
                    &Path::Root("fieldValidation"),
                    other,
                    &["", "Ignore", "Strict", "Warn"],
                );
                Unknown::Warn
            }
        };
        if kind == "PatchOptions" && query.get("force").is_some() {
            problems.forbidden(&Path::Root("force"), "may not be specified for non-apply patch");
        }
        refuse(kind, &problems)?;
        Ok(Self { dry_run, unknown })
    }
}

/// The `DeleteOptions` of a deletion: those in its body, or else those in its query.
pub(crate) fn delete_options(query: Query<'_>, body: Option<Value>) -> Result<DeleteOptions, Rejection> {
    let options = match body {
        Some(body) => body,
        None => from_query(query)?,
    };
    Ok(DeleteOptions::from_value(&options)?)
}

fn from_query(query: Query<'_>) -> Result<Value, Rejection> {
    let mut options = Map::new();
    if let Some(seconds) = number(query, "gracePeriodSeconds")? {
        options.insert("gracePeriodSeconds".into(), seconds.into());
    }
    if let Some(policy) = query.get("propagationPolicy") {
        options.insert("propagationPolicy".into(), policy.into());
    }
    if query.get("orphanDependents").is_some() {
        options.insert("orphanDependents".into(), query.is_set("orphanDependents").into());
    }
    let directives = query.all("dryRun");
    if !directives.is_empty() {
        options.insert("dryRun".into(), json!(directives));
    }
    Ok(Value::Object(options))
}
