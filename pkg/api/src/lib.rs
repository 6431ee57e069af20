//! The schema engine: kinds, object bytes, codecs, patches, selectors and Status; no I/O.
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "tests"))]

pub mod convert;
pub mod discovery;
pub mod field;
pub mod json;
pub mod name;
pub mod object;
pub mod openapi;
pub mod patch;
pub mod protobuf;
pub mod quantity;
pub mod quote;
pub mod resource;
mod scan;
pub mod schema;
pub mod selector;
pub mod status;
pub mod table;
pub mod time;
pub mod yaml;
