//! Strings of C, and error numbers.

use std::ffi::{CString, c_char};
use std::io;

/// A C string of text that validation has found free of NULs; a NUL would cut it, never panic.
pub(super) fn c_string(text: &str) -> CString {
    CString::new(text).unwrap_or_else(|error| {
        let at = error.nul_position();
        CString::new(text.get(..at).unwrap_or_default()).unwrap_or_default()
    })
}

pub(super) fn errno_of(error: &io::Error) -> i32 {
    error.raw_os_error().unwrap_or(libc::EIO)
}

pub(super) fn pointers<'a>(strings: impl Iterator<Item = &'a CString>) -> Vec<*const c_char> {
    strings.map(|s| s.as_ptr()).chain(std::iter::once(std::ptr::null())).collect()
}
