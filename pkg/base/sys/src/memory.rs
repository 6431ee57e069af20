//! Giving memory back to the kernel. Called by `cmd/edgek` after bursts.

/// Returns the free pages of every malloc arena to the kernel.
///
/// glibc keeps what a burst allocated (58 MB of 59 MB in the measurement behind design decision D14); this call
/// took 19 ms there, so it belongs on an idle moment, not on a request path.
#[cfg(target_env = "gnu")]
#[expect(unsafe_code, reason = "malloc_trim has no safe wrapper")]
pub fn trim() {
    // SAFETY: malloc_trim takes no pointers, is thread-safe (MT-Safe in glibc's manual) and only releases pages
    // that hold no live allocation.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Other C libraries return memory by themselves.
#[cfg(not(target_env = "gnu"))]
pub fn trim() {}
