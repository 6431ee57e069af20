//! Giving memory back to the kernel. Called by `cmd/edgek` after bursts.

/// A multiple of the page size of every kernel we run on.
const PAGES: usize = 64 << 10;

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

/// Takes a constant's pages out of memory; the next access reads them from the program's file again.
///
/// A constant that was read once from end to end (the 23 MB of bundled programs) stays resident otherwise. Kernels
/// before 5.4 do not know how; nothing happens there.
#[expect(unsafe_code, reason = "madvise takes a pointer")]
pub fn evict(constant: &'static [u8]) {
    let skipped = constant.as_ptr().align_offset(PAGES);
    let Some(pages) = constant.get(skipped..).map(|rest| &rest[..rest.len() - rest.len() % PAGES]) else {
        return;
    };
    // SAFETY: the range is whole pages of a live slice, and MADV_PAGEOUT changes no byte that anyone reads later.
    unsafe {
        libc::madvise(pages.as_ptr().cast_mut().cast(), pages.len(), libc::MADV_PAGEOUT);
    }
}

/// Other C libraries return memory by themselves.
#[cfg(not(target_env = "gnu"))]
pub fn trim() {}
