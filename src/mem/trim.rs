//! Returning the memory of past work when the program becomes idle.

use std::time::Duration;

use crate::mem::text_pages;

/// Idle time before memory is returned.
pub(crate) const IDLE: Duration = Duration::from_millis(500);

/// Drops pages of code, and returns the free memory of `malloc`.
pub(crate) fn trim_memory() {
    // SAFETY: it takes no pointer, and may be called at any time.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0);
    }
    text_pages::drop_text_pages();
}
