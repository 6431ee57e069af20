//! Text that stands for something else: times, quantities, base64. Given in many spellings, kept in one. Used by the
//! JSON and protobuf codecs.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::DecodeError;
use crate::quantity::Quantity;

type Result<T, E = DecodeError> = std::result::Result<T, E>;

const SECONDS_LAYOUT: &str = "2006-01-02T15:04:05Z07:00";
const MICROS_LAYOUT: &str = "2006-01-02T15:04:05.000000Z07:00";
/// 0001-01-01T00:00:00Z, Go's zero time, in seconds of the Unix epoch.
const ZERO: i64 = -62_135_596_800;
const DAY: i64 = 86_400;
/// The years that RFC 3339 can write, 0 to 9999.
const WRITABLE: std::ops::RangeInclusive<i64> = -62_167_219_200..=253_402_300_799;

/// A moment of the Unix epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Moment {
    pub(crate) seconds: i64,
    pub(crate) nanos: i32,
}

/// Checks a quantity and writes it as upstream prints it.
pub(crate) fn quantity(text: &str) -> Result<String> {
    match text.trim().parse::<Quantity>() {
        Ok(quantity) => Ok(quantity.to_string()),
        Err(error) => Err(DecodeError::Text(error.to_string())),
    }
}

/// Checks base64 and writes it with padding and without line breaks.
pub(crate) fn base64(text: &str) -> Result<String> {
    let unbroken: String;
    let text = if text.contains(['\r', '\n']) {
        unbroken = text.replace(['\r', '\n'], "");
        &unbroken
    } else {
        text
    };
    match STANDARD.decode(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => {
            Err(DecodeError::Text(format!("illegal base64 data at input byte {}", offset(&error, text))))
        }
    }
}

fn offset(error: &base64::DecodeError, text: &str) -> usize {
    match error {
        base64::DecodeError::InvalidByte(at, _) | base64::DecodeError::InvalidLastSymbol(at, _) => *at,
        // Go counts from the group that is not whole.
        base64::DecodeError::InvalidLength(_) => text.len() - text.len() % 4,
        base64::DecodeError::InvalidPadding => text.len(),
    }
}

/// An RFC 3339 time in UTC and whole seconds; null for Go's zero time.
pub(crate) fn time(text: &str) -> Result<Value> {
    format_time(parse_time(text)?)
}

/// An RFC 3339 time in UTC and microseconds; null for Go's zero time.
pub(crate) fn micro_time(text: &str) -> Result<Value> {
    format_micro_time(parse_micro_time(text)?)
}

pub(crate) fn parse_time(text: &str) -> Result<Moment> {
    parse(text, SECONDS_LAYOUT).map_err(DecodeError::Text)
}

pub(crate) fn parse_micro_time(text: &str) -> Result<Moment> {
    parse(text, MICROS_LAYOUT).map_err(DecodeError::Text)
}

pub(crate) fn format_time(moment: Moment) -> Result<Value> {
    if moment.seconds == ZERO {
        return Ok(Value::Null);
    }
    Ok(Value::String(format!("{}Z", seconds(moment.seconds)?)))
}

pub(crate) fn format_micro_time(moment: Moment) -> Result<Value> {
    if moment.seconds == ZERO && moment.nanos == 0 {
        return Ok(Value::Null);
    }
    Ok(Value::String(format!("{}.{:06}Z", seconds(moment.seconds)?, moment.nanos / 1000)))
}

fn seconds(seconds: i64) -> Result<String> {
    if !WRITABLE.contains(&seconds) {
        return Err(DecodeError::Text("year is not in the range [0,9999]".to_owned()));
    }
    let (year, month, day) = civil(seconds.div_euclid(DAY));
    let of_day = seconds.rem_euclid(DAY);
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    Ok(format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}"))
}

