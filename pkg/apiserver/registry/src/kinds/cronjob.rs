//! CronJobs.

use serde_json::Value;

use super::workload::{self, SPEC};
use super::{job, schedule};
use crate::pod::warnings;
use crate::strategy::{SPEC_AND_STATUS, Strategy};
use edgek_api::field::{ErrorList, Path};
use edgek_apiserver_admission::fields::Fields;

pub(super) const STRATEGY: Strategy = Strategy { default, validate, warnings, ..SPEC_AND_STATUS };

/// Jobs are named after their CronJob, with eleven characters more, and have labels of their name.
const MAX_NAME: usize = 52;

fn warnings(new: &Value, old: Option<&Value>) -> Vec<String> {
    let path = "spec.jobTemplate.spec.template.spec";
    match old {
        Some(old) if old.number("metadata.generation") == new.number("metadata.generation") => Vec::new(),
        Some(_) => warnings::of_spec(new.at(path), path),
        None => {
            let mut all = warnings::of_name(new, "Pod names and hostnames");
            all.extend(warnings::of_spec(new.at(path), path));
            all
        }
    }
}

fn default(cron: &mut Value) {
    let spec = cron.object_mut("spec");
    spec.default_empty("concurrencyPolicy", "Allow");
    spec.default("suspend", false);
    spec.default("successfulJobsHistoryLimit", 3);
    spec.default("failedJobsHistoryLimit", 1);
    crate::pod::default_template(spec.object_mut("jobTemplate").object_mut("spec"));
}

fn validate(cron: &Value, errors: &mut ErrorList) {
    let spec = cron.at("spec");
    let schedule = spec.text("schedule");
    let name = cron.text("metadata.name");
    if name.len() > MAX_NAME {
        let detail = format!("must be no more than {MAX_NAME} characters");
        errors.invalid(&Path::Root("metadata.name"), name, &detail);
    }
    if schedule.is_empty() {
        errors.required(&SPEC.field("schedule"), "");
    } else {
        if let Err(detail) = schedule::check(schedule) {
            errors.invalid(&SPEC.field("schedule"), schedule, &detail);
        }
        if schedule.contains("TZ") {
            let detail = "cannot use TZ or CRON_TZ in schedule, use timeZone field instead";
            errors.invalid(&SPEC.field("schedule"), schedule, detail);
        }
    }
    workload::not_negative(spec, &["startingDeadlineSeconds"], &SPEC, errors);
    if let Some(zone) = spec.at("timeZone").as_str() {
        errors.invalid_all(&SPEC.field("timeZone"), zone, schedule::check_zone(zone));
    }
    let policy = spec.text("concurrencyPolicy");
    if !["Allow", "Forbid", "Replace"].contains(&policy) {
        errors.not_supported(&SPEC.field("concurrencyPolicy"), policy, &["Allow", "Forbid", "Replace"]);
    }
    let mut job_spec = spec.at("jobTemplate.spec").clone();
    job_spec.default("completionMode", "NonIndexed");
    let path = SPEC.field("jobTemplate");
    job::validate_spec(&job_spec, &path.field("spec"), errors);
    workload::not_negative(spec, &["successfulJobsHistoryLimit", "failedJobsHistoryLimit"], &SPEC, errors);
}
