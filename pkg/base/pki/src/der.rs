//! The few pieces of DER that a certificate is written with; `request` is its only user.

use std::time::SystemTime;

use base64::{Engine as _, engine::general_purpose::STANDARD};

fn tagged(tag: u8, contents: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    let length = contents.len().to_be_bytes();
    let significant = &length[length.iter().take_while(|byte| **byte == 0).count()..];
    match *significant {
        [] => out.push(0),
        [short] if short < 0x80 => out.push(short),
        _ => {
            out.push(0x80 | significant.len() as u8);
            out.extend_from_slice(significant);
        }
    }
    out.extend_from_slice(contents);
    out
}

/// SEQUENCE of these elements.
pub(crate) fn sequence(elements: &[Vec<u8>]) -> Vec<u8> {
    tagged(0x30, &elements.concat())
}

/// OBJECT IDENTIFIER, by its encoded arcs.
pub(crate) fn oid(arcs: &[u8]) -> Vec<u8> {
    tagged(0x06, arcs)
}

/// A positive INTEGER, by its big-endian bytes.
pub(crate) fn integer(bytes: &[u8]) -> Vec<u8> {
    let start = bytes.iter().take_while(|byte| **byte == 0).count().min(bytes.len().saturating_sub(1));
    let mut contents = bytes[start..].to_vec();
    if contents.first().is_some_and(|first| *first >= 0x80) {
        contents.insert(0, 0);
    }
    tagged(0x02, &contents)
}

/// OCTET STRING.
pub(crate) fn octets(bytes: &[u8]) -> Vec<u8> {
    tagged(0x04, bytes)
}

/// BIT STRING, whose last byte has this many unused bits.
pub(crate) fn bit_string(bytes: &[u8], unused: u8) -> Vec<u8> {
    tagged(0x03, &[&[unused], bytes].concat())
}

/// An element with an explicit context tag.
pub(crate) fn context(number: u8, element: &[u8]) -> Vec<u8> {
    tagged(0xa0 | number, element)
}

/// A time as certificates have it: UTCTime until 2049, GeneralizedTime after (RFC 5280).
pub(crate) fn time(time: SystemTime) -> Vec<u8> {
    let time = jiff::Timestamp::try_from(time).unwrap_or(jiff::Timestamp::MAX);
    let full = time.strftime("%Y%m%d%H%M%SZ").to_string();
    match &full[..2] {
        "19" => tagged(0x17, &full.as_bytes()[2..]),
        "20" if &full[2..4] < "50" => tagged(0x17, &full.as_bytes()[2..]),
        _ => tagged(0x18, full.as_bytes()),
    }
}

/// DER as PEM with this label, such as `CERTIFICATE` (RFC 7468).
pub fn pem(label: &str, der: &[u8]) -> String {
    let encoded = STANDARD.encode(der);
    let mut text = format!("-----BEGIN {label}-----\n");
    for line in encoded.as_bytes().chunks(64) {
        text.extend(line.iter().map(|byte| char::from(*byte)));
        text.push('\n');
    }
    text + &format!("-----END {label}-----\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, UNIX_EPOCH};

    #[test]
    fn lengths_numbers_and_times_are_distinguished() {
        assert_eq!(octets(&[7]), [4, 1, 7]);
        assert_eq!(octets(&[7; 200])[..3], [4, 0x81, 200]);
        assert_eq!(octets(&[7; 300])[..4], [4, 0x82, 1, 44]);
        assert_eq!(integer(&[0, 0, 5]), [2, 1, 5]);
        assert_eq!(integer(&[0x80]), [2, 2, 0, 0x80]);
        assert_eq!(integer(&[0]), [2, 1, 0]);
        let at = |seconds| time(UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(at(0), [&[0x17, 13][..], b"700101000000Z"].concat());
        assert_eq!(at(2_524_607_999), [&[0x17, 13][..], b"491231235959Z"].concat());
        assert_eq!(at(2_524_608_000), [&[0x18, 15][..], b"20500101000000Z"].concat());
    }
}
