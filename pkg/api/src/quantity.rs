//! `Quantity`: amounts of resources (`100m`, `2Gi`, `1e3`), as upstream's `apimachinery/pkg/api/resource`. The codec
//! writes them in canonical form; validation, quotas and the scheduler compare and add them.

use std::cmp::Ordering;
use std::fmt;
use std::iter::Sum;
use std::ops::{Add, AddAssign, Neg, Sub, SubAssign};
use std::str::FromStr;

const NANO: i128 = 1_000_000_000;
const MILLI: i128 = 1_000_000;
/// Binary quantities end at the greatest int64, as upstream's do.
const MAX_BINARY: i128 = (i64::MAX as i128) * NANO;

/// An exact amount down to 10^-9; what is smaller is rounded up, away from zero.
#[derive(Clone, Copy, Debug, Default)]
pub struct Quantity {
    nanos: i128,
    format: Format,
}

/// How a quantity is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// `1e3`.
    DecimalExponent,
    /// `1Ki`.
    BinarySi,
    /// `1k`.
    #[default]
    DecimalSi,
}

/// The text is not a quantity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    /// It does not look like one.
    #[error("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")]
    Format,
    /// The number is too great.
    #[error("unable to parse numeric part of quantity")]
    Number,
    /// What follows the number is no suffix.
    #[error("unable to parse quantity's suffix")]
    Suffix,
}

impl Quantity {
    /// A whole amount.
    pub fn new(value: i64, format: Format) -> Self {
        Self { nanos: i128::from(value) * NANO, format }
    }

    /// An amount in thousandths, as CPU time is counted.
    pub fn from_milli(milli: i64) -> Self {
        Self { nanos: i128::from(milli) * MILLI, format: Format::DecimalSi }
    }

    /// The amount as an integer, rounded up, away from zero; at most what an int64 holds.
    pub fn value(self) -> i64 {
        self.scaled(NANO)
    }

    /// The amount in thousandths, rounded up, away from zero; at most what an int64 holds.
    pub fn milli_value(self) -> i64 {
        self.scaled(MILLI)
    }

    /// Whether it is nothing.
    pub fn is_zero(self) -> bool {
        self.nanos == 0
    }

    fn scaled(self, unit: i128) -> i64 {
        let rounded = div_up(self.nanos, unit);
        i64::try_from(rounded).unwrap_or(if rounded < 0 { i64::MIN } else { i64::MAX })
    }
}

/// Divides, rounding away from zero.
fn div_up(number: i128, by: i128) -> i128 {
    let rest = number % by;
    number / by + rest.signum()
}

impl FromStr for Quantity {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        if text.is_empty() {
            return Err(QuantityError::Format);
        }
        let negative = text.starts_with('-');
        let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
        let (whole, rest) = split_digits(unsigned);
        let (fraction, suffix) = rest.strip_prefix('.').map_or(("", rest), split_digits);
        check_suffix(suffix)?;
        let (base, exponent, format) = interpret(suffix).ok_or(QuantityError::Suffix)?;
        // Upstream reads a missing number as zero, except where it needs its slow path.
        let slow = if matches!(base, Base::Two) { exponent >= 50 } else { exponent < -9 };
        if slow && whole.is_empty() && fraction.is_empty() {
            return Err(QuantityError::Number);
        }
        let nanos = match base {
            Base::Two => binary(whole, fraction, exponent)?,
            Base::Ten => decimal(whole, fraction, exponent)?,
        };
        let format =
            if format == Format::BinarySi && (1..NANO).contains(&nanos) { Format::DecimalSi } else { format };
        Ok(Self { nanos: if negative { -nanos } else { nanos }, format })
    }
}

enum Base {
    Two,
    Ten,
}

fn split_digits(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))
}

/// A suffix is letters, then a sign and digits.
fn check_suffix(suffix: &str) -> Result<(), QuantityError> {
    let rest = suffix.trim_start_matches(|c| "eEinumkKMGTP".contains(c));
    let rest = rest.strip_prefix(['-', '+']).unwrap_or(rest);
    if rest.bytes().all(|b| b.is_ascii_digit()) { Ok(()) } else { Err(QuantityError::Format) }
}

