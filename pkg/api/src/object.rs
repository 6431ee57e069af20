//! Objects as bytes: the small parsed view of an encoded object that caches, selectors and the garbage collector use
//! ([`Meta`]), the resource version that is put into bytes on their way out, and accessors on decoded objects. Canonical
//! JSON has sorted keys and no white space; stored bytes carry no `resourceVersion`.

mod access;
mod meta;
#[cfg(test)]
mod tests;

use bytes::{BufMut, Bytes, BytesMut};

pub use access::{get, items, metadata_mut, name, namespace, number, set, text};
pub use meta::{Labels, Meta, MetaError, OwnerReference, Uid};

use crate::scan::Cursor;

/// Puts `metadata.resourceVersion` into an encoded object, in place of any it has, with one copy. Bytes that are not a
/// JSON object with metadata come back as they are.
pub fn stamp_revision(bytes: &Bytes, revision: u64) -> Bytes {
    let Some(gap) = revision_gap(bytes) else { return bytes.clone() };
    let mut digits = itoa::Buffer::new();
    let digits = digits.format(revision);
    let mut stamped = BytesMut::with_capacity(bytes.len() + digits.len() + 24);
    stamped.put_slice(&bytes[..gap.start]);
    stamped.put_slice(gap.before.as_bytes());
    stamped.put_slice(b"\"resourceVersion\":\"");
    stamped.put_slice(digits.as_bytes());
    stamped.put_u8(b'"');
    stamped.put_slice(gap.after.as_bytes());
    stamped.put_slice(&bytes[gap.end..]);
    stamped.freeze()
}

/// The bytes that the resource version replaces, and the commas it needs.
struct Gap {
    start: usize,
    end: usize,
    before: &'static str,
    after: &'static str,
}

fn revision_gap(bytes: &[u8]) -> Option<Gap> {
    let mut cursor = Cursor::new(bytes);
    let mut members = cursor.object()?;
    while let Some(key) = members.next_key(&mut cursor)? {
        if key == "metadata" {
            return gap_in_metadata(&mut cursor);
        }
        cursor.skip()?;
    }
    None
}

fn gap_in_metadata(cursor: &mut Cursor<'_>) -> Option<Gap> {
    let mut members = cursor.object()?;
    let mut end_of_last = cursor.offset();
    let mut empty = true;
    loop {
        let before_key = *cursor;
        let Some(key) = members.next_key(cursor)? else { break };
        if *key > *"resourceVersion" {
            // Sorted: the resource version belongs before this key.
            return Some(match empty {
                true => Gap { start: before_key.offset(), end: before_key.offset(), before: "", after: "," },
                false => Gap { start: end_of_last, end: end_of_last, before: ",", after: "" },
            });
        }
        cursor.skip()?;
        if key == "resourceVersion" {
            let start = if empty { before_key.offset() } else { end_of_last };
            return Some(Gap {
                start,
                end: cursor.offset(),
                before: if empty { "" } else { "," },
                after: "",
            });
        }
        end_of_last = cursor.offset();
        empty = false;
    }
    Some(Gap { start: end_of_last, end: end_of_last, before: if empty { "" } else { "," }, after: "" })
}
