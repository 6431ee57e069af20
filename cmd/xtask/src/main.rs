//! Developer commands; run with `cargo xtask`.
fn main() {}
