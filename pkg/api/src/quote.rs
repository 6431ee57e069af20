//! Text as Go's `%q` and `strconv.Quote` print it: error messages of the API quote names and values so.

use std::fmt::Write;

/// The text in double quotes, with Go's escapes.
pub fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\x07' => quoted.push_str("\\a"),
            '\x08' => quoted.push_str("\\b"),
            '\x0b' => quoted.push_str("\\v"),
            '\x0c' => quoted.push_str("\\f"),
            c if is_printable(c) => quoted.push(c),
            c => escape(c, &mut quoted),
        }
    }
    quoted.push('"');
    quoted
}

/// Each text quoted, joined by commas: the supported values in an error.
pub fn quote_all<T: AsRef<str>>(texts: &[T]) -> String {
    texts.iter().map(|text| quote(text.as_ref())).collect::<Vec<_>>().join(", ")
}

/// Controls, invisible spaces and formatting characters are escaped.
fn is_printable(c: char) -> bool {
    !c.is_control()
        && (c == ' ' || !c.is_whitespace())
        && !matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{e000}'..='\u{f8ff}')
}

fn escape(c: char, quoted: &mut String) {
    let code = u32::from(c);
    let written = match code {
        0..0x80 => write!(quoted, "\\x{code:02x}"),
        0x80..0x1_0000 => write!(quoted, "\\u{code:04x}"),
        _ => write!(quoted, "\\U{code:08x}"),
    };
    written.expect("writing to a string does not fail");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_quoted_as_go_quotes_it() {
        assert_eq!(
            quote("a \"b\"\\\n\u{1}é\u{a0}\u{200b}\u{7f}"),
            "\"a \\\"b\\\"\\\\\\n\\x01é\\u00a0\\u200b\\x7f\""
        );
        assert_eq!(quote_all(&["a", "b"]), "\"a\", \"b\"");
    }
}
