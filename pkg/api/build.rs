//! Compresses the schema's descriptions for the binary; `openapi` inflates them when a document is asked for.

use std::io::Write as _;
use std::path::Path;

#[expect(clippy::disallowed_methods, reason = "cargo tells a build script by the environment where to write")]
fn main() -> std::io::Result<()> {
    let source = "schema/descriptions.txt";
    println!("cargo::rerun-if-changed={source}");
    let out = std::env::var_os("OUT_DIR").ok_or_else(|| std::io::Error::other("cargo sets OUT_DIR"))?;
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(&std::fs::read(source)?)?;
    std::fs::write(Path::new(&out).join("descriptions.zz"), encoder.finish()?)
}