fn interpret(suffix: &str) -> Option<(Base, i64, Format)> {
    if let Some(index) = DECIMAL.iter().position(|known| *known == suffix) {
        return Some((Base::Ten, 3 * (i64::try_from(index).ok()? - 3), Format::DecimalSi));
    }
    if let Some(index) = BINARY.iter().position(|known| *known == suffix) {
        return Some((Base::Two, 10 * i64::try_from(index).ok()?, Format::BinarySi));
    }
    let exponent = suffix.strip_prefix(['e', 'E'])?.parse::<i64>().ok()?;
    Some((Base::Ten, exponent, Format::DecimalExponent))
}

/// `n` is 10^-9, and each next a thousand times as much.
const DECIMAL: [&str; 10] = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"];
/// Nothing is 1, and each next 1024 times as much. No quantity is written with the first.
const BINARY: [&str; 7] = ["\0", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];

/// The digits of a number in billionths times ten to the exponent, rounded up.
fn decimal(whole: &str, fraction: &str, exponent: i64) -> Result<i128, QuantityError> {
    let mut nanos: i128 = 0;
    let mut lost = false;
    // How many powers of ten above a billionth the first digit stands.
    let length = i64::try_from(whole.len()).map_err(|_| QuantityError::Number)?;
    let mut place = exponent.saturating_add(9).saturating_add(length);
    for digit in whole.bytes().chain(fraction.bytes()).map(|b| i128::from(b - b'0')) {
        place = place.saturating_sub(1);
        if place < 0 {
            lost |= digit != 0;
        } else {
            nanos = nanos.checked_mul(10).and_then(|n| n.checked_add(digit)).ok_or(QuantityError::Number)?;
        }
    }
    while place > 0 && nanos != 0 {
        nanos = nanos.checked_mul(10).ok_or(QuantityError::Number)?;
        place -= 1;
    }
    Ok(nanos + i128::from(lost))
}

/// The same for a power of two; amounts above the greatest are the greatest.
fn binary(whole: &str, fraction: &str, exponent: i64) -> Result<i128, QuantityError> {
    let factor = 1i128 << exponent;
    let number = |digits: &str| {
        if digits.is_empty() { Some(0) } else { digits.parse::<i128>().ok() }
    };
    let Some(whole) = number(whole).and_then(|n| n.checked_mul(factor)).and_then(|n| n.checked_mul(NANO))
    else {
        return Ok(MAX_BINARY);
    };
    // A billionth of the greatest factor has 28 digits: what follows can only round up.
    let kept = &fraction[..fraction.len().min(18)];
    let lost = fraction[kept.len()..].bytes().any(|b| b != b'0');
    let scale = 10i128.pow(u32::try_from(kept.len()).unwrap_or(18));
    let part = number(kept).ok_or(QuantityError::Number)?;
    // Factor by factor, so that nothing overflows: part < 10^18 and factor <= 2^60.
    let scaled = part * factor;
    let (units, rest) = (scaled / scale, scaled % scale);
    let nanos = units * NANO + div_up(rest * NANO, scale);
    let exact = rest * NANO % scale == 0;
    Ok(whole.saturating_add(nanos + i128::from(lost && exact)).min(MAX_BINARY))
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let small = self.nanos.abs() < 1024 * NANO;
        match self.format {
            _ if self.nanos == 0 => f.write_str("0"),
            Format::BinarySi if !small && self.nanos % NANO == 0 => {
                let (number, times) = without_factors(self.nanos / NANO, 1024, BINARY.len() - 1);
                write!(f, "{number}{}", if times == 0 { "" } else { BINARY[times] })
            }
            Format::BinarySi | Format::DecimalSi => {
                let (number, times) = without_factors(self.nanos, 1000, DECIMAL.len() - 1);
                write!(f, "{number}{}", DECIMAL[times])
            }
            Format::DecimalExponent => {
                let (number, times) = without_factors(self.nanos, 1000, usize::MAX);
                match times {
                    3 => write!(f, "{number}"),
                    _ => write!(f, "{number}e{}", 3 * i128::try_from(times).unwrap_or(0) - 9),
                }
            }
        }
    }
}

/// A number without the factors it has, and how many they were.
fn without_factors(mut number: i128, factor: i128, most: usize) -> (i128, usize) {
    let mut times = 0;
    while number % factor == 0 && times < most {
        number /= factor;
        times += 1;
    }
    (number, times)
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nanos == other.nanos
    }
}

impl Eq for Quantity {}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nanos.cmp(&other.nanos)
    }
}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Add for Quantity {
    type Output = Self;

    /// The sum, written like the first that is not zero.
    fn add(self, other: Self) -> Self {
        let format = if self.is_zero() { other.format } else { self.format };
        Self { nanos: self.nanos.saturating_add(other.nanos), format }
    }
}

