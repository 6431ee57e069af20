//! The options of writes.

use edgek_apiserver_admission::DryRun;
use serde_json::{Value, json};

use crate::error::{Error, Subject};
use edgek_api::field::{ErrorList, Path};
use edgek_apiserver_admission::fields::Fields;

/// What becomes of the dependents of a deleted object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Propagation {
    /// They stay, ownerless.
    Orphan,
    /// They are deleted after their owner.
    Background,
    /// They are deleted before their owner.
    Foreground,
}

/// `DeleteOptions`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeleteOptions {
    /// Seconds the object gets to end; `None` for what its kind says.
    pub grace_period: Option<i64>,
    /// The uid the object must have.
    pub uid: Option<String>,
    /// The resource version the object must have.
    pub resource_version: Option<String>,
    /// What becomes of dependents.
    pub propagation: Option<Propagation>,
    /// The older way to say it.
    pub orphan_dependents: Option<bool>,
    /// Whether `dryRun=All` was given in the body.
    pub dry_run: bool,
}

impl DeleteOptions {
    /// Deletes at once.
    pub fn now() -> Self {
        Self { grace_period: Some(0), ..Self::default() }
    }

    /// Reads a decoded `DeleteOptions`.
    ///
    /// # Errors
    /// An unknown policy, two contradicting ones, or an unknown dry-run directive.
    pub fn from_value(options: &Value) -> Result<Self, Error> {
        let mut problems = ErrorList::default();
        let text =
            |path: &str| Some(options.text(path)).filter(|text| !text.is_empty()).map(ToOwned::to_owned);
        let policy = options.at("propagationPolicy");
        let propagation = match policy.as_str() {
            None => None,
            Some("Orphan") => Some(Propagation::Orphan),
            Some("Background") => Some(Propagation::Background),
            Some("Foreground") => Some(Propagation::Foreground),
            Some(other) => {
                problems.not_supported(
                    &Path::Root("propagationPolicy"),
                    other,
                    &["Foreground", "Background", "Orphan", "nil"],
                );
                None
            }
        };
        let orphan_dependents = options.at("orphanDependents").as_bool();
        if orphan_dependents.is_some() && !policy.is_null() {
            problems.invalid(
                &Path::Root("propagationPolicy"),
                policy.clone(),
                "orphanDependents and deletionPropagation cannot be both set",
            );
        }
        let dry_run = check_dry_run(options.items("dryRun").iter().filter_map(Value::as_str), &mut problems)
            == DryRun::All;
        if !problems.is_empty() {
            return Err(invalid_options("DeleteOptions", problems));
        }
        Ok(Self {
            grace_period: options.number("gracePeriodSeconds"),
            uid: text("preconditions.uid"),
            resource_version: text("preconditions.resourceVersion"),
            propagation,
            orphan_dependents,
            dry_run,
        })
    }
}

/// Whether a write with these `dryRun` directives is only tried; unknown ones are a problem.
pub fn check_dry_run<'a>(directives: impl IntoIterator<Item = &'a str>, problems: &mut ErrorList) -> DryRun {
    let mut dry_run = DryRun::No;
    let directives: Vec<&str> = directives.into_iter().collect();
    for directive in &directives {
        if *directive == "All" {
            dry_run = DryRun::All;
        } else {
            problems.not_supported(&Path::Root("dryRun"), json!(directives), &["All"]);
        }
    }
    dry_run
}

/// The error of options that break their rules.
pub fn invalid_options(kind: &str, problems: ErrorList) -> Error {
    let subject = Box::new(Subject { group: "meta.k8s.io".into(), kind: kind.into(), ..Subject::default() });
    Error::Invalid { subject, problems }
}
