//! A system call of the child, with its errno.

use crate::engine::failpoints::{self, Call};

/// Makes a system call, unless a test injects a failure.
///
/// # Errors
/// Its errno.
pub(super) fn attempt(call: Call, run: impl FnOnce() -> libc::c_long) -> Result<libc::c_long, i32> {
    if let Some(errno) = failpoints::injected(call) {
        return Err(errno);
    }
    match run() {
        ret if ret < 0 => Err(errno()),
        ret => Ok(ret),
    }
}

/// The errno of the last failed call of the C library.
pub(in crate::engine) fn errno() -> i32 {
    // SAFETY: the location belongs to the thread that cloned this process, which waits, or to the
    // owner thread of the clone helper that did, which waits too.
    unsafe { *libc::__errno_location() }
}
