//! Files of the child's own in `/proc`.

use std::ffi::CStr;

use super::attempt::{attempt, errno};
use crate::engine::failpoints::Call;

/// Writes a text to a file of the child's own in `/proc`.
///
/// # Errors
/// The errno.
pub(super) fn write_own(file: &CStr, text: &str, open: Call, write: Call) -> Result<(), i32> {
    let fd = attempt(open, || open_own(file).into())? as libc::c_int;
    // SAFETY: the kernel reads as many bytes as the text has.
    let written = attempt(write, || unsafe {
        libc::write(fd, text.as_ptr().cast(), text.len()) as libc::c_long
    });
    // SAFETY: the child's own descriptor, from the call above.
    unsafe { libc::close(fd) };
    written.map(drop)
}

/// Attempts to open a file while a sibling's set-up can make opening fail.
const TRIES: u32 = 100;

/// Opens a file of the child's own. The child still shares the memory of the keeper, which others
/// may not inspect, so the kernel makes root the owner of the file. The keeper permits inspection
/// for the moment of this call.
fn open_own(file: &CStr) -> libc::c_int {
    let flags = libc::O_WRONLY | libc::O_CLOEXEC;
    // SAFETY: the path is a C string.
    let open = || unsafe { libc::open(file.as_ptr(), flags) };
    let mut fd = open();
    let mut tries = 0;
    while fd < 0 && errno() == libc::EACCES && tries < TRIES {
        // SAFETY: the call takes no pointer.
        unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 1) };
        fd = open();
        let failed = errno();
        // SAFETY: prctl takes no pointer, and the C library's errno belongs to this thread.
        unsafe {
            libc::prctl(libc::PR_SET_DUMPABLE, 0);
            *libc::__errno_location() = failed;
        }
        tries += 1;
    }
    fd
}