impl Sub for Quantity {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        self + -other
    }
}

impl Neg for Quantity {
    type Output = Self;

    fn neg(self) -> Self {
        Self { nanos: self.nanos.saturating_neg(), format: self.format }
    }
}

impl AddAssign for Quantity {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl SubAssign for Quantity {
    fn sub_assign(&mut self, other: Self) {
        *self = *self - other;
    }
}

impl Sum for Quantity {
    fn sum<I: Iterator<Item = Self>>(quantities: I) -> Self {
        quantities.fold(Self::default(), Add::add)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Quantity {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    fn check(text: &str, canonical: &str) {
        assert_eq!(parse(text).to_string(), canonical, "{text}");
        assert_eq!(parse(canonical).to_string(), canonical, "{canonical} again");
        if canonical != "0" {
            assert_eq!(parse(&format!("-{text}")).to_string(), format!("-{canonical}"), "-{text}");
        }
        assert_eq!(parse(&format!("+{text}")), parse(text));
    }

    #[test]
    fn quantities_have_one_spelling() {
        for text in [
            "0", "5n", "4u", "3m", "9", "8k", "50k", "7M", "1E", "12E", "8Ki", "10Ti", "3Ei", "1e3", "1e12",
            "1e-3",
        ] {
            check(text, text);
        }
        for (text, canonical) in [
            ("0Ki", "0"),
            ("000", "0"),
            (".", "0"),
            ("0e99999", "0"),
            ("1.", "1"),
            (".001", "1m"),
            ("0.5", "500m"),
            ("1.G", "1G"),
            ("0.0005k", "500m"),
            ("100.035k", "100035"),
            ("6.987654321G", "6987654321"),
            ("1000", "1k"),
            ("1024", "1024"),
            ("1024Ki", "1Mi"),
            ("1Ki", "1Ki"),
            ("1025Ki", "1025Ki"),
            ("1000Ki", "1000Ki"),
            ("1E-3", "1e-3"),
            ("1.3E+6", "1300e3"),
            ("1e14", "100e12"),
            ("0.5e0", "500e-3"),
            ("1.2e3", "1200"),
            ("1500m", "1500m"),
            ("2000m", "2"),
            ("0.1Ki", "102400m"),
            ("1.5Gi", "1536Mi"),
        ] {
            check(text, canonical);
        }
    }

    #[test]
    fn what_is_too_small_is_rounded_up_and_what_is_too_great_is_cut() {
        for (text, canonical) in [
            ("3.001n", "4n"),
            ("1.1E-9", "2e-9"),
            ("0.0000000001", "1n"),
            ("0.00000012345", "124n"),
            ("1e-100000", "1e-9"),
            ("0.000000000001Ki", "2n"),
            ("0.05Gi", "53687091200m"),
            ("0.025Ti", "27487790694400m"),
            ("9Ei", "9223372036854775807"),
            ("9223372036854775807Ki", "9223372036854775807"),
        ] {
            check(text, canonical);
        }
    }

    #[test]
    fn other_text_is_refused() {
        let refused = |text: &str, error| assert_eq!(text.parse::<Quantity>(), Err(error), "{text}");
        for text in ["", "1.1.M", "1+1.0M", "0.1am", "aoeu", " 1", "1 ", "1\u{e9}"] {
            refused(text, QuantityError::Format);
        }
        for text in ["0.1mi", ".5i", "1i", "-3.01e-", "1e", "--1", "1e99999999999999999999"] {
            refused(text, QuantityError::Suffix);
        }
        for text in ["1e40", "Pi", "-e-10"] {
            refused(text, QuantityError::Number);
        }
    }

    #[test]
    fn quantities_are_compared_and_added_by_amount() {
        assert_eq!(parse("1Ki"), parse("1024"));
        assert!(parse("1m") < parse("1"));
        assert_eq!((parse("1Ki") + parse("1")).to_string(), "1025");
        assert_eq!((Quantity::default() + parse("1Mi") + parse("1Mi")).to_string(), "2Mi");
        assert_eq!((parse("1") - parse("1500m")).to_string(), "-500m");
        assert_eq!([parse("100m"), parse("900m")].into_iter().sum::<Quantity>().to_string(), "1");
        assert_eq!((parse("1.1").value(), parse("-1.1").value(), parse("1u").milli_value()), (2, -2, 1));
        assert_eq!((parse("100E").value(), Quantity::from_milli(250).to_string()), (i64::MAX, "250m".into()));
    }
}
