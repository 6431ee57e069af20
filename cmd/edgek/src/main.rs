//! The edgek binary.
fn main() {}
