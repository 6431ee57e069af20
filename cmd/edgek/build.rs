//! Hands the bundle that `cargo xtask embed` has packed to the build. Without one the binary still builds, for checks
//! and unit tests, and says at run time what is missing.

use std::path::Path;
use std::{env, fs};

#[expect(clippy::disallowed_methods, reason = "cargo speaks to build scripts through the environment")]
fn main() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../build/bundle");
    let out = env::var("OUT_DIR").expect("cargo sets OUT_DIR");
    for name in ["bundle.tar.zst", "bundle.hash"] {
        let source = root.join(name);
        println!("cargo:rerun-if-changed={}", source.display());
        let bytes = fs::read(&source).unwrap_or_default();
        fs::write(Path::new(&out).join(name), bytes).expect("OUT_DIR can be written");
    }
}
