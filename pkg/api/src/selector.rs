//! Selectors: which objects of a list or watch a client asks for, by labels and by fields.

pub mod field;
pub mod label;
