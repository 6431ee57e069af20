//! Times as objects hold them: RFC 3339 in UTC, in seconds or microseconds.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use crate::json::scalar::{self, Moment};

/// Now, in whole seconds: `2026-01-02T03:04:05Z`.
pub fn now_seconds() -> String {
    seconds(SystemTime::now())
}

/// Now, in microseconds: `2026-01-02T03:04:05.000000Z`.
pub fn now_micros() -> String {
    micros(SystemTime::now())
}

/// A time in whole seconds, rounded down. Times that RFC 3339 cannot write are empty.
pub fn seconds(time: SystemTime) -> String {
    written(scalar::format_time(moment(time)).ok())
}

/// A time in microseconds, rounded down. Times that RFC 3339 cannot write are empty.
pub fn micros(time: SystemTime) -> String {
    written(scalar::format_micro_time(moment(time)).ok())
}

/// Reads RFC 3339 with any fraction of a second and any offset.
pub fn parse(text: &str) -> Option<SystemTime> {
    let moment = scalar::parse_time(text).ok()?;
    let nanos = Duration::from_nanos(u64::try_from(moment.nanos).ok()?);
    let seconds = Duration::from_secs(moment.seconds.unsigned_abs());
    let whole =
        if moment.seconds < 0 { UNIX_EPOCH.checked_sub(seconds) } else { UNIX_EPOCH.checked_add(seconds) };
    whole?.checked_add(nanos)
}

fn written(value: Option<Value>) -> String {
    match value {
        Some(Value::String(text)) => text,
        _ => String::new(),
    }
}

fn moment(time: SystemTime) -> Moment {
    let whole = |elapsed: Duration| i64::try_from(elapsed.as_secs()).unwrap_or(i64::MAX);
    let nanos = |elapsed: Duration| i32::try_from(elapsed.subsec_nanos()).unwrap_or(0);
    match time.duration_since(UNIX_EPOCH) {
        Ok(since) => Moment { seconds: whole(since), nanos: nanos(since) },
        Err(before) if before.duration().subsec_nanos() == 0 => {
            Moment { seconds: -whole(before.duration()), nanos: 0 }
        }
        Err(before) => {
            let before = before.duration();
            Moment { seconds: -whole(before) - 1, nanos: 1_000_000_000 - nanos(before) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_and_written() {
        let check = |text: &str, in_seconds: &str, in_micros: &str| {
            let time = parse(text).unwrap();
            assert_eq!((&*seconds(time), &*micros(time)), (in_seconds, in_micros), "{text}");
        };
        check("2026-01-02T03:04:05Z", "2026-01-02T03:04:05Z", "2026-01-02T03:04:05.000000Z");
        check("2026-01-02T03:04:05.1234567+01:30", "2026-01-02T01:34:05Z", "2026-01-02T01:34:05.123456Z");
        check("1969-12-31T23:59:59.5Z", "1969-12-31T23:59:59Z", "1969-12-31T23:59:59.500000Z");
        assert!(parse(&now_micros()).unwrap() <= SystemTime::now());
        assert_eq!((parse(""), parse("2026-01-02"), parse("2026-13-02T03:04:05Z")), (None, None, None));
    }
}
