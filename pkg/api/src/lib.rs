//! The schema engine: kinds, object bytes, codecs, patches, selectors and Status; no I/O.

pub mod schema;
