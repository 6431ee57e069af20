//! The few system calls without a safe wrapper; the only crate with unsafe code.
