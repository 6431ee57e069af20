//! `Query`: the query parameters of a request, decoded one by one as they are asked for.

use std::borrow::Cow;

/// The query of one request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Query<'a>(&'a str);

/// What a `+` stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Plus {
    /// A space, in queries.
    Space,
    /// Itself, in paths.
    Literal,
}

impl<'a> Query<'a> {
    /// The query after the question mark.
    pub(crate) fn new(query: &'a str) -> Self {
        Self(query)
    }

    /// All parameters in the order they were sent, as `url.ParseQuery` reads them: broken ones are skipped.
    pub(crate) fn pairs(self) -> impl Iterator<Item = (Cow<'a, str>, Cow<'a, str>)> {
        self.0.split('&').filter(|pair| !pair.is_empty() && !pair.contains(';')).filter_map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            Some((decode(key, Plus::Space)?, decode(value, Plus::Space)?))
        })
    }

    /// The first value of a parameter.
    pub(crate) fn get(self, name: &str) -> Option<Cow<'a, str>> {
        self.pairs().find(|(key, _)| key == name).map(|(_, value)| value)
    }

    /// All values of a parameter.
    pub(crate) fn all(self, name: &str) -> Vec<String> {
        self.pairs().filter(|(key, _)| key == name).map(|(_, value)| value.into_owned()).collect()
    }

    /// A boolean as upstream's `Convert_Slice_string_To_bool` reads it: absent, `false` and `0` are false, all else true.
    pub(crate) fn is_set(self, name: &str) -> bool {
        self.get(name).is_some_and(|value| !value.eq_ignore_ascii_case("false") && value != "0")
    }
}

/// Undoes percent-encoding; `None` when it is broken or does not give UTF-8.
pub(crate) fn decode(text: &str, plus: Plus) -> Option<Cow<'_, str>> {
    let has_plus = plus == Plus::Space && text.contains('+');
    if !has_plus && !text.contains('%') {
        return Some(Cow::Borrowed(text));
    }
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => hex(bytes.next()?)? << 4 | hex(bytes.next()?)?,
            b'+' if has_plus => b' ',
            other => other,
        });
    }
    String::from_utf8(decoded).ok().map(Cow::Owned)
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_decoded_and_broken_ones_skipped() {
        let query = Query::new("a=1&b=x%3Dy+z&a=2&broken=%zz&c&watch=0");
        assert_eq!(query.get("a").as_deref(), Some("1"));
        assert_eq!(query.all("a"), ["1", "2"]);
        assert_eq!(query.get("b").as_deref(), Some("x=y z"));
        assert_eq!(query.get("broken"), None);
        assert!(query.is_set("c"));
        assert!(!query.is_set("watch"));
        assert!(!query.is_set("absent"));
    }
}