/// Parses as Go's `time.Parse` does, errors included.
fn parse(text: &str, layout: &str) -> Result<Moment, String> {
    let mut rest = text;
    let parsed = fields(&mut rest, layout == MICROS_LAYOUT).map_err(|wanted| {
        format!("parsing time {text:?} as {layout:?}: cannot parse {rest:?} as {wanted:?}")
    })?;
    if !rest.is_empty() {
        return Err(format!("parsing time {text:?}: extra text: {rest:?}"));
    }
    let [year, month, day, hour, minute, second] = parsed.date;
    let out_of_range = |what: &str| Err(format!("parsing time {text:?}: {what} out of range"));
    if !(1..=12).contains(&month) {
        return out_of_range("month");
    }
    if hour > 23 {
        return out_of_range("hour");
    }
    if minute > 59 {
        return out_of_range("minute");
    }
    if second > 59 {
        return out_of_range("second");
    }
    if day < 1 || day > days_in_month(year, month) {
        return out_of_range("day");
    }
    let seconds = days(year, month, day) * DAY + hour * 3600 + minute * 60 + second - parsed.offset;
    Ok(Moment { seconds, nanos: parsed.nanos })
}

struct Fields {
    date: [i64; 6],
    nanos: i32,
    /// Seconds east of UTC.
    offset: i64,
}

/// Takes the text apart; on failure `rest` stands at the piece that is not what the error names.
fn fields(rest: &mut &str, micros: bool) -> Result<Fields, &'static str> {
    let mut date = [0; 6];
    const PIECES: [(usize, &str, &str); 6] =
        [(4, "2006", "-"), (2, "01", "-"), (2, "02", "T"), (2, "15", ":"), (2, "04", ":"), (2, "05", "")];
    for (slot, (digits, name, separator)) in date.iter_mut().zip(PIECES) {
        *slot = take_digits(rest, digits).ok_or(name)?;
        *rest = rest.strip_prefix(separator).ok_or(separator)?;
    }
    let nanos = fraction(rest, micros)?;
    let offset = zone(rest)?;
    Ok(Fields { date, nanos, offset })
}

fn take_digits(rest: &mut &str, count: usize) -> Option<i64> {
    let digits = rest.get(..count).filter(|d| d.bytes().all(|b| b.is_ascii_digit()))?;
    *rest = &rest[count..];
    digits.parse().ok()
}

fn fraction(rest: &mut &str, micros: bool) -> Result<i32, &'static str> {
    let digits = rest.strip_prefix('.').map_or(0, |r| r.bytes().take_while(u8::is_ascii_digit).count());
    if micros && digits != 6 {
        return Err(".000000");
    }
    if digits == 0 {
        return Ok(0);
    }
    let mut nanos = 0;
    for place in 0..9 {
        let digit = rest.as_bytes().get(1 + place).filter(|_| place < digits).map_or(0, |b| b - b'0');
        nanos = nanos * 10 + i32::from(digit);
    }
    *rest = &rest[1 + digits..];
    Ok(nanos)
}

fn zone(rest: &mut &str) -> Result<i64, &'static str> {
    const NAME: &str = "Z07:00";
    if let Some(after) = rest.strip_prefix('Z') {
        *rest = after;
        return Ok(0);
    }
    let mut after = *rest;
    let sign = match after.bytes().next() {
        Some(b'+') => 1,
        Some(b'-') => -1,
        _ => return Err(NAME),
    };
    after = &after[1..];
    let hours = take_digits(&mut after, 2).filter(|h| *h < 24).ok_or(NAME)?;
    after = after.strip_prefix(':').ok_or(NAME)?;
    let minutes = take_digits(&mut after, 2).filter(|m| *m < 60).ok_or(NAME)?;
    *rest = after;
    Ok(sign * (hours * 3600 + minutes * 60))
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

/// Days since 1970-01-01 of a date in the Gregorian calendar; years start in March so that leap days come last.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// The date of a day since 1970-01-01; the inverse of `days`.
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year + era * 400 + i64::from(month <= 2), month, day)
}
