//! A cursor over encoded JSON that steps over what nobody asked for. `object` reads metadata with it. It accepts any
//! well-formed JSON and never recurses.

use std::borrow::Cow;

use memchr::memchr2;

/// A position in encoded JSON. Every step gives `None` when the text is not what was expected.
#[derive(Clone, Copy)]
pub(crate) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

/// Where inside an object or list a cursor stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    First,
    Later,
}

/// Steps through the members of an object or the items of a list.
pub(crate) struct Members {
    close: u8,
    place: Place,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// The offset of the next byte.
    pub(crate) fn offset(&self) -> usize {
        self.at
    }

    /// The next byte that is not white space, not taken.
    pub(crate) fn peek(&mut self) -> Option<u8> {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.bytes.get(self.at) {
            self.at += 1;
        }
        self.bytes.get(self.at).copied()
    }

    /// Takes the next byte, which must be `byte`.
    pub(crate) fn take(&mut self, byte: u8) -> Option<()> {
        (self.peek()? == byte).then(|| self.at += 1)
    }

    /// Enters an object.
    pub(crate) fn object(&mut self) -> Option<Members> {
        self.take(b'{')?;
        Some(Members { close: b'}', place: Place::First })
    }

    /// Enters a list.
    pub(crate) fn list(&mut self) -> Option<Members> {
        self.take(b'[')?;
        Some(Members { close: b']', place: Place::First })
    }

    /// Takes a string, unescaped.
    pub(crate) fn string(&mut self) -> Option<Cow<'a, str>> {
        let start = {
            self.peek()?;
            self.at
        };
        let escapes = self.skip_string()?;
        let raw = &self.bytes[start..self.at];
        if escapes {
            return serde_json::from_slice(raw).ok().map(Cow::Owned);
        }
        std::str::from_utf8(&raw[1..raw.len() - 1]).ok().map(Cow::Borrowed)
    }

    /// Takes a string, number or literal as text; null, lists and objects are taken as empty text.
    pub(crate) fn scalar(&mut self) -> Option<Cow<'a, str>> {
        match self.peek()? {
            b'"' => self.string(),
            b'{' | b'[' | b'n' => self.skip().map(|()| Cow::Borrowed("")),
            _ => {
                let start = self.at;
                self.skip()?;
                std::str::from_utf8(&self.bytes[start..self.at]).ok().map(Cow::Borrowed)
            }
        }
    }

    /// Takes a value of any kind.
    pub(crate) fn skip(&mut self) -> Option<()> {
        let mut depth = 0usize;
        loop {
            match self.peek()? {
                b'"' => drop(self.skip_string()?),
                b'{' | b'[' => {
                    self.at += 1;
                    depth += 1;
                    continue;
                }
                b'}' | b']' if depth > 0 => {
                    self.at += 1;
                    depth -= 1;
                }
                b',' | b':' if depth > 0 => {
                    self.at += 1;
                    continue;
                }
                b'}' | b']' | b',' | b':' => return None,
                _ => self.skip_literal(),
            }
            if depth == 0 {
                return Some(());
            }
        }
    }

    /// Takes a string and says whether it has escapes.
    fn skip_string(&mut self) -> Option<bool> {
        self.take(b'"')?;
        let mut escapes = false;
        loop {
            let found = memchr2(b'"', b'\\', self.bytes.get(self.at..)?)?;
            self.at += found + 1;
            if self.bytes[self.at - 1] == b'"' {
                return Some(escapes);
            }
            escapes = true;
            self.at += 1;
        }
    }

    fn skip_literal(&mut self) {
        let rest = &self.bytes[self.at..];
        let end = rest
            .iter()
            .position(|b| matches!(b, b',' | b':' | b'}' | b']' | b'"' | b' ' | b'\n' | b'\t' | b'\r'));
        self.at += end.unwrap_or(rest.len()).max(1);
    }
}

impl Members {
    /// The key of the next member, whose value comes next in `cursor`; `Some(None)` at the end.
    pub(crate) fn next_key<'a>(&mut self, cursor: &mut Cursor<'a>) -> Option<Option<Cow<'a, str>>> {
        if !self.more(cursor)? {
            return Some(None);
        }
        let key = cursor.string()?;
        cursor.take(b':')?;
        Some(Some(key))
    }

    /// Whether another item comes next in `cursor`.
    pub(crate) fn more(&mut self, cursor: &mut Cursor<'_>) -> Option<bool> {
        if cursor.peek()? == self.close {
            cursor.take(self.close)?;
            return Some(false);
        }
        if self.place == Place::Later {
            cursor.take(b',')?;
        }
        self.place = Place::Later;
        Some(true)
    }
}
